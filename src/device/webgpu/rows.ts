/** Rows between the host, where they lie end to end, and a storage, where each is padded to 16 bytes. */
import { dtypeBytes, type HostArray } from "../device.ts";
import type { WebGpuStorage } from "./storage.ts";

/** Bytes handed to the queue at once, at most. */
const chunkBytes = 16 * 2 ** 20;

/** Rows [from, to) of `data` as padded bytes, in chunks: `send` gets each chunk and its byte offset from the first row. */
export function packRows(
  { cols, stride, rowBytes, dtype }: WebGpuStorage,
  data: HostArray,
  from: number,
  to: number,
  send: (bytes: Uint8Array, at: number) => void,
): void {
  const each = Math.max(1, Math.floor(chunkBytes / rowBytes));
  const size = dtypeBytes[dtype];
  const source = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const packed = cols === stride ? null : new Uint8Array(Math.min(each, to - from) * rowBytes);
  for (let row = from; row < to; row += each) {
    const rows = Math.min(each, to - row);
    if (packed === null) send(source.subarray(row * rowBytes, (row + rows) * rowBytes), (row - from) * rowBytes);
    else {
      for (let r = 0; r < rows; r++) packed.set(source.subarray((row + r) * cols * size, (row + r + 1) * cols * size), r * rowBytes);
      send(packed.subarray(0, rows * rowBytes), (row - from) * rowBytes);
    }
  }
}

/** Padded rows in `memory` to rows [from, to) of `data`. */
export function unpackRows(
  { cols, stride, rowBytes, dtype }: WebGpuStorage,
  memory: ArrayBuffer,
  data: HostArray,
  from: number,
  to: number,
): void {
  const size = dtypeBytes[dtype];
  const target = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const source = new Uint8Array(memory);
  if (cols === stride) target.set(source.subarray(0, (to - from) * rowBytes), from * rowBytes);
  else
    for (let row = from; row < to; row++) {
      const at = (row - from) * rowBytes;
      target.set(source.subarray(at, at + cols * size), row * cols * size);
    }
}
