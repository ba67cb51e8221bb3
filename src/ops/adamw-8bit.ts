/** One AdamW step of one parameter whose moments are stored in 8 bits. Source: Dettmers et al. 2021, arXiv:2110.02861. */
import { foldedCols, foldedRows, type Shape } from "../tensor/shape.ts";
import { runKernel, type Tensor } from "../tensor/tensor.ts";
import type { Words2 } from "../util/philox.ts";
import { adamwDims, type AdamWStep } from "./adamw.ts";
import { expectDtype, expectShape } from "./check.ts";

/** Elements of a row that share a scale, and codes in a u32. */
const block = 256;
const codesInWord = 4;

/** The moments of a parameter [N, C]. */
export interface Moments8bit {
  /** u32 [N, ceil(C / 4)]: the code of column c in byte c mod 4, lowest first. */
  readonly m: Tensor;
  readonly v: Tensor;
  /** f32 [N, 2 ceil(C / 256)]: for each 256 columns the largest |m|, and the largest v. Moments of scale 0 are 0, whatever the codes. */
  readonly scales: Tensor;
}

/** Shapes of the codes of one moment, and of the scales of both. */
export function shapes8bit(shape: Shape): { readonly codes: Shape; readonly scales: Shape } {
  const [rows, cols] = [foldedRows(shape), foldedCols(shape)];
  return { codes: [rows, Math.ceil(cols / codesInWord)], scales: [rows, 2 * Math.ceil(cols / block)] };
}

/**
 * `adamw` with m and v as codes of a dynamic map (`tables`: `momentTables()` as a tensor [3, 256]) times a scale for each 256 columns of a
 * row. Rounding is at random as in `adamwBf16`, by `key`; a v that is not 0 never becomes 0, since steps are divided by its root. param,
 * gradient f32 of one shape.
 * @throws ShapeError
 */
export function adamw8bit(
  param: Tensor,
  gradient: Tensor,
  { m, v, scales }: Moments8bit,
  tables: Tensor,
  clip: Tensor,
  hyper: AdamWStep,
  key: Words2,
): void {
  const shapes = shapes8bit(param.shape);
  expectShape("adamw_8bit", "gradient", gradient, param.shape);
  expectDtype("adamw_8bit", "param", param, "f32");
  for (const [name, tensor] of Object.entries({ m, v })) {
    expectShape("adamw_8bit", name, tensor, shapes.codes, "u32");
  }
  expectShape("adamw_8bit", "scales", scales, shapes.scales);
  expectShape("adamw_8bit", "tables", tables, [3, block]);
  expectShape("adamw_8bit", "clip", clip, [1, 2]);
  const dims = { ...adamwDims(hyper), key0: key[0], key1: key[1] };
  runKernel("adamw_8bit", dims, [gradient, clip, tables], [param, m, v, scales]);
}
