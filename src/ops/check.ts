/** The checks at the doors of the ops: one wording for one mistake. */
import type { Dtype } from "../device/device.ts";
import { formatShape, sameShape, type Shape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";

/** A storage type, or any that holds floats. */
type Kind = Dtype | "float";

/** @throws ShapeError unless `tensor` has exactly this shape, and is stored as `dtype` if told. */
export function expectShape(op: string, name: string, tensor: Tensor, shape: Shape, dtype?: Kind): void {
  if (!sameShape(tensor.shape, shape))
    throw new ShapeError({
      where: op,
      what: `${name} ("${tensor.label}") has the wrong shape`,
      expected: formatShape(shape),
      got: formatShape(tensor.shape),
    });
  expectDtype(op, name, tensor, dtype);
}

/** @throws ShapeError unless `tensor` has two dimensions, and is stored as `dtype` if told. */
export function expectMatrix(op: string, name: string, tensor: Tensor, dtype?: Kind): void {
  expectRank(op, name, tensor, 2, "matrix", "[rows, cols]");
  expectDtype(op, name, tensor, dtype);
}

/** @throws ShapeError unless `tensor` has one dimension, and is stored as `dtype` if told. */
export function expectVector(op: string, name: string, tensor: Tensor, dtype?: Kind): void {
  expectRank(op, name, tensor, 1, "vector", "[n]");
  expectDtype(op, name, tensor, dtype);
}

function expectRank(where: string, name: string, { shape, label }: Tensor, rank: number, word: string, expected: string): void {
  if (shape.length === rank) return;
  throw new ShapeError({ where, what: `${name} ("${label}") is not a ${word}`, expected, got: formatShape(shape) });
}

/** @throws ShapeError unless `tensor` is stored as `dtype`, if one is told. */
export function expectDtype(op: string, name: string, tensor: Tensor, dtype: Kind | undefined): void {
  if (dtype === undefined || (dtype === "float" ? tensor.dtype !== "u32" : tensor.dtype === dtype)) return;
  const expected = dtype === "float" ? "f32, f16 or bf16" : dtype;
  throw new ShapeError({ where: op, what: `${name} ("${tensor.label}") has the wrong type`, expected, got: tensor.dtype });
}

/** Widest head that the attention kernels take. */
export const maxHeadWidth = 128;

/** D from the width of H heads. @throws ShapeError unless it is what the attention kernels take. */
export function headWidth(op: string, cols: number, heads: number): number {
  expectDivisor(op, "heads", heads, "columns of q", cols);
  const D = cols / heads;
  if (D % 4 !== 0 || D > maxHeadWidth)
    throw new ShapeError({
      where: op,
      what: "head width is not supported",
      expected: `a multiple of 4, at most ${maxHeadWidth}`,
      got: String(D),
    });
  return D;
}

/** @throws ShapeError unless `value` is a positive integer that divides `whole`. */
export function expectDivisor(op: string, name: string, value: number, of: string, whole: number): void {
  if (!Number.isInteger(value) || value < 1 || whole % value !== 0)
    throw new ShapeError({ where: op, what: `${name} must divide ${of} = ${whole}`, expected: "a divisor", got: String(value) });
}
