import { describe, expect, it } from "vitest";
import { rmsNorm } from "../../src/ops/rms-norm.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("rmsNorm on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, C, groups] of [
    [1, 1, 1],
    [7, 96, 1],
    [3, 65, 1],
    [130, 5, 1],
    [5, 24, 3],
    [9, 64, 4],
  ] as const) {
    it(`matches float64, forward and backward, for N ${N}, C ${C}, ${groups} groups`, async () => {
      await checkOp(cpu(), {
        inputs: { x: { shape: [N, C] }, weight: { shape: [C / groups] } },
        run: ({ x, weight }) => rmsNorm(x, weight, 1e-5, groups),
      });
    });
  }
  it("gives no gradient to a frozen weight, and the same one to x", async () => {
    await checkOp(cpu(), {
      inputs: { x: { shape: [4, 10] }, weight: { shape: [10], grad: false } },
      run: ({ x, weight }) => rmsNorm(x, weight, 1e-6),
    });
    await checkOp(cpu(), {
      inputs: { x: { shape: [4, 10] }, weight: { shape: [10], dtype: "bf16" } },
      run: ({ x, weight }) => rmsNorm(x, weight, 1e-6),
    });
  });
  it("rejects a weight of the wrong length", () => {
    const x = fromHost(cpu(), new Float32Array(12), [2, 6]);
    const weight = fromHost(cpu(), new Float32Array(5), [5], { label: "norm" });
    expect(() => rmsNorm(x, weight, 1e-5)).toThrow(/rms_norm: weight \("norm"\) has the wrong shape; expected \[6\], got \[5\]/);
    expect(() => rmsNorm(x, weight, 1e-5, 4)).toThrow(/groups must divide columns = 6/);
    x.dispose();
    weight.dispose();
  });
});
