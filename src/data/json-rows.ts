/** JSON values out of a stream of bytes: one a line, or the elements of one list. Memory holds one of them, and no more than a limit. */
import { isUtf8 } from "node:buffer";
import { DataError, show } from "../util/errors.ts";

/** A row of a file. */
export interface DataRow {
  readonly value: unknown;
  /** From 1, blank lines not counted. */
  readonly row: number;
  /** Names its place in errors: `questions.jsonl:12`. */
  readonly where: string;
}

/** Bytes of one row. A longer one is a file without line breaks, or no data at all. */
const LONGEST_ROW = 64 * 2 ** 20;

/**
 * The values of JSON Lines; blank lines are skipped.
 * @throws DataError (file:line) for a line that is no JSON, no UTF-8, or too long.
 */
export async function* jsonLines(chunks: AsyncIterable<Buffer>, file: string): AsyncGenerator<DataRow> {
  let line = 1;
  let row = 0;
  const parts = new Parts();
  const take = (): DataRow | null => {
    const value = parse(parts.take(), `${file}:${line}`, "one object a line");
    return value === undefined ? null : { value, row: ++row, where: `${file}:${line}` };
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      parts.add(chunk.subarray(from, end), `${file}:${line}`);
      const next = take();
      if (next !== null) yield next;
      from = end + 1;
      line++;
    }
    parts.add(chunk.subarray(from), `${file}:${line}`);
  }
  const last = take();
  if (last !== null) yield last;
}

/**
 * The elements of a JSON list, however it is laid out.
 * @throws DataError (file:line) for an element that is no JSON, no UTF-8 or too long, a list that does not end, and text behind it.
 */
export async function* jsonList(chunks: AsyncIterable<Buffer>, file: string): AsyncGenerator<DataRow> {
  const scan = new ListScan();
  const parts = new Parts();
  let row = 0;
  const where = (): string => `${file}:${scan.start} (row ${row + 1})`;
  for await (const chunk of chunks) {
    let from = 0;
    for (let mark = scan.next(chunk, 0); mark !== null; mark = scan.next(chunk, from)) {
      const { at, kind } = mark;
      if (kind === "text behind")
        throw new DataError({
          where: `${file}:${scan.line}`,
          what: "text behind the end of the list",
          got: show(chunk.toString("latin1", at, at + 40)),
        });
      if (kind !== "begin") {
        parts.add(chunk.subarray(from, at), where());
        const value = parse(parts.take(), where(), "an object");
        if (value !== undefined) yield { value, where: where(), row: ++row };
        else if (kind === "comma" || row > 0)
          throw new DataError({ where: where(), what: "nothing between two commas of the list", expected: "an object" });
      }
      from = at + 1;
      scan.begin();
    }
    if (!scan.ended) parts.add(chunk.subarray(from), where());
  }
  if (!scan.ended)
    throw new DataError({ where: where(), what: "the file ends inside its list", expected: "]", hint: "It may be cut off." });
}

/** Finds where the elements of a list begin and end, over the edges of chunks. */
class ListScan {
  line = 1;
  /** The line on which the element begins. */
  start = 1;
  ended = false;
  /** Whether nothing of the element has come yet. */
  #blank = true;
  /** Brackets that are open; the list's own is the first. */
  #depth = 0;
  #inText = false;
  /** Whether the last byte of a text is a backslash that counts. */
  #escaped = false;

  begin(): void {
    this.#blank = true;
  }

  /** The next mark at or behind `from`; null where the chunk has none. */
  next(chunk: Buffer, from: number): { readonly at: number; readonly kind: "begin" | "comma" | "end" | "text behind" } | null {
    for (let at = from; at < chunk.length; at++) {
      if (this.#inText) {
        at = this.#skipText(chunk, at);
        continue;
      }
      const byte = chunk[at] as number;
      if (byte <= SPACE) {
        if (byte === NEWLINE) this.line++;
        continue;
      }
      if (this.ended) return { at, kind: "text behind" };
      if (this.#blank) {
        this.start = this.line;
        this.#blank = false;
      }
      if (byte === QUOTE) this.#inText = true;
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
        if (this.#depth++ === 0) return { at, kind: "begin" };
      } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) {
        if (--this.#depth > 0) continue;
        this.ended = true;
        return { at, kind: "end" };
      } else if (byte === COMMA && this.#depth === 1) return { at, kind: "comma" };
    }
    return null;
  }

  /** The place of the quote that ends a text, or of the chunk's end. */
  #skipText(chunk: Buffer, from: number): number {
    for (let at = from; ;) {
      const quote = chunk.indexOf(QUOTE, at);
      const end = quote < 0 ? chunk.length : quote;
      let slashes = end;
      while (slashes > at && chunk[slashes - 1] === BACKSLASH) slashes--;
      const odd = (end - slashes + (slashes === at && this.#escaped ? 1 : 0)) % 2 === 1;
      this.#escaped = quote < 0 && odd;
      if (quote < 0) return end;
      if (!odd) {
        this.#inText = false;
        return quote;
      }
      at = quote + 1;
    }
  }
}

const [NEWLINE, SPACE, QUOTE, COMMA, BACKSLASH] = [0x0a, 0x20, 0x22, 0x2c, 0x5c];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** Undefined for blanks alone. */
function parse(bytes: Buffer, where: string, expected: string): unknown {
  if (!isUtf8(bytes))
    throw new DataError({
      where,
      what: "is not UTF-8",
      expected: "text in UTF-8",
      hint: "Save it as UTF-8, for example: iconv -f LATIN1 -t UTF-8.",
    });
  const text = bytes.toString("utf8");
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new DataError({ where, what: "not JSON", expected, got: (cause as Error).message }, { cause });
  }
}

/** The parts of a row that is spread over chunks. */
class Parts {
  #parts: Buffer[] = [];
  #bytes = 0;

  add(part: Buffer, where: string): void {
    if (part.length === 0) return;
    this.#bytes += part.length;
    if (this.#bytes > LONGEST_ROW)
      throw new DataError({
        where,
        what: "the row is too long",
        expected: `at most ${LONGEST_ROW / 2 ** 20} MiB`,
        got: "more",
        hint: "Rows are separated by line breaks, or by the commas of one list.",
      });
    this.#parts.push(part);
  }

  take(): Buffer {
    const [only] = this.#parts;
    const whole = only !== undefined && this.#parts.length === 1 ? only : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }
}
