/** Writes safetensors files, piece by piece: what is written is never in host memory as a whole. */
import type { Dtype, HostArray } from "../device/device.ts";
import { foldedCols, foldedRows } from "../tensor/shape.ts";
import { replaceFile } from "./atomic.ts";

/** Bytes that a writer asks for at once. */
const PIECE_BYTES = 4 << 20;

/** The file's name of a type of the device. */
export const fileDtypes: Readonly<Record<Dtype, string>> = { f32: "F32", f16: "F16", bf16: "BF16", u32: "U32" };
const elementBytes: Readonly<Record<Dtype, number>> = { f32: 4, f16: 2, bf16: 2, u32: 4 };

/** One tensor to be written: its rows are asked for in pieces. */
export interface TensorSource {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: Dtype;
  /** Raw elements of some rows (of the first dimension; a vector is one row). */
  readonly read: (firstRow: number, rows: number) => Promise<HostArray>;
}

/** Bytes of a tensor's elements in a file. */
export function sourceBytes({ shape, dtype }: Pick<TensorSource, "shape" | "dtype">): number {
  return shape.reduce((total, n) => total * n, elementBytes[dtype]);
}

/**
 * Writes a file under a temporary name, flushes it to the disk, and renames it: at `path` there is the old file or the whole new one.
 * Its metadata say `format: pt`, without which transformers does not load a file, and what `metadata` says besides.
 * @throws FileError when it cannot be written; nothing is left behind.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Wider elements first keeps every tensor aligned.
  const ordered = [...tensors].sort((a, b) => elementBytes[b.dtype] - elementBytes[a.dtype]);
  await replaceFile(path, async (handle) => {
    const writeAll = async (bytes: Uint8Array): Promise<void> => {
      for (let done = 0; done < bytes.length;) done += (await handle.write(bytes, done)).bytesWritten;
    };
    let writing: Promise<void> = Promise.resolve();
    /** Returns when the piece before is written, so that the next one is made meanwhile; a piece must not change afterwards. */
    const write = async (bytes: Uint8Array): Promise<void> => {
      await writing;
      writing = writeAll(bytes);
      // Whoever waits for it is told; nobody may be waiting yet.
      writing.catch(() => undefined);
    };
    try {
      await write(headerOf(ordered, metadata));
      for (const source of ordered) {
        const rows = foldedRows(source.shape);
        const atOnce = Math.max(1, Math.floor(PIECE_BYTES / (foldedCols(source.shape) * elementBytes[source.dtype])));
        for (let row = 0; row < rows; row += atOnce) {
          const data = await source.read(row, Math.min(atOnce, rows - row));
          await write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
        }
      }
      await writing;
    } finally {
      await writing.catch(() => undefined);
    }
  });
}

/** Length and header, padded so that the elements begin at a multiple of 8. */
function headerOf(ordered: readonly TensorSource[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries: [string, unknown][] = [["__metadata__", { format: "pt", ...metadata }]];
  let end = 0;
  for (const source of ordered) {
    const begin = end;
    end += sourceBytes(source);
    entries.push([source.name, { dtype: fileDtypes[source.dtype], shape: source.shape, data_offsets: [begin, end] }]);
  }
  const text = Buffer.from(JSON.stringify(Object.fromEntries(entries)), "utf8");
  const padded = Math.ceil(text.length / 8) * 8;
  const bytes = Buffer.alloc(8 + padded, " ");
  bytes.writeBigUInt64LE(BigInt(padded));
  text.copy(bytes, 8);
  return bytes;
}
