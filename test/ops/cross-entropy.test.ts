import { describe, expect, it } from "vitest";
import { crossEntropy, weightedNll } from "../../src/ops/cross-entropy.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("crossEntropy on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, C, V] of [
    [1, 2, 3],
    [7, 5, 11],
    [70, 9, 66],
  ] as const)
    it(`matches float64, forward and backward, for N ${N}, C ${C}, V ${V}, with weights`, async () => {
      const targets = Array.from({ length: N }, (_, n) => (n * 5 + 1) % V);
      const weights = Array.from({ length: N }, (_, n) => [0, 0.5, 1][(n + 1) % 3]!);
      await checkOp(cpu(), {
        inputs: {
          hidden: { shape: [N, C] },
          weight: { shape: [V, C] },
          targets: { shape: [N], dtype: "u32", values: targets },
          weights: { shape: [N], values: weights },
        },
        run: ({ hidden, weight, targets: ids, weights: w }) => crossEntropy(hidden, weight, ids, w, { scale: 0.3 }),
        loss: true,
        tolerance: 2e-5,
      });
    });

  it("ignores a NaN at weight 0, in the loss and in the gradient", async () => {
    const device = cpu();
    const logProbs = fromHost(device, [-1, NaN, -2], [3]);
    const weights = fromHost(device, [1, 0, 0.5], [3]);
    logProbs.requiresGrad = true;
    const { tape, value } = withTape(() => weightedNll(logProbs, weights, { scale: 2 }));
    backward(tape, value);
    expect([...(await value.readFloats())]).toEqual([4, 1.5]);
    expect([...(await logProbs.grad!.readFloats())]).toEqual([-2, 0, -1]);
    for (const tensor of [logProbs, weights, value]) tensor.dispose();
  });
});
