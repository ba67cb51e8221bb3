/** Rows of a parquet file, one row group at a time, and of that only the columns that are wanted. */
import { open, type FileHandle } from "node:fs/promises";
import { parquetMetadataAsync, parquetReadObjects, parquetSchema, type AsyncBuffer, type FileMetaData } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { DataError, FileError } from "../util/errors.ts";
import type { DataRow } from "./json-rows.ts";

/** Bytes of the wanted columns of a row group, unpacked: what has to be in memory at once. */
const LARGEST_GROUP = 2 ** 31;

/** Chooses among the names of a file's columns those that are to be read. */
export type ChooseColumns = (names: readonly string[], meanBytes: (name: string) => number) => readonly string[];

/** @throws FileError where the file is damaged, DataError where a row group is too large or a text is not UTF-8; what `choose` throws. */
export async function* parquetRows(
  source: AsyncBuffer,
  file: string,
  choose: ChooseColumns,
  onRead?: (bytes: number) => void,
): AsyncGenerator<DataRow> {
  const metadata = await guarded(file, () => parquetMetadataAsync(source, { geoparquet: false }));
  const names = parquetSchema(metadata).children.map(({ element }) => element.name);
  const columns = [...choose(names, (name) => bytesOf(metadata.row_groups, name) / Math.max(1, Number(metadata.num_rows)))];
  let row = 0;
  for (const [i, group] of metadata.row_groups.entries()) {
    const bytes = columns.reduce((sum, name) => sum + bytesOf([group], name), 0);
    if (bytes > LARGEST_GROUP)
      throw new DataError({
        where: `${file}, row group ${i + 1}`,
        what: "is too large to be read",
        expected: `at most ${LARGEST_GROUP / 2 ** 30} GiB in ${columns.join(", ")}`,
        got: `${(bytes / 2 ** 30).toFixed(1)} GiB`,
        hint: "Write the file with smaller row groups, such as row_group_size=10000 in pyarrow and pandas.",
      });
    const rowEnd = row + Number(group.num_rows);
    const values = await guarded(file, () =>
      parquetReadObjects({
        file: source,
        metadata,
        columns,
        rowStart: row,
        rowEnd,
        compressors,
        geoparquet: false,
        parsers: { stringFromBytes },
      }),
    );
    onRead?.(Math.floor((source.byteLength * rowEnd) / Math.max(1, Number(metadata.num_rows))));
    for (const value of values) {
      const where = `${file} (row ${++row})`;
      yield { value: plain(value, where), row, where };
    }
  }
}

/** The bytes of a file, of which pieces are read. Closed by `close`. */
export async function openBuffer(file: string): Promise<AsyncBuffer & { close(): Promise<void> }> {
  const handle: FileHandle = await open(file);
  const { size } = await handle.stat();
  return {
    byteLength: size,
    async slice(start, end = size) {
      const bytes = new Uint8Array(Math.min(end, size) - start);
      for (let at = 0; at < bytes.length;) {
        const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at);
        if (bytesRead === 0) throw new Error("the file became shorter while it was read");
        at += bytesRead;
      }
      return bytes.buffer;
    },
    close: () => handle.close(),
  };
}

function bytesOf(groups: FileMetaData["row_groups"], column: string): number {
  const chunks = groups.flatMap(({ columns }) => columns).filter(({ meta_data }) => meta_data?.path_in_schema[0] === column);
  return chunks.reduce((sum, { meta_data }) => sum + Number(meta_data?.total_uncompressed_size ?? 0), 0);
}

// Without `geoparquet: false` the library searches the schema for maps, and never ends where a count in it is damaged.

/** The library reports damage by errors of many kinds. */
async function guarded<T>(file: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (cause) {
    const what = "cannot be read as parquet: it may be cut off or damaged";
    throw new FileError({ where: file, what, got: (cause as Error).message }, { cause });
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true });
/** In place of a text, so that its row can be told. */
const notUtf8 = Symbol("not UTF-8");

/** The library's own decoder puts U+FFFD where bytes are wrong, in silence. */
function stringFromBytes(bytes: Uint8Array | undefined): string | undefined | typeof notUtf8 {
  if (!bytes) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return notUtf8;
  }
}

/** As JSON has it: integers of 64 bits as numbers where they are exact, else as text, times as text; bytes stay. @throws DataError */
function plain(value: unknown, where: string): unknown {
  if (value === notUtf8) throw new DataError({ where, what: "is not UTF-8", expected: "text in UTF-8" });
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (Array.isArray(value)) return value.map((one) => plain(one, where));
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner, where)]));
}
