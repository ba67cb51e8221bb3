/**
 * The language-model head in chunks of rows: logits by `matmul` into scratch memory, then what is asked of them. How many rows a chunk
 * has depends on the weight's shape and the device only, so the gradient of the weight is summed in one order.
 */
import { dtypeBytes } from "../../device.ts";
import { rowRuns, type GpuStorage, type KernelContext, type KernelHost, type Present } from "../kernel.ts";
import { logSoftmax, softmaxBlocks, statsBytes } from "./log-softmax.ts";
import { packedRoom, padded } from "./matmul-pack.ts";

/** Bytes of the logits that exist at once. */
const forwardBytes = 256 * 2 ** 20;
const backwardBytes = 512 * 2 ** 20;
const mostRows = 4096;

/** A chunk of the backward pass reads and writes the weight's whole gradient: logits may take as much memory as that. */
function bytesBackward(weight: GpuStorage, learns: boolean): number {
  return learns ? Math.max(backwardBytes, 4 * weight.rows * weight.cols) : backwardBytes;
}
/** Rows that `matmul` sums in one piece. */
const sumRows = 256;

function chunkRows(context: KernelContext, vocabulary: number, bytes: number): number {
  const fit = Math.floor(Math.min(bytes, context.capabilities.maxBinding) / (4 * Math.ceil(vocabulary / 4) * 4));
  const rows = Math.max(1, Math.min(mostRows, fit));
  return rows < sumRows ? rows : rows - (rows % sumRows);
}

/** The first `rows` rows of scratch memory. */
function firstRows(scratch: GpuStorage, rows: number): GpuStorage {
  return { ...scratch, rows, rowsPerShard: rows, bytes: rows * scratch.cols * dtypeBytes[scratch.dtype] };
}

/** Copies rows between a storage and scratch memory of the same type and width. */
function copyRows(context: KernelContext, storage: GpuStorage, firstRow: number, scratch: GpuStorage, to: "scratch" | "storage"): void {
  const rowBytes = storage.stride * dtypeBytes[storage.dtype];
  for (const { row, rows, parts } of rowRuns([storage], firstRow, scratch.rows)) {
    const { buffer, row: at } = parts[0]!;
    const inScratch = (row - firstRow) * rowBytes;
    if (to === "scratch") context.copy(buffer, at * rowBytes, scratch.buffers[0]!, inScratch, rows * rowBytes);
    else context.copy(scratch.buffers[0]!, inScratch, buffer, at * rowBytes, rows * rowBytes);
  }
}

interface Chunk {
  readonly first: number;
  readonly rows: number;
  /** Rows first.. of hidden. */
  readonly hidden: GpuStorage;
  /** [rows, V] */
  readonly logits: GpuStorage;
}

/** Calls `visit` with the logits of each chunk of rows, in order. */
function eachChunk(context: KernelContext, hidden: GpuStorage, weight: GpuStorage, bytes: number, visit: (chunk: Chunk) => void): void {
  const [N, C, V] = [hidden.rows, hidden.cols, weight.rows];
  const most = Math.min(N, chunkRows(context, V, bytes));
  const allLogits = context.scratchStorage(most, V);
  const copied = most < N ? context.scratchStorage(most, C, hidden.dtype) : null;
  for (let first = 0; first < N; first += most) {
    const rows = Math.min(most, N - first);
    let part = hidden;
    if (copied !== null) {
      part = firstRows(copied, rows);
      copyRows(context, hidden, first, part, "scratch");
    }
    const logits = firstRows(allLogits, rows);
    context.call("matmul", {
      dims: { M: rows, N: V, K: C, transA: 0, transB: 1, accumulate: 0 },
      inputs: [part, weight, null],
      outputs: [logits],
    });
    visit({ first, rows, hidden: part, logits });
  }
}

export const logProb: KernelHost = (context, { dims, inputs, outputs }) => {
  const [hidden, weight, targets] = inputs as Present;
  const [value, entropy, lse] = outputs as Present;
  const V = weight.rows;
  const most = Math.min(hidden.rows, chunkRows(context, V, forwardBytes));
  const parts = context.scratch(most * softmaxBlocks(V) * statsBytes);
  const stats = context.scratch(most * statsBytes);
  eachChunk(context, hidden, weight, forwardBytes, ({ first, rows, logits: { buffers, stride } }) => {
    const logits = buffers[0]!;
    logSoftmax(context, { logits, firstRow: 0, rows, vocabulary: V, stride, temperature: dims["temperature"]!, parts, stats });
    context.dispatch({
      kernel: "log_prob",
      buffers: [logits, stats, targets.buffers[0]!, value.buffers[0]!, entropy.buffers[0]!, lse.buffers[0]!],
      uints: [rows, V, stride, first],
      grid: [Math.ceil(rows / 64), 1, 1],
    });
  });
};

export const logProbBackward: KernelHost = (context, { dims, inputs, outputs }) => {
  const [hidden, weight, targets, entropy, lse, dLogProb] = inputs as Present;
  const dEntropy = inputs[6] ?? null;
  const dhidden = outputs[0]!;
  const dweight = outputs[1] ?? null;
  const [N, C, V] = [hidden.rows, hidden.cols, weight.rows];
  let scratch: GpuStorage | null = null;
  const chunkBytes = bytesBackward(weight, dweight !== null);
  const most = Math.min(N, chunkRows(context, V, chunkBytes));
  const room = packedRoom(context, most, V);
  eachChunk(context, hidden, weight, chunkBytes, ({ first, rows, hidden: part, logits }) => {
    const octets = room === null ? 0 : room.stride;
    const height = room === null ? rows : padded(rows);
    context.dispatch({
      kernel: "log_prob_backward",
      constants: { PACKED: room !== null },
      buffers: [
        ...[logits, targets, entropy, lse, dLogProb, dEntropy ?? dLogProb].map(({ buffers }) => buffers[0]!),
        ...(room === null ? [] : [room.buffer]),
      ],
      uints: [V, logits.stride / 4, first, dEntropy === null ? 0 : 1, rows, octets],
      floats: [dims["temperature"]!],
      grid: [room === null ? Math.ceil(V / 1024) : Math.ceil(octets / 256), height, 1],
    });
    const dz = room === null ? logits : { ...logits, packed: room };
    const whole = rows === N;
    if (!whole) scratch ??= context.scratchStorage(rows, C);
    const gradient = scratch === null ? dhidden : firstRows(scratch, rows);
    context.call("matmul", {
      dims: { M: rows, N: C, K: V, transA: 0, transB: 0, accumulate: 0 },
      inputs: [dz, weight, null],
      outputs: [gradient],
    });
    if (!whole) copyRows(context, dhidden, first, gradient, "storage");
    if (dweight !== null)
      context.call("matmul", {
        dims: { M: V, N: C, K: rows, transA: 1, transB: 0, accumulate: 1 },
        inputs: [dz, part, null],
        outputs: [dweight],
      });
  });
};
