/** Root-mean-square normalisation. Source: Zhang & Sennrich 2019, arXiv:1910.07467. */
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDivisor, expectMatrix, expectShape } from "./check.ts";

/**
 * y[n, g, :] = x[n, g, :] / sqrt(mean(x[n, g, :]^2) + eps) * weight. x [N, C] f32 in `groups` equal groups (1, or one per head),
 * weight [C / groups] (f32, f16 or bf16) -> [N, C] f32. Differentiable in x and weight.
 * @throws ShapeError
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number, groups = 1): Tensor {
  expectMatrix("rms_norm", "x", x, "f32");
  expectDivisor("rms_norm", "groups", groups, "columns", x.cols);
  expectShape("rms_norm", "weight", weight, [x.cols / groups], "float");
  const y = empty(x.device, x.shape, { label: "rms_norm" });
  const rstd = empty(x.device, [x.rows, groups], { label: "rms_norm rstd" });
  runKernel("rms_norm", { groups, eps }, [x, weight], [y, rstd]);
  record({
    op: "rms_norm",
    inputs: [x, weight],
    outputs: [y],
    holds: [x, weight],
    saved: [rstd],
    backward(gradients, [dy]) {
      const dx = gradients.make(x);
      const dweight = gradients.needs(weight) ? gradients.accumulator(weight) : null;
      runKernel("rms_norm_backward", { groups }, [x, weight, rstd, dy!], [dx, dweight]);
      gradients.give(x, dx);
    },
  });
  return y;
}
