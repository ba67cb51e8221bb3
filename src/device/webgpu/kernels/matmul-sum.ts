/** Products split along K among workgroups, and the sums that these left in memory, added in order; column_sum ends so, too. */
import { dtypeCodes, fold, type Dispatch, type GpuBuffer, type GpuStorage, type KernelContext } from "../kernel.ts";
import { slicesFor } from "./matmul-tiles.ts";

/** A part of a product: its operands where they lie, and where its sums go. */
export interface Block {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Start and stride in units of the kernel's. */
  readonly a: { readonly buffer: GpuBuffer; readonly start: number; readonly stride: number };
  readonly b: Block["a"];
  /** Start and stride in quads. */
  readonly c: Block["a"];
  /** The block's first column. */
  readonly n0: number;
  readonly bias: GpuStorage | null;
  readonly accumulate: boolean;
}

/** How workgroups share a block. */
interface Shares {
  readonly tile: { readonly BM: number; readonly BN: number };
  /** Elements of K that are summed by themselves. */
  readonly chunk: number;
  /** Rows and columns of the memory that a chunk's sums go through where tiles are fewer than the `wanted` workgroups. */
  readonly height: number;
  readonly width: number;
  readonly wanted: number;
  /** Uniform words after those of all products. */
  readonly uints?: readonly number[];
}

/** Records one block by a kernel whose last constant is SPLIT. */
export function productBlock(
  context: KernelContext,
  { M, N, K, a, b, c, n0, bias, accumulate }: Block,
  { tile, chunk, height, width, wanted, uints = [] }: Shares,
  dispatch: Pick<Dispatch, "kernel" | "enables" | "constants">,
): void {
  const [tilesM, tilesN] = [Math.ceil(M / tile.BM), Math.ceil(N / tile.BN)];
  const chunks = Math.ceil(K / chunk);
  const partBytes = chunks * height * width * 4;
  const slices = partBytes > context.capabilities.maxBinding ? 1 : slicesFor(tilesM * tilesN, chunks, wanted);
  const slice = Math.ceil(chunks / slices);
  const part = slices > 1 ? context.scratch(partBytes) : null;
  const [stride, plane] = [width / 4, (height * width) / 4];
  const [x, y] = fold(tilesM * tilesN);
  context.dispatch({
    ...dispatch,
    constants: { ...dispatch.constants, SPLIT: part !== null },
    buffers: [a.buffer, b.buffer, bias?.buffers[0] ?? a.buffer, part ?? c.buffer],
    uints: [
      ...[M, N, K, tilesM, tilesN, slice],
      ...[a.start, a.stride, b.start, b.stride],
      ...(part === null ? [c.start, c.stride, 0] : [0, stride, plane]),
      ...[n0, part !== null || bias === null ? dtypeCodes.u32 : dtypeCodes[bias.dtype], accumulate ? 1 : 0],
      ...uints,
    ],
    grid: [x, y, Math.ceil(chunks / slice)],
  });
  if (part === null) return;
  matmulSum(context, { part: { buffer: part, parts: chunks, stride, plane }, c, rows: M, cols: N, bias, biasStart: n0, accumulate });
}

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
