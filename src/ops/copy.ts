/** Copies rows, and converts between storage types. Not differentiable. */
import type { Dtype } from "../device/device.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";

export interface CopyRange {
  readonly fromRow?: number;
  readonly toRow?: number;
  readonly rows?: number;
}

/**
 * into[toRow + i] = from[fromRow + i], all rows of `from` unless told, rounding to nearest even where `into` is narrower.
 * @throws ShapeError when the columns differ or rows are out of range.
 */
export function copy(from: Tensor, into: Tensor, range: CopyRange = {}): void {
  const { fromRow = 0, toRow = 0 } = range;
  const rows = range.rows ?? from.rows - fromRow;
  if (from.cols !== into.cols || fromRow < 0 || toRow < 0 || fromRow + rows > from.rows || toRow + rows > into.rows)
    throw new ShapeError({
      where: "copy",
      what: `rows of "${from.label}" do not fit into "${into.label}"`,
      expected: `${rows} rows of ${into.cols} in [${into.rows}, ${into.cols}] from row ${toRow}`,
      got: `rows ${fromRow} .. ${fromRow + rows - 1} of [${from.rows}, ${from.cols}]`,
    });
  runKernel("copy", { fromRow, toRow, rows }, [from], [into]);
}

/** A copy stored as `dtype`. */
export function cast(x: Tensor, dtype: Dtype): Tensor {
  const y = empty(x.device, x.shape, { dtype, label: `${x.label} as ${dtype}` });
  copy(x, y);
  return y;
}
