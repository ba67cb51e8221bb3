/** The rows of a data file: JSON Lines, a JSON list or parquet, plain or packed by gzip or zstd. Its content says which, not its name. */
import { open, stat } from "node:fs/promises";
import { FileError } from "../util/errors.ts";
import { HEAD_BYTES, kindOf, withoutBom, type FileKind } from "./file-kind.ts";
import { jsonLines, jsonList, type DataRow } from "./json-rows.ts";
import { openBuffer, parquetRows, type ChooseColumns } from "./parquet-rows.ts";
import { unpackedChunks } from "./unpack.ts";

export type { DataRow } from "./json-rows.ts";
export type { ChooseColumns } from "./parquet-rows.ts";

const EXPECTED = "JSON Lines, a JSON list or parquet; plain, or packed by gzip or zstd";
/** Bytes of a packed parquet file, which is unpacked into memory: it is read from its end. */
const LARGEST_PACKED = 2 ** 30;

export interface ReadRowsOptions {
  /** What the file is to the reader, for errors: "question file". */
  readonly what: string;
  /** The columns of a parquet file that are read; all unless told. */
  readonly columns?: ChooseColumns;
  /** Told how many bytes of the file have been read, every so often. */
  readonly onRead?: ((bytes: number) => void) | undefined;
}

/**
 * Reads a file row by row; rows are any JSON. Memory holds one row (of parquet: one row group).
 * @throws FileError where it cannot be read or is of another kind, which it names; DataError, with the line or row, for what is wrong in it.
 */
export async function* readRows(file: string, { what, columns = (names) => names, onRead }: ReadRowsOptions): AsyncGenerator<DataRow> {
  const outer = kindOf(await headOf(file, what));
  if (outer === "parquet") {
    const buffer = await openBuffer(file);
    try {
      yield* parquetRows(buffer, file, columns, onRead);
    } finally {
      await buffer.close();
    }
    return;
  }
  const packing = outer === "gzip" || outer === "zstd" ? outer : null;
  if (packing === null) refuse(file, what, outer, "");
  const { head, chunks } = await peek(unpackedChunks(file, packing, onRead));
  try {
    const inner = packing === null ? outer : kindOf(head);
    if (inner === "lines") yield* jsonLines(chunks, file);
    else if (inner === "list") yield* jsonList(chunks, file);
    else if (inner === "parquet") yield* parquetRows(await inMemory(chunks, file), file, columns);
    else refuse(file, what, inner, packing === null ? "" : `, packed by ${packing}`);
  } finally {
    await chunks.return(undefined);
  }
}

/** Passes what can be read, and a file with nothing in it. */
function refuse(file: string, what: string, kind: FileKind, packed: string): void {
  if (typeof kind === "object")
    throw new FileError({ where: file, what: `the ${what} is ${kind.is}${packed}`, expected: EXPECTED, hint: kind.hint });
  if (packed !== "" && (kind === "gzip" || kind === "zstd"))
    throw new FileError({ where: file, what: `the ${what} is packed twice, by ${kind}${packed}`, expected: EXPECTED });
}

async function headOf(file: string, what: string): Promise<Buffer> {
  try {
    if (!(await stat(file)).isFile())
      throw new FileError({
        where: file,
        what: `cannot read the ${what}: it is no file`,
        expected: EXPECTED,
        hint: "Name a file, not a folder.",
      });
    const handle = await open(file);
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof FileError) throw cause;
    const hint = file.startsWith("hf://") ? "It is on the Hub: give what locateDataFile returns for it." : undefined;
    throw new FileError({ where: file, what: `cannot read the ${what}`, got: (cause as Error).message, hint }, { cause });
  }
}

/** The first bytes of a stream, and all of it, without the mark before UTF-8. */
async function peek(stream: AsyncGenerator<Buffer>): Promise<{ readonly head: Buffer; readonly chunks: AsyncGenerator<Buffer> }> {
  const parts: Buffer[] = [];
  for (let bytes = 0; bytes < HEAD_BYTES;) {
    const next = await stream.next();
    if (next.done === true) break;
    parts.push(next.value);
    bytes += next.value.length;
  }
  const head = withoutBom(Buffer.concat(parts));
  const chunks = async function* (): AsyncGenerator<Buffer> {
    try {
      yield head;
      yield* stream;
    } finally {
      await stream.return(undefined);
    }
  };
  return { head, chunks: chunks() };
}

async function inMemory(
  chunks: AsyncIterable<Buffer>,
  file: string,
): Promise<{ byteLength: number; slice(start: number, end?: number): ArrayBuffer }> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes > LARGEST_PACKED)
      throw new FileError({
        where: file,
        what: "is a packed parquet file of more than 1 GiB",
        expected: "parquet as it is",
        hint: "Unpack it: parquet packs its columns itself.",
      });
  }
  const whole = new Uint8Array(Buffer.concat(parts)).buffer;
  return { byteLength: bytes, slice: (start, end) => whole.slice(start, end) };
}
