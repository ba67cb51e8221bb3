/** One AdamW step of one parameter. Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2. */
import { runKernel, type Tensor } from "../tensor/tensor.ts";
import type { Words2 } from "../util/philox.ts";
import { expectDtype, expectShape } from "./check.ts";

export interface AdamWStep {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** 1 for the first step. */
  readonly step: number;
}

/** The dims that all AdamW kernels have. */
export function adamwDims({ lr, beta1, beta2, eps, weightDecay, step }: AdamWStep) {
  return { lr, beta1, beta2, eps, weightDecay, correction1: 1 - beta1 ** step, correction2: 1 - beta2 ** step };
}

function expectShapes(op: string, param: Tensor, gradient: Tensor, m: Tensor, v: Tensor, clip: Tensor): void {
  for (const [name, tensor] of Object.entries({ gradient, m, v })) expectShape(op, name, tensor, param.shape);
  expectDtype(op, "param", param, "f32");
  expectShape(op, "clip", clip, [1, 2]);
}

/**
 * m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, param -= lr (m^ / (sqrt(v^) + eps) + weightDecay param), with
 * g = gradient * clip[1] and m^, v^ corrected for bias. param, gradient, m, v f32 of one shape, changed in place (but for gradient);
 * clip [1, 2] as `clipGradNorm` makes it: where it is NaN nothing changes.
 * @throws ShapeError
 */
export function adamw(param: Tensor, gradient: Tensor, m: Tensor, v: Tensor, clip: Tensor, hyper: AdamWStep): void {
  expectShapes("adamw", param, gradient, m, v, clip);
  runKernel("adamw", adamwDims(hyper), [gradient, clip], [param, m, v]);
}

/**
 * `adamw` with m and v stored as bf16. A moment lies between two neighbours of that type; it becomes the upper one with a probability of
 * its distance from the lower one, so its mean is kept, where rounding to nearest would lose every change below half a step: v changes
 * by a thousandth at a time (beta2 .999), and the steps of bf16 are four thousandths and more. `key` makes the random numbers, so it must
 * differ from step to step and from parameter to parameter.
 *
 * Source: Gupta et al. 2015, arXiv:1502.02551, section 3 (stochastic rounding).
 * @throws ShapeError
 */
export function adamwBf16(param: Tensor, gradient: Tensor, m: Tensor, v: Tensor, clip: Tensor, hyper: AdamWStep, key: Words2): void {
  expectShapes("adamw_bf16", param, gradient, m, v, clip);
  expectDtype("adamw_bf16", "m", m, "bf16");
  expectDtype("adamw_bf16", "v", v, "bf16");
  const dims = { ...adamwDims(hyper), key0: key[0], key1: key[1] };
  runKernel("adamw_bf16", dims, [gradient, clip], [param, m, v]);
}
