import { describe, it } from "vitest";
import { swiglu } from "../../src/ops/swiglu.ts";
import { checkOp, randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("swiglu on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, F] of [
    [1, 1],
    [3, 7],
    [33, 65],
  ] as const)
    it(`matches float64, forward and backward, for N ${N}, F ${F}`, async () => {
      await checkOp(cpu(), { inputs: { gate: { shape: [N, F] }, up: { shape: [N, F] } }, run: ({ gate, up }) => swiglu(gate, up) });
    });
  it("stays finite for large gates of either sign", async () => {
    const gate = randomValues(60, 5).map((x) => x * 100);
    await checkOp(cpu(), {
      inputs: { gate: { shape: [3, 20], values: gate }, up: { shape: [3, 20] } },
      run: ({ gate: g, up }) => swiglu(g, up),
    });
  });
});
