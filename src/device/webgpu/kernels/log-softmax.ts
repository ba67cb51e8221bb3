/** Statistics of rows of logits, by one pair of kernels for all who need them: `sample` and `log_prob` get the same bits. */
import type { GpuBuffer, KernelContext } from "../kernel.ts";

/** Logits of one invocation. */
const ownLogits = 16;
/** Bytes of one row's statistics: m, lse, entropy, 1 / temperature. */
export const statsBytes = 16;

/** Invocations of a workgroup, which reduces 16 logits for each: this and so the order of summation follow from the vocabulary. */
function threadsFor(vocabulary: number): number {
  return vocabulary <= 64 * ownLogits ? 64 : 256;
}
export function softmaxBlocks(vocabulary: number): number {
  return Math.ceil(vocabulary / (threadsFor(vocabulary) * ownLogits));
}

export interface LogSoftmaxRows {
  /** Rows [firstRow, firstRow + rows) of a buffer of rows `stride` elements apart, at most 65535. */
  readonly logits: GpuBuffer;
  readonly firstRow: number;
  readonly rows: number;
  readonly vocabulary: number;
  readonly stride: number;
  /** One number for all rows, or elements of a buffer: that of row r is element first + r * stride. */
  readonly temperature: number | { readonly buffer: GpuBuffer; readonly first: number; readonly stride: number };
  /** rows x softmaxBlocks(vocabulary) x 16 bytes */
  readonly parts: GpuBuffer;
  /** rows x 16 bytes */
  readonly stats: GpuBuffer;
}

export function logSoftmax(context: KernelContext, of: LogSoftmaxRows): void {
  const blocks = softmaxBlocks(of.vocabulary);
  const { temperature } = of;
  const each = typeof temperature === "number" ? { buffer: of.logits, first: 0, stride: 0 } : temperature;
  context.dispatch({
    kernel: "log_softmax",
    constants: { THREADS: threadsFor(of.vocabulary) },
    buffers: [of.logits, each.buffer, of.parts],
    uints: [of.vocabulary, of.stride / 4, of.firstRow, each.first, each.stride],
    floats: [typeof temperature === "number" ? temperature : 0],
    grid: [blocks, of.rows, 1],
  });
  context.dispatch({ kernel: "log_softmax_merge", buffers: [of.parts, of.stats], uints: [blocks], grid: [of.rows, 1, 1] });
}
