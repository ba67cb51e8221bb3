import { describe, expect, it } from "vitest";
import { logProb } from "../../src/ops/log-prob.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { checkOp, randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("logProb on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, C, V, temperature] of [
    [1, 1, 1, 1],
    [3, 5, 7, 0.7],
    [66, 20, 65, 1],
    [5, 300, 130, 1.3],
  ] as const) {
    const targets = Array.from({ length: N }, (_, n) => (n * 5 + 2) % V);
    const inputs = {
      hidden: { shape: [N, C] },
      weight: { shape: [V, C] },
      targets: { shape: [N], dtype: "u32" as const, values: targets },
    };
    it(`matches float64 in both results and both gradients for N ${N}, C ${C}, V ${V}, temperature ${temperature}`, async () => {
      await checkOp(cpu(), {
        inputs,
        run: ({ hidden, weight, targets: ids }) => {
          const result = logProb(hidden, weight, ids, temperature);
          return [result.logProb, result.entropy];
        },
        tolerance: 2e-5,
      });
    });
    it(`gives the gradient of the log-probability alone, and of a frozen f16 weight none, for N ${N}, C ${C}, V ${V}`, async () => {
      await checkOp(cpu(), {
        inputs,
        run: ({ hidden, weight, targets: ids }) => logProb(hidden, weight, ids, temperature).logProb,
        tolerance: 2e-5,
      });
      await checkOp(cpu(), {
        inputs: { ...inputs, weight: { shape: [V, C], dtype: "f16" } },
        run: ({ hidden, weight, targets: ids }) => logProb(hidden, weight, ids, temperature).logProb,
        tolerance: 2e-5,
      });
    });
  }

  it("gives entropy .94753697 for logits 2, 1, 0, -1", async () => {
    const device = cpu();
    const { entropy, logProb: value } = withScope(() => {
      const hidden = fromHost(device, [2, 1, 0, -1], [1, 4]);
      const identity = fromHost(device, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], [4, 4]);
      return logProb(hidden, identity, fromHost(device, Uint32Array.of(0), [1]));
    });
    expect((await entropy.readFloats())[0]).toBeCloseTo(0.94753697, 6);
    expect((await value.readFloats())[0]).toBeCloseTo(2 - Math.log(Math.exp(2) + Math.exp(1) + 1 + Math.exp(-1)), 6);
    entropy.dispose();
    value.dispose();
  });

  it("has the bits of matmul: the largest logit's log-probability follows from them", async () => {
    const device = cpu();
    const [N, C, V] = [3, 33, 40];
    const hidden = fromHost(device, randomValues(N * C, 8), [N, C]);
    const weight = fromHost(device, randomValues(V * C, 9), [V, C]);
    const logits = matmul(hidden, weight, { transB: true });
    const z = (await logits.readFloats()).subarray(0, V);
    const lse = Math.log(z.reduce((sum, x) => sum + Math.exp(x), 0));
    const targets = fromHost(device, Uint32Array.of(7, 0, 0), [N]);
    const result = logProb(hidden, weight, targets);
    expect((await result.logProb.readFloats())[0]).toBeCloseTo(z[7]! - lse, 5);
    for (const tensor of [hidden, weight, logits, targets, result.logProb, result.entropy]) tensor.dispose();
  });

  it("rejects a temperature of 0", () => {
    withScope(() => {
      const device = cpu();
      const hidden = fromHost(device, [1, 2], [1, 2]);
      expect(() => logProb(hidden, hidden, fromHost(device, Uint32Array.of(0), [1]), 0)).toThrow(/temperature is not positive/);
    });
  });
});
