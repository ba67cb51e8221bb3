/** The gradient norm, its clipping factor, and AdamW. All values stay on the device. */
import type { KernelDims } from "../../kernels.ts";
import { chunkRuns, fold, rowRuns, type GpuStorage, type KernelHost } from "../kernel.ts";
import { flat, groupsFor, nanBits, rowUnits, zero } from "./elementwise.ts";

/** Units of 4 elements that one workgroup sums, at least, and the number of chunks above which they grow. */
const chunkUnits = 4096;
const manyChunks = 4096;
const pairBytes = 8;

/** Chunks of a storage: whole rows, a power of two of them, or pieces of one long row. By the shape only. */
function chunksOf(x: GpuStorage): { readonly rowsPerChunk: number; readonly pieces: number; readonly pieceUnits: number } {
  const units = rowUnits(x);
  const most = Math.max(chunkUnits, Math.ceil((x.rows * units) / manyChunks));
  const rowsPerChunk = 2 ** Math.floor(Math.log2(Math.max(1, most / Math.max(1, units))));
  const pieces = Math.max(1, Math.ceil(units / most));
  return { rowsPerChunk, pieces, pieceUnits: pieces === 1 ? units : most };
}

export const sumSquares: KernelHost = (context, { dims, inputs: [x], outputs: [acc] }) => {
  const slot = dims["slot"]!;
  const units = rowUnits(x!);
  const { rowsPerChunk, pieces, pieceUnits } = chunksOf(x!);
  const chunks = Math.ceil(x!.rows / rowsPerChunk) * pieces;
  const into = acc!.buffers[0]!;
  const DIRECT = chunks === 1;
  const sums = DIRECT ? into : context.scratch(Math.max(2, chunks) * pairBytes);
  for (const { row, rows, parts } of chunkRuns(context, rowsPerChunk, [x!])) {
    const [part] = parts;
    const here = Math.ceil(rows / rowsPerChunk) * pieces;
    context.dispatch({
      kernel: "sum_squares",
      constants: { DIRECT },
      buffers: [part!.buffer, sums],
      uints: [
        ...[here, (row / rowsPerChunk) * pieces, rows, rowsPerChunk, pieces, pieceUnits],
        ...[part!.row * units, units, x!.cols % 4, slot, zero],
      ],
      grid: fold(here),
    });
  }
  if (!DIRECT) context.dispatch({ kernel: "sum_squares_total", buffers: [sums, into], uints: [chunks, slot, zero], grid: [1, 1, 1] });
};

export const clipScale: KernelHost = (context, { dims, inputs: [acc], outputs: [result] }) => {
  context.dispatch({
    kernel: "clip_scale",
    buffers: [acc!.buffers[0]!, result!.buffers[0]!],
    uints: [dims["count"]!, nanBits, zero],
    floats: [dims["maxNorm"]!, 1 / dims["gradScale"]!],
    grid: [1, 1, 1],
  });
};

/** What AdamW's kernels are told in f32, combined in f64. */
function adamConstants(dims: Readonly<Record<string, number>>): readonly number[] {
  const { lr, beta1, beta2, eps, weightDecay, correction1, correction2 } = dims as KernelDims<"adamw">;
  return [beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weightDecay, -lr / correction1, 1 / Math.sqrt(correction2), eps];
}

export const adamw: KernelHost = (context, { dims, inputs: [grad, clip], outputs: [param, m, v] }) => {
  flat(context, [grad!, param!, m!, v!], { kernel: "adamw", extra: [clip!.buffers[0]!], floats: adamConstants(dims) });
};

export const adamwBf16: KernelHost = (context, { dims, inputs: [grad, clip], outputs: [param, m, v] }) => {
  const [units, rowItems] = [rowUnits(param!), rowUnits(m!)];
  for (const { row, rows, parts } of rowRuns([grad!, param!, m!, v!])) {
    const starts = parts.map((part, i) => part.row * (i < 2 ? units : rowItems));
    context.dispatch({
      kernel: "adamw_bf16",
      buffers: [...parts.map(({ buffer }) => buffer), clip!.buffers[0]!],
      uints: [rows * rowItems, rowItems, units, ...starts, row, dims["key0"]!, dims["key1"]!],
      floats: adamConstants(dims),
      grid: groupsFor(rows * rowItems),
    });
  }
};

export const adamw8bit: KernelHost = (context, { dims, inputs: [grad, clip, tables], outputs: [param, m, v, scales] }) => {
  const units = rowUnits(param!);
  const rowBlocks = scales!.cols / 2;
  for (const { row, rows, parts } of rowRuns([grad!, param!, m!, v!, scales!])) {
    const starts = parts.map((part, i) => part.row * [units, units, m!.stride, v!.stride, scales!.stride][i]!);
    context.dispatch({
      kernel: "adamw_8bit",
      buffers: [...parts.map(({ buffer }) => buffer), tables!.buffers[0]!, clip!.buffers[0]!],
      uints: [rows * rowBlocks, rowBlocks, param!.cols, units, m!.stride, scales!.stride, ...starts, row, dims["key0"]!, dims["key1"]!],
      floats: adamConstants(dims),
      grid: fold(rows * rowBlocks),
    });
  }
};
