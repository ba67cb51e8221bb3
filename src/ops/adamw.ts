/** One AdamW step of one parameter. Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2. */
import type { Tensor } from "../tensor/tensor.ts";
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

/**
 * m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, param -= lr (m^ / (sqrt(v^) + eps) + weightDecay param), with
 * g = gradient * clip[1] and m^, v^ corrected for bias. param, gradient, m, v f32 of one shape, changed in place (but for gradient);
 * clip [1, 2] as `clipGradNorm` makes it: where it is NaN nothing changes.
 * @throws ShapeError
 */
export function adamw(param: Tensor, gradient: Tensor, m: Tensor, v: Tensor, clip: Tensor, hyper: AdamWStep): void {
  for (const [name, tensor] of [
    ["gradient", gradient],
    ["m", m],
    ["v", v],
  ] as const)
    expectShape("adamw", name, tensor, param.shape);
  expectDtype("adamw", "param", param, "f32");
  expectShape("adamw", "clip", clip, [1, 2]);
  const { lr, beta1, beta2, eps, weightDecay, step } = hyper;
  param.device.run(
    "adamw",
    { lr, beta1, beta2, eps, weightDecay, correction1: 1 - beta1 ** step, correction2: 1 - beta2 ** step },
    [gradient.storage, clip.storage],
    [param.storage, m.storage, v.storage],
  );
}
