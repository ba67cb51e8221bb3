/** The global norm of gradients and the factor that clips it, wholly on the device. Source: Pascanu et al. 2013, arXiv:1211.5063. */
import { keep } from "../tensor/scope.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { expectDtype } from "./check.ts";

/** accumulator[slot] = sum of x^2, in an order that depends on the shape of x only. */
export function sumOfSquares(x: Tensor, accumulator: Tensor, slot: number): void {
  expectDtype("sum_squares", "x", x, "f32");
  if (!(slot >= 0 && slot < accumulator.size))
    throw new ShapeError({ where: "sum_squares", what: "slot out of range", expected: `0 .. ${accumulator.size - 1}`, got: String(slot) });
  runKernel("sum_squares", { slot }, [x], [accumulator]);
}

/** Sums of x^2 of each of some f32 tensors of one device, at least one -> [count] f32, the caller's: infinity or NaN where one holds such. */
export function sumsOfSquares(tensors: readonly [Tensor, ...Tensor[]]): Tensor {
  const sums = keep(full(tensors[0].device, [tensors.length], 0, { label: "sums of squares" }));
  tensors.forEach((tensor, slot) => {
    sumOfSquares(tensor, sums, slot);
  });
  return sums;
}

/**
 * The norm over all `gradients` together and the factor on each of them: [1, 2] f32 = (norm, min(1, maxNorm / (norm + 1e-6))).
 * maxNorm 0 turns clipping off (factor 1). Where the norm is not finite both are NaN, and `adamw` leaves the weights as they were.
 * Gradients that are `gradScale` times too large (loss scaling) give the norm of the true ones, and a factor that makes them true.
 * The caller owns the result; nothing is read back.
 * @throws ShapeError without gradients.
 */
export function clipGradNorm(gradients: readonly Tensor[], maxNorm: number, gradScale = 1): Tensor {
  const [first, ...others] = gradients;
  if (first === undefined)
    throw new ShapeError({ where: "clip_grad_norm", what: "no gradients", expected: "at least one tensor", got: "none" });
  const sums = sumsOfSquares([first, ...others]);
  const result = empty(first.device, [1, 2], { label: "gradient norm and clip" });
  runKernel("clip_scale", { count: gradients.length, maxNorm, gradScale }, [sums], [result]);
  sums.dispose();
  return result;
}
