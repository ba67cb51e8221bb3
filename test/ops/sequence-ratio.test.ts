import { describe, expect, it } from "vitest";
import { policyLoss } from "../../src/ops/policy-loss.ts";
import { sequenceOldLogProb } from "../../src/ops/sequence-ratio.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, full, type Tensor } from "../../src/tensor/tensor.ts";
import { checkOp, randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("sequenceOldLogProb on $name", ({ options }) => {
  const device = useDevice(options);
  const vector = (values: readonly number[]): Tensor => fromHost(device(), values, [values.length]);
  const offsetsOf = (...values: number[]): Tensor => fromHost(device(), Uint32Array.from(values), [values.length]);

  it("gives policyLoss the ratio of the sequence at each token, and a gradient through each token's own log-probability", async () => {
    const now = [-1, -2, -0.5, -3, -1];
    const differences = [0.1, -0.05, 0.2, 0.4, 0.6]; // of two sequences: ratios 1.08690405 and e^.5
    const logProb = vector(now);
    logProb.requiresGrad = true;
    const sampled = vector(now.map((value, n) => value - differences[n]!));
    const advantage = vector([2, 2, 2, -1, -1]);
    const others = { entropy: full(device(), [5], 0), advantage, weight: full(device(), [5], 1) };
    const { tape, value } = withTape(() => {
      const oldLogProb = sequenceOldLogProb(logProb, sampled, offsetsOf(0, 3, 5));
      return policyLoss({ logProb, oldLogProb, ...others }, { clipLow: 0.2, clipHigh: 0.2, scale: 1 });
    });
    expect(tape.nodes.map(({ op }) => op)).toEqual(["policy_loss"]);
    backward(tape, value);
    const [first, second] = [1.08690405, Math.exp(0.5)];
    expect((await value.readFloats())[0]).toBeCloseTo(-3 * 2 * first + 2 * second, 5);
    const gradient = await logProb.grad!.readFloats();
    [-2 * first, -2 * first, -2 * first, second, second].forEach((want, n) => {
      expect(gradient[n]).toBeCloseTo(want, 5);
    });
    for (const tensor of [logProb, sampled, ...Object.values(others), value]) tensor.dispose();
  });

  it("holds all tokens of a sequence at a bound, or none", async () => {
    // token by token the first would be held in either sequence; by sequence only the second's are
    const [logProb, sampled] = [vector([-1, -1, -1, -1]), vector([-1.5, -0.75, -1.5, -1.25])];
    const rest = { entropy: full(device(), [4], 0), advantage: full(device(), [4], 1), weight: full(device(), [4], 1) };
    logProb.requiresGrad = true;
    const { tape, value } = withTape(() =>
      policyLoss(
        { logProb, oldLogProb: sequenceOldLogProb(logProb, sampled, offsetsOf(0, 2, 4)), ...rest },
        { clipLow: 0.2, clipHigh: 0.2, scale: 1 },
      ),
    );
    backward(tape, value);
    expect([...(await logProb.grad!.readFloats())].map((slope) => slope !== 0)).toEqual([true, true, false, false]);
    for (const tensor of [logProb, sampled, ...Object.values(rest), value]) tensor.dispose();
  });

  it("is not followed by the tape", () => {
    const logProb = vector([-1, -2]);
    logProb.requiresGrad = true;
    const { tape, value } = withTape(() => sequenceOldLogProb(logProb, vector([-1, -1]), offsetsOf(0, 2)));
    expect(tape.nodes).toHaveLength(0);
    expect(value.requiresGrad).toBe(false);
    for (const tensor of [logProb, value]) tensor.dispose();
    tape.dispose();
  });

  it("refuses vectors of other lengths and offsets that are none, saying which", () => {
    const [three, two] = [vector([1, 2, 3]), vector([1, 2])];
    expect(() => sequenceOldLogProb(three, two, offsetsOf(0, 3))).toThrow(
      /sequence_ratio: oldLogProb .* wrong shape; expected \[3\], got \[2\]/,
    );
    expect(() => sequenceOldLogProb(two, two, two)).toThrow(/sequence_ratio: offsets .* wrong type; expected u32, got f32/);
    expect(() => sequenceOldLogProb(two, two, offsetsOf(0))).toThrow(
      /offsets name no sequence; expected \[B \+ 1\], B at least 1, got \[1\]/,
    );
    for (const tensor of [three, two]) tensor.dispose();
  });

  for (const lengths of [[1], [5, 0, 3], [70, 1, 65], [1030]])
    it(`matches float64 for sequences of ${lengths.join(", ")} tokens`, async () => {
      const offsets = [0];
      for (const length of lengths) offsets.push(offsets.at(-1)! + length);
      const N = offsets.at(-1)!;
      await checkOp(device(), {
        inputs: {
          logProb: { shape: [N], values: randomValues(N, 1).map((x) => x - 1) },
          oldLogProb: { shape: [N], values: randomValues(N, 2).map((x) => x - 1) },
          offsets: { shape: [offsets.length], dtype: "u32", values: offsets },
        },
        run: (t) => sequenceOldLogProb(t.logProb, t.oldLogProb, t.offsets),
        tolerance: 1e-6,
      });
    });
});
