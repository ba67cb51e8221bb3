import { describe, expect, it } from "vitest";
import { clipGradNorm } from "../../src/ops/clip-grad-norm.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("clipGradNorm on $name", ({ options }) => {
  const cpu = useDevice(options);
  it("gives the norm over all tensors and the factor that brings it to the maximum", async () => {
    const [a, b] = [randomValues(63 * 17, 1), randomValues(5, 2)];
    const tensors = [fromHost(cpu(), a, [63, 17]), fromHost(cpu(), b, [5])];
    const norm = Math.sqrt([...a, ...b].reduce((sum, x) => sum + x * x, 0));
    for (const [max, factor] of [
      [1, 1 / norm],
      [1000, 1],
      [0, 1],
    ] as const) {
      const result = clipGradNorm(tensors, max);
      const [got, scale] = await result.readFloats();
      expect(got! / norm).toBeCloseTo(1, 6);
      expect(scale! / factor).toBeCloseTo(1, 5);
      result.dispose();
    }
    for (const tensor of tensors) tensor.dispose();
  });

  it.each([NaN, Infinity, -Infinity])("gives NaN twice where the norm is not finite: %d", async (bad) => {
    const tensor = fromHost(cpu(), [1, bad, 2], [3]);
    const result = clipGradNorm([tensor], 1);
    expect([...(await result.readFloats())]).toEqual([NaN, NaN]);
    tensor.dispose();
    result.dispose();
  });

  it("rejects an empty list", () => {
    expect(() => clipGradNorm([], 1)).toThrow(/no gradients/);
  });
});
