/** Reads back what `JsonLines` wrote, row by row, however large the file is. */
import { createReadStream, existsSync, truncateSync } from "node:fs";
import { FileError } from "../util/errors.ts";

export interface WholeRowsOptions {
  /** True unless given. */
  readonly cut?: boolean;
  /** Told how many bytes of the file have been read, every so often. */
  readonly onRead?: (bytes: number) => void;
}

/**
 * The rows of a file of JSON lines; none where there is no file. A row that a killed program left half written at the end is none, and cut off the file
 * unless `cut` is false: somebody may be writing it.
 * @throws FileError, with the line, for another row that is no JSON object
 */
export async function* wholeRows<Row extends object>(file: string, { cut = true, onRead }: WholeRowsOptions = {}): AsyncGenerator<Row> {
  if (!existsSync(file)) return;
  let rest: Buffer = Buffer.alloc(0);
  let kept = 0;
  let line = 0;
  let read = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
    onRead?.((read += chunk.length));
    const parts = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = parts.indexOf(10); end >= 0; end = parts.indexOf(10, from)) {
      yield parsed(parts.toString("utf8", from, end), `${file}:${++line}`) as Row;
      kept += end + 1 - from;
      from = end + 1;
    }
    rest = parts.subarray(from);
  }
  if (cut && rest.length > 0) truncateSync(file, kept);
}

function parsed(text: string, where: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new FileError({
    where,
    what: "is no row",
    expected: "a JSON object",
    got: text.slice(0, 60),
    hint: "The file was changed since it was written.",
  });
}
