/** Operands of products in f16: dense copies, zero-padded in both directions so that no tile has an edge. */
import { dtypeCodes, fold, rowRuns, type GpuBuffer, type GpuStorage, type KernelContext, type Packed } from "../kernel.ts";
import { matrixFits } from "./matmul-tiles.ts";

/** Rows and columns of a packed operand are multiples of this: the largest tile. */
export const packUnit = 128;
export const padded = (n: number): number => Math.ceil(n / packUnit) * packUnit;

interface Part {
  readonly row: number;
  readonly rows: number;
  readonly col: number;
  readonly cols: number;
}

export const packedBytes = (rows: number, cols: number): number => padded(rows) * padded(cols) * 2;

/** Records the packing of a part of a storage into `into`; columns start at a multiple of 4. */
function fill(context: KernelContext, storage: GpuStorage, { row, rows, col, cols }: Part, into: GpuBuffer): void {
  const octets = padded(cols) / 8;
  const runs = rowRuns([storage], row, rows);
  for (const run of runs) {
    const [part] = run.parts;
    const first = run.row - row;
    // the last run also makes the rows of zeros
    const rowsOut = first + run.rows === rows ? padded(rows) - first : run.rows;
    context.dispatch({
      kernel: "matmul_pack",
      constants: { X_DTYPE: dtypeCodes[storage.dtype], HARDWARE: matrixFits(context.capabilities) },
      buffers: [part!.buffer, into],
      uints: [run.rows, cols, rowsOut, octets, (part!.row * storage.stride + col) / 4, storage.stride / 4, first * octets],
      grid: fold(Math.ceil((rowsOut * octets) / 256)),
    });
  }
}

/** A part of a storage, packed for this call. */
export function pack(context: KernelContext, storage: GpuStorage, part: Part): Packed {
  const buffer = context.scratch(packedBytes(part.rows, part.cols));
  fill(context, storage, part, buffer);
  return { buffer, start: 0, stride: padded(part.cols) / 8 };
}

/** All of a parameter, packed once for every call until it is written; null if it is none, or does not fit one binding. */
export function packedParameter(context: KernelContext, storage: GpuStorage): Packed | null {
  const { rows, cols } = storage;
  const bytes = packedBytes(rows, cols);
  if (storage.usage !== "parameter" || bytes > context.capabilities.maxBinding) return null;
  const buffer = context.derived(storage, "f16", bytes, (into) => {
    fill(context, storage, { row: 0, rows, col: 0, cols }, into);
  });
  return { buffer, start: 0, stride: padded(cols) / 8 };
}

/**
 * All of a storage as an operand, of which the copy is kept while it is read again: a parameter's until it is written, an activation's
 * until others have been packed. Null where it does not fit one binding.
 */
export function packedWhole(context: KernelContext, storage: GpuStorage): Packed | null {
  const there = storage.packed ?? packedAsItIs(storage) ?? packedParameter(context, storage);
  if (there !== null) return there;
  const { rows, cols } = storage;
  const bytes = packedBytes(rows, cols);
  if (bytes > context.capabilities.maxBinding) return null;
  const buffer = context.recent(storage, bytes, (into) => {
    fill(context, storage, { row: 0, rows, col: 0, cols }, into);
  });
  return { buffer, start: 0, stride: padded(cols) / 8 };
}

/** Scratch memory for an operand that its kernel writes packed; null where products do not read it so, or it does not fit a binding. */
export function packedRoom(context: KernelContext, rows: number, cols: number): Packed | null {
  const bytes = packedBytes(rows, cols);
  if (context.precision !== "f16" || !matrixFits(context.capabilities) || bytes > context.capabilities.maxBinding) return null;
  return { buffer: context.scratch(bytes), start: 0, stride: padded(cols) / 8 };
}

/** A storage that lies as a packed operand does already. */
function packedAsItIs({ rows, cols, dtype, stride, shards, buffers }: GpuStorage): Packed | null {
  const fits = dtype === "f16" && shards === 1 && stride === cols && rows % packUnit === 0 && cols % packUnit === 0;
  return fits ? { buffer: buffers[0]!, start: 0, stride: stride / 8 } : null;
}
