/**
 * The safetensors file format: an 8-byte length, a JSON header, then the elements of all tensors without gaps, little-endian.
 * Source: https://github.com/huggingface/safetensors (README, "Format").
 */
import { open, type FileHandle } from "node:fs/promises";
import { FileError } from "../util/errors.ts";
import { codeOf } from "./folder-files.ts";
import { clip } from "./json-scanner.ts";
import {
  elementTypes,
  MAX_HEADER_BYTES,
  parseHeader,
  truncated,
  type Header,
  type RawElements,
  type TensorEntry,
} from "./safetensors-header.ts";

/** Where a file's bytes come from. */
export interface ByteSource {
  /** Length in bytes. */
  readonly bytes: number;
  /** Fills all of `into` from this place on, or rejects. */
  read(into: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/** An open file. Close it. */
export class SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  private readonly source: ByteSource;

  private constructor(path: string, source: ByteSource, { tensors, metadata }: Header) {
    this.path = path;
    this.source = source;
    this.tensors = tensors;
    this.metadata = metadata;
  }

  /**
   * Opens a file and checks its header against its length.
   * @throws FileError when it is missing, truncated or malformed: which tensor, and what is wrong with it.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const source = await openSource(path);
    try {
      return await SafetensorsFile.from(path, source);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  /** As `open`, of bytes that are open already; `path` is their name in errors. The file then owns the source. */
  static async from(path: string, source: ByteSource): Promise<SafetensorsFile> {
    const fault = (what: string, expected: string, got: string, hint: string): FileError =>
      new FileError({ where: path, what, expected, got, hint });
    const tooShort = (needed: number): FileError =>
      fault("the file ends inside its header", `at least ${needed} bytes`, `${source.bytes} bytes`, truncated);
    if (source.bytes < 8) throw tooShort(8);
    const lengthBytes = new Uint8Array(8);
    await source.read(lengthBytes, 0);
    const length = new DataView(lengthBytes.buffer).getBigUint64(0, true);
    if (length > BigInt(MAX_HEADER_BYTES))
      throw fault("the header's length is impossible", `at most ${MAX_HEADER_BYTES} bytes`, String(length), "not a safetensors file");
    const headerBytes = Number(length);
    // Before anything of that size is allocated.
    if (source.bytes < 8 + headerBytes) throw tooShort(8 + headerBytes);
    const header = new Uint8Array(headerBytes);
    await source.read(header, 8);
    return new SafetensorsFile(path, source, parseHeader(path, header, source.bytes));
  }

  /** `count` raw elements from element `first` on, all unless told. @throws FileError for an unknown name or a dtype without an array type. */
  async read(name: string, first = 0, count?: number): Promise<RawElements> {
    const entry = this.tensors.get(name);
    if (entry === undefined)
      throw new FileError({ where: this.path, what: `no tensor "${clip(name)}"`, got: `${this.tensors.size} others` });
    const { bits = 8, array = null } = elementTypes.get(entry.dtype) ?? {};
    if (array === null)
      throw new FileError({
        where: this.path,
        what: `tensor "${clip(name)}" is of a type that cannot be read here`,
        expected: [...elementTypes].flatMap(([dtype, type]) => (type.array === null ? [] : [dtype])).join(", "),
        got: entry.dtype,
      });
    const elementBytes = bits / 8;
    const start = entry.start + first * elementBytes;
    const bytes = count === undefined ? entry.end - start : count * elementBytes;
    if (first < 0 || bytes < 0 || start + bytes > entry.end)
      throw new FileError({
        where: this.path,
        what: `elements outside tensor "${clip(name)}" were asked for`,
        expected: `within 0 .. ${(entry.end - entry.start) / elementBytes}`,
        got: `${bytes / elementBytes} from ${first}`,
      });
    const buffer = new ArrayBuffer(bytes);
    await this.source.read(new Uint8Array(buffer), start);
    return new array(buffer);
  }

  /** Fills `into` with the bytes of a tensor from byte `from` of it on. `into` must not be longer than what is left of it. */
  async readBytes({ start, end }: TensorEntry, from: number, into: Uint8Array): Promise<void> {
    if (from < 0 || start + from + into.length > end)
      throw new FileError({ where: this.path, what: "bytes outside a tensor were asked for", expected: `at most ${end - start - from}` });
    await this.source.read(into, start + from);
  }

  async close(): Promise<void> {
    await this.source.close();
  }
}

async function openSource(path: string): Promise<ByteSource> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(path, "r");
    const { size } = await handle.stat();
    const file = handle;
    return { bytes: size, read: (into, position) => readAll(path, file, into, position), close: () => file.close() };
  } catch (cause) {
    await handle?.close();
    throw new FileError({ where: path, what: "cannot be opened", expected: "a safetensors file", got: codeOf(cause) }, { cause });
  }
}

/** Bytes asked of the system at once, at most: it takes no more than 2^31 - 1. */
const MOST = 1 << 30;

async function readAll(path: string, handle: FileHandle, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length;) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(into, done, Math.min(MOST, into.length - done), position + done));
    } catch (cause) {
      throw new FileError({ where: path, what: `cannot be read: ${(cause as Error).message}` }, { cause });
    }
    if (bytesRead === 0)
      throw new FileError({
        where: path,
        what: "the file became shorter while it was read",
        expected: `a byte at ${position + done}`,
        got: "its end",
      });
    done += bytesRead;
  }
}
