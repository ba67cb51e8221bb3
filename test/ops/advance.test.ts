import { describe, expect, it } from "vitest";
import { advance } from "../../src/ops/advance.ts";
import { fromHost, full, type Tensor } from "../../src/tensor/tensor.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

const NONE = 0xffffffff;

describe.each(deviceVariants)("advance on $name", ({ options }) => {
  const cpu = useDevice(options);

  it("steps automata and budgets, ends rows that accept or run out, and leaves inactive rows alone", async () => {
    const device = cpu();
    const u32 = (...values: number[]) => fromHost(device, Uint32Array.from(values), [values.length]);
    // Two states; id 2 leads to the accepting one from anywhere, all else back to 0.
    const transitions = fromHost(device, Uint32Array.of(0, 0, 1, 0, 0, 1), [2, 3]);
    const accepts = u32(0, 9);
    const state = {
      last: u32(0, 0, 0, 7),
      positions: u32(10, 20, 30, NONE),
      states: u32(0, 0, 0, 1),
      remaining: u32(5, 1, 1, 4),
      status: u32(0, 0, 0, 3),
    };
    const record = { ids: full(device, [2, 4], 0, { dtype: "u32" }), logProbs: full(device, [2, 4], 0) };
    const step = (index: number, ids: number[], logProbs: number[]): void => {
      const sampled = { ids: u32(...ids), logProb: fromHost(device, logProbs, [4]) };
      advance(sampled, transitions, accepts, state, record, index);
      sampled.ids.dispose();
      sampled.logProb.dispose();
    };
    step(0, [1, 1, 2, 0], [-1, -2, -3, -4]);
    const read = async (tensor: Tensor): Promise<number[]> => [...(await tensor.read())];
    expect(await read(state.last)).toEqual([1, 1, 2, 7]);
    expect(await read(state.positions)).toEqual([11, NONE, NONE, NONE]);
    expect(await read(state.remaining)).toEqual([4, 0, 0, 4]);
    // Accepting wins over an empty budget.
    expect(await read(state.status)).toEqual([0, 1, 9, 3]);
    step(1, [2, 0, 0, 0], [-0.5, 0, 0, 0]);
    expect(await read(state.status)).toEqual([9, 1, 9, 3]);
    expect(await read(record.ids)).toEqual([1, 1, 2, NONE, 2, NONE, NONE, NONE]);
    const logProbs = await read(record.logProbs);
    expect([logProbs[0], logProbs[1], logProbs[2], logProbs[4]]).toEqual([-1, -2, -3, -0.5]);
    for (const tensor of [transitions, accepts, ...Object.values(state), ...Object.values(record)] as Tensor[]) tensor.dispose();
  });
});
