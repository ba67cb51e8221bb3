import { describe, expect, it } from "vitest";
import { linear, matmul } from "../../src/ops/matmul.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { ShapeError } from "../../src/util/errors.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("matmul on $name", ({ options }) => {
  const cpu = useDevice(options);
  const sizes = [
    [1, 1, 1],
    [3, 5, 7],
    [17, 9, 33],
    [6, 70, 300],
  ] as const;
  for (const [M, N, K] of sizes) {
    for (const transA of [false, true]) {
      for (const transB of [false, true]) {
        it(`matches float64, forward and backward, for M ${M}, N ${N}, K ${K}${transA ? ", a transposed" : ""}${transB ? ", b transposed" : ""}`, async () => {
          await checkOp(cpu(), {
            inputs: { a: { shape: transA ? [K, M] : [M, K] }, b: { shape: transB ? [N, K] : [K, N] } },
            run: ({ a, b }) => matmul(a, b, { transA, transB }),
          });
        });
      }
    }
  }

  it("adds a bias to every row, and sums its gradient over rows", async () => {
    await checkOp(cpu(), {
      inputs: { x: { shape: [13, 10] }, weight: { shape: [7, 10] }, bias: { shape: [7] } },
      run: ({ x, weight, bias }) => linear(x, weight, bias),
    });
  });

  it("adds gradients of a tensor that is used twice", async () => {
    await checkOp(cpu(), { inputs: { x: { shape: [5, 5] } }, run: ({ x }) => matmul(matmul(x, x), x, { transB: true }) });
  });

  for (const dtype of ["f16", "bf16"] as const) {
    it(`takes ${dtype} weights, and gives the gradient of the other side`, async () => {
      await checkOp(cpu(), {
        inputs: { x: { shape: [9, 20] }, weight: { shape: [11, 20], dtype }, bias: { shape: [11], dtype } },
        run: ({ x, weight, bias }) => linear(x, weight, bias),
      });
    });
  }

  it("rejects inner dimensions that differ, naming both shapes", () => {
    const a = fromHost(cpu(), new Float32Array(6), [2, 3], { label: "left" });
    const b = fromHost(cpu(), new Float32Array(8), [4, 2], { label: "right" });
    expect(() => matmul(a, b)).toThrow(ShapeError);
    expect(() => matmul(a, b)).toThrow(/"left" and "right" differ; expected \[2, K\] x \[K, 2\], got \[2, 3\] and \[4, 2\]/);
    a.dispose();
    b.dispose();
  });
});
