import { describe, expect, it } from "vitest";
import { add } from "../../src/ops/add.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("add on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, C] of [
    [1, 1],
    [5, 13],
    [66, 65],
  ] as const)
    it(`matches float64, forward and backward, for N ${N}, C ${C}`, async () => {
      await checkOp(cpu(), { inputs: { a: { shape: [N, C] }, b: { shape: [N, C] } }, run: ({ a, b }) => add(a, b) });
    });
  it("doubles the gradient of a tensor added to itself, and keeps shared gradients apart", async () => {
    await checkOp(cpu(), { inputs: { a: { shape: [3, 4] }, b: { shape: [3, 4] } }, run: ({ a, b }) => add(add(a, a), add(add(a, b), b)) });
  });
  it("rejects shapes that differ", () => {
    const a = fromHost(cpu(), new Float32Array(6), [2, 3]);
    const b = fromHost(cpu(), new Float32Array(6), [3, 2]);
    expect(() => add(a, b)).toThrow(/add: b .*expected \[2, 3\], got \[3, 2\]/);
    a.dispose();
    b.dispose();
  });
});
