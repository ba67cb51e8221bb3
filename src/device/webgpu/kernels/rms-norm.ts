/** Root-mean-square normalisation of rows or heads, and its backward pass. */
import { chunkRuns, dtypeCodes, fold, rowRuns, type KernelCall, type KernelContext, type KernelHost, type Present } from "../kernel.ts";

/** Fewest and most rows of a chunk whose share of dweight is summed by one workgroup: powers of two, so that no shard cuts a chunk. */
const leastChunkRows = 4;
const mostChunkRows = 256;
/** Chunks above which they grow. */
const manyChunks = 512;

interface Specialisation {
  readonly aligned: boolean;
  readonly C: number;
  readonly THREADS: number;
  readonly PER: number;
}

/** How many invocations share a segment of C columns: enough for two units of 4 columns each, or 256. */
function specialise(C: number, groups: number): Specialisation {
  const units = Math.ceil(C / 4);
  const THREADS = Math.min(256, Math.max(4, powerOfTwo(Math.ceil(units / 2))));
  return { aligned: groups === 1 || C % 4 === 0, C, THREADS, PER: Math.ceil(units / THREADS) };
}

/** The least power of two that is n or more. */
function powerOfTwo(n: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, n)));
}

export const rmsNorm: KernelHost = (context, { dims, inputs: [x, weight], outputs: [y, rstd] }) => {
  const groups = dims["groups"]!;
  const { aligned, C, THREADS, PER } = specialise(x!.cols / groups, groups);
  const WEIGHT_DTYPE = dtypeCodes[weight!.dtype];
  for (const { rows, parts } of rowRuns([x!, y!, rstd!])) {
    const [px, py, pr] = parts;
    const segments = rows * groups;
    context.dispatch({
      kernel: aligned ? "rms_norm" : "rms_norm_unaligned",
      constants: aligned ? { THREADS, PER, WEIGHT_DTYPE } : { WEIGHT_DTYPE },
      buffers: [px!.buffer, weight!.buffers[0]!, py!.buffer, pr!.buffer],
      uints: [segments, groups, C, px!.row, py!.row, pr!.row, aligned ? x!.stride / 4 : x!.stride, rstd!.stride],
      floats: [dims["eps"]!],
      grid: fold(aligned ? Math.ceil(segments / (256 / THREADS)) : segments),
    });
  }
};

/** `add`, and the norm of its sum, in one. */
export function addRmsNorm(context: KernelContext, calls: readonly KernelCall[]): void {
  const [sum, norm] = calls as readonly [KernelCall, KernelCall];
  const [a, b] = sum.inputs as Present;
  const [h] = sum.outputs as Present;
  const [, weight] = norm.inputs as Present;
  const [y, rstd] = norm.outputs as Present;
  const { C, THREADS, PER } = specialise(h.cols, 1);
  for (const { rows, parts } of rowRuns([a, b, h, y, rstd])) {
    const [pa, pb, ph, py, pr] = parts;
    context.dispatch({
      kernel: "add_rms_norm",
      constants: { THREADS, PER, WEIGHT_DTYPE: dtypeCodes[weight.dtype] },
      buffers: [pa!.buffer, pb!.buffer, weight.buffers[0]!, ph!.buffer, py!.buffer, pr!.buffer],
      uints: [rows, C, pa!.row, pb!.row, ph!.row, py!.row, pr!.row, h.stride / 4, rstd.stride],
      floats: [norm.dims["eps"]!],
      grid: fold(Math.ceil(rows / (256 / THREADS))),
    });
  }
}

/** Rows of a chunk: by the number of rows only, so that sums do not depend on shards. */
function chunkRowsOf(rows: number): number {
  return Math.min(mostChunkRows, Math.max(leastChunkRows, powerOfTwo(rows / manyChunks)));
}

export const rmsNormBackward: KernelHost = (context, { dims, inputs: [x, weight, rstd, dy], outputs: [dx, dweight] }) => {
  const groups = dims["groups"]!;
  const { aligned, C, THREADS, PER } = specialise(x!.cols / groups, groups);
  const DWEIGHT = dweight !== null && dweight !== undefined;
  const units = Math.ceil(C / 4);
  const chunkRows = DWEIGHT ? chunkRowsOf(x!.rows) : leastChunkRows;
  const chunks = Math.ceil(x!.rows / chunkRows);
  const shares = context.scratch(DWEIGHT ? chunks * units * 16 : 16);
  const common = { WEIGHT_DTYPE: dtypeCodes[weight!.dtype], DWEIGHT };
  for (const { row, rows, parts } of chunkRuns(context, chunkRows, [x!, rstd!, dy!], [dx!])) {
    const [px, pr, pdy, pdx] = parts;
    const here = Math.ceil(rows / chunkRows);
    context.dispatch({
      kernel: aligned ? "rms_norm_backward" : "rms_norm_backward_unaligned",
      constants: aligned ? { THREADS, PER, ...common } : common,
      buffers: [px!.buffer, weight!.buffers[0]!, pr!.buffer, pdy!.buffer, pdx!.buffer, shares],
      uints: [
        ...[rows * groups, groups, here, row / chunkRows, chunkRows * groups],
        ...[px!.row, pr!.row, pdy!.row, pdx!.row, aligned ? x!.stride / 4 : x!.stride, rstd!.stride, C],
      ],
      grid: fold(here),
    });
  }
  if (!DWEIGHT || chunks === 0) return;
  context.dispatch({
    kernel: "rms_norm_backward_weight",
    buffers: [shares, dweight.buffers[0]!],
    uints: [chunks, units],
    grid: [Math.ceil(units / 16), 1, 1],
  });
};
