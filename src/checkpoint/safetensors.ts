/**
 * The safetensors file format: an 8-byte length, a JSON header, then the elements of all tensors without gaps, little-endian.
 * Source: https://github.com/huggingface/safetensors (README, "Format").
 */
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Dtype, HostArray } from "../device/device.ts";
import { toElements, toFloats } from "../tensor/dtype.ts";
import { FileError } from "../util/errors.ts";
import { itemBytes, parseHeader, product, type TensorEntry } from "./safetensors-header.ts";
import { syncFolder, TEMPORARY, writeError } from "./atomic.ts";

/** Bytes moved at once, so that a model is never in host memory as a whole. */
const PIECE_BYTES = 4 << 20;
const MAX_HEADER_BYTES = 100 << 20;

/** Raw elements; F16 and BF16 as their bits. */
export type RawElements = Float32Array | Uint16Array | BigInt64Array | Uint8Array | Uint32Array;

/** An open file. Close it. */
export class SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  private readonly handle: FileHandle;

  private constructor(path: string, handle: FileHandle, parsed: { tensors: Map<string, TensorEntry>; metadata: Record<string, string> }) {
    this.path = path;
    this.handle = handle;
    this.tensors = parsed.tensors;
    this.metadata = parsed.metadata;
  }

  /**
   * Opens a file and checks its header against its length.
   * @throws FileError when it is missing, truncated or malformed: which tensor, and what is wrong with it.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    let handle: FileHandle;
    try {
      handle = await open(path, "r");
    } catch (cause) {
      throw new FileError(
        {
          where: path,
          what: "cannot be opened",
          expected: "a safetensors file",
          got: (cause as NodeJS.ErrnoException).code ?? String(cause),
        },
        { cause },
      );
    }
    try {
      const { size } = await handle.stat();
      const truncated = (needed: number): FileError =>
        new FileError({
          where: path,
          what: "the file ends inside its header",
          expected: `at least ${needed} bytes`,
          got: `${size} bytes`,
          hint: "the file is truncated: copy or download it again",
        });
      if (size < 8) throw truncated(8);
      const lengthBytes = Buffer.alloc(8);
      await handle.read(lengthBytes, 0, 8, 0);
      const headerBytes = Number(lengthBytes.readBigUInt64LE());
      if (headerBytes > MAX_HEADER_BYTES)
        throw new FileError({
          where: path,
          what: "the header's length is impossible",
          expected: `at most ${MAX_HEADER_BYTES} bytes`,
          got: String(headerBytes),
          hint: "not a safetensors file",
        });
      if (size < 8 + headerBytes) throw truncated(8 + headerBytes);
      const header = Buffer.alloc(headerBytes);
      await handle.read(header, 0, headerBytes, 8);
      return new SafetensorsFile(path, handle, parseHeader(path, header.toString("utf8"), 8 + headerBytes, size));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** `count` raw elements from element `first` on. @throws FileError for an unknown name or a dtype without an array type. */
  async read(name: string, first = 0, count?: number): Promise<RawElements> {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw new FileError({ where: this.path, what: `no tensor "${name}"`, got: `${this.tensors.size} others` });
    const bytes = itemBytes[entry.dtype]!;
    const wanted = count ?? product(entry.shape) - first;
    const buffer = new ArrayBuffer(wanted * bytes);
    const { bytesRead } = await this.handle.read(new Uint8Array(buffer), 0, buffer.byteLength, entry.start + first * bytes);
    if (bytesRead !== buffer.byteLength)
      throw new FileError({
        where: this.path,
        what: `tensor "${name}" could not be read whole`,
        expected: `${buffer.byteLength} bytes`,
        got: `${bytesRead} bytes`,
      });
    switch (entry.dtype) {
      case "F32":
        return new Float32Array(buffer);
      case "F16":
      case "BF16":
        return new Uint16Array(buffer);
      case "I64":
        return new BigInt64Array(buffer);
      case "U32":
        return new Uint32Array(buffer);
      case "U8":
        return new Uint8Array(buffer);
      default:
        throw new FileError({
          where: this.path,
          what: `tensor "${name}" is of a type that cannot be read here`,
          expected: "F32, F16, BF16, I64, U32 or U8",
          got: entry.dtype,
        });
    }
  }

  /**
   * Rows of a float tensor (first dimension; a vector is one row) in pieces of a few MiB, as elements of `dtype`.
   * @throws FileError where the tensor does not hold floats.
   */
  async *rows(name: string, dtype: Exclude<Dtype, "u32">): AsyncGenerator<{ firstRow: number; data: HostArray }> {
    const entry = this.tensors.get(name);
    const from = entry === undefined ? undefined : floatDtypes[entry.dtype];
    if (entry !== undefined && from === undefined)
      throw new FileError({
        where: this.path,
        what: `tensor "${name}" does not hold floats`,
        expected: "F32, F16 or BF16",
        got: entry.dtype,
      });
    const shape = entry?.shape ?? [];
    const rows = shape.length < 2 ? 1 : shape[0]!;
    const cols = product(shape) / rows;
    const atOnce = Math.max(1, Math.floor(PIECE_BYTES / (cols * 4)));
    for (let firstRow = 0; firstRow < rows; firstRow += atOnce) {
      const raw = (await this.read(name, firstRow * cols, Math.min(atOnce, rows - firstRow) * cols)) as Float32Array | Uint16Array;
      yield { firstRow, data: from === dtype ? raw : toElements(toFloats(raw, from!), dtype) };
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

const floatDtypes: Readonly<Record<string, Exclude<Dtype, "u32">>> = { F32: "f32", F16: "f16", BF16: "bf16" };
const fileDtypes: Readonly<Record<Exclude<Dtype, "u32">, string>> = { f32: "F32", f16: "F16", bf16: "BF16" };

/** One tensor to be written: its rows are asked for in pieces. */
export interface TensorSource {
  readonly name: string;
  readonly shape: readonly number[];
  /** Type in the file. */
  readonly dtype: Exclude<Dtype, "u32">;
  /** Type of what `read` gives. */
  readonly sourceDtype: Exclude<Dtype, "u32">;
  readonly read: (firstRow: number, rows: number) => Promise<HostArray>;
}

/**
 * Writes a file under a temporary name, flushes it to the disk, and renames it: at `path` there is the old file or the whole new one.
 * @throws FileError when it cannot be written; nothing is left behind.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Wider elements first keeps every tensor aligned.
  const ordered = [...tensors].sort((a, b) => itemBytes[fileDtypes[b.dtype]]! - itemBytes[fileDtypes[a.dtype]]!);
  const header: Record<string, unknown> = { __metadata__: { format: "pt", ...metadata } };
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    const begin = end;
    end += product(shape) * itemBytes[fileDtypes[dtype]]!;
    header[name] = { dtype: fileDtypes[dtype], shape, data_offsets: [begin, end] };
  }
  let text = Buffer.from(JSON.stringify(header), "utf8");
  text = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, " ")]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await replaceFile(path, async (write) => {
    await write(length);
    await write(text);
    for (const { shape, dtype, sourceDtype, read } of ordered) {
      const rows = shape.length < 2 ? 1 : shape[0]!;
      const atOnce = Math.max(1, Math.floor(PIECE_BYTES / ((product(shape) / rows) * 4)));
      for (let row = 0; row < rows; row += atOnce) {
        const data = await read(row, Math.min(atOnce, rows - row));
        const out = dtype === sourceDtype ? data : toElements(toFloats(data, sourceDtype), dtype);
        await write(new Uint8Array(out.buffer, out.byteOffset, out.byteLength));
      }
    }
  });
}

/** `path` whole or not at all: a temporary file beside it, filled piece by piece, put on the disk and renamed. */
async function replaceFile(path: string, fill: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `${TEMPORARY}${process.pid}-${basename(path)}`);
  try {
    const handle = await open(temporary, "w");
    try {
      await fill(async (bytes) => {
        for (let done = 0; done < bytes.length;) done += (await handle.write(bytes, done)).bytesWritten;
      });
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(path, cause, "the file is as it was before");
  }
}
