/** Sums that different workgroups left in memory, added in order: the second half of products split along K, and of column_sum. */
import { dtypeCodes, fold, type GpuBuffer, type GpuStorage, type KernelContext } from "../kernel.ts";

export interface PartSums {
  /** [parts, rows, cols] f32; stride of rows and plane from part to part in quads of 4 elements. */
  readonly part: { readonly buffer: GpuBuffer; readonly parts: number; readonly stride: number; readonly plane: number };
  /** Where they are added: start and stride in quads. */
  readonly c: { readonly buffer: GpuBuffer; readonly start: number; readonly stride: number };
  readonly rows: number;
  readonly cols: number;
  readonly bias: GpuStorage | null;
  /** Element of the bias for the first column: a multiple of 4. */
  readonly biasStart: number;
  /** Whether to the old values of c, or to 0. */
  readonly accumulate: boolean;
}

export function matmulSum(context: KernelContext, { part, c, rows, cols, bias, biasStart, accumulate }: PartSums): void {
  const rowQuads = Math.ceil(cols / 4);
  const quads = rows * rowQuads;
  context.dispatch({
    kernel: "matmul_sum",
    buffers: [part.buffer, bias?.buffers[0] ?? part.buffer, c.buffer],
    uints: [
      ...[part.parts, quads, rowQuads, part.stride, part.plane, c.start, c.stride],
      ...[biasStart, bias === null ? dtypeCodes.u32 : dtypeCodes[bias.dtype], accumulate ? 1 : 0],
    ],
    grid: fold(Math.ceil(quads / 64)),
  });
}
