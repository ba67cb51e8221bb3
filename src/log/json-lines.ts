/**
 * Append-only JSONL logs. A row is whole or absent: a write that fails is taken back and kept for the next try, and what a killed
 * program left half written is cut off when the run goes on.
 */
import { closeSync, existsSync, fstatSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { FileError } from "../util/errors.ts";

export class JsonLines<Row extends object> {
  readonly file: string;
  readonly #handle: number;
  #bytes: number;
  /** Rows that could not be written. */
  #unwritten: Buffer = Buffer.alloc(0);

  readonly #goOn: string;

  /**
   * Opens for appending; makes the file where it is missing, and its folder.
   * @param goOn - how the program goes on that writes it: a run's way unless given
   * @throws FileError when that is not possible.
   */
  constructor(file: string, goOn = "go on with --resume") {
    this.file = file;
    this.#goOn = goOn;
    try {
      if (!existsSync(dirname(file))) mkdirSync(dirname(file));
      this.#handle = openSync(file, "a");
      this.#bytes = fstatSync(this.#handle).size;
    } catch (cause) {
      throw new FileError(
        { where: file, what: `cannot be written: ${(cause as Error).message}`, hint: "choose another folder: output.runs=..." },
        { cause },
      );
    }
  }

  /** Bytes of all rows so far: what a saved state records. */
  get bytes(): number {
    return this.#bytes + this.#unwritten.length;
  }

  /** Rows at the end that are not in the file, as it would hold them; "" where all are. */
  get unwritten(): string {
    return this.#unwritten.toString();
  }

  /**
   * Adds rows. A number that is not finite is written as null.
   * @throws FileError when the disk is full or gone: the file is then as before, and the rows are written with the next ones, or by `sync`.
   */
  append(rows: readonly Row[]): void {
    this.appendText(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  }

  /** As `append`, of what `unwritten` was elsewhere. */
  appendText(text: string): void {
    const data = Buffer.concat([this.#unwritten, Buffer.from(text)]);
    try {
      for (let written = 0; written < data.length;) written += writeSync(this.#handle, data, written);
      this.#bytes += data.length;
      this.#unwritten = Buffer.alloc(0);
    } catch (cause) {
      this.#unwritten = data;
      try {
        ftruncateSync(this.#handle, this.#bytes);
      } catch {
        // The first error says what is wrong; a half-written row is cut off when the run goes on.
      }
      throw this.#fault(cause);
    }
  }

  /** Puts all rows on the disk: before a state is saved that counts on them. @throws FileError as `append` */
  sync(): void {
    if (this.#unwritten.length > 0) this.appendText("");
    try {
      fsyncSync(this.#handle);
    } catch (cause) {
      throw this.#fault(cause);
    }
  }

  #fault(cause: unknown): FileError {
    const what = `cannot be written: ${(cause as Error).message}`;
    return new FileError({ where: this.file, what, hint: `make room, then ${this.#goOn}` }, { cause });
  }

  close(): void {
    closeSync(this.#handle);
  }
}

/**
 * Cuts a log back to the rows of steps up to `step`, and off a row that a killed program left half written. One system call does the
 * cut, so that the file is whole at any moment. Rows are in step order. A missing file is left missing.
 * @param recorded - bytes of these rows, where a saved state recorded them: what comes behind is not read
 * @returns the bytes kept; a caller compares them with what the saved state recorded.
 * @throws FileError when a row kept is not JSON with a step: the file is not such a log.
 */
export function truncateAfterStep(file: string, step: number, recorded = Infinity): number {
  if (!existsSync(file)) return 0;
  const handle = openSync(file, "r+");
  try {
    const size = fstatSync(handle).size;
    const kept = bytesUpTo(handle, file, step, Math.min(recorded, size));
    if (kept < size) {
      ftruncateSync(handle, kept);
      fsyncSync(handle);
    }
    return kept;
  } finally {
    closeSync(handle);
  }
}

function bytesUpTo(handle: number, file: string, step: number, most: number): number {
  const chunk = Buffer.alloc(1 << 20);
  let rest: Buffer = Buffer.alloc(0);
  let kept = 0;
  for (let row = 1, position = 0; kept < most;) {
    const read = readSync(handle, chunk, 0, chunk.length, position);
    if (read === 0) return kept;
    position += read;
    rest = Buffer.concat([rest, chunk.subarray(0, read)]);
    for (let end = rest.indexOf(10); end >= 0 && kept < most; end = rest.indexOf(10), row++) {
      if (stepOf(rest.subarray(0, end).toString("utf8"), file, row) > step) return kept;
      kept += end + 1;
      rest = rest.subarray(end + 1);
    }
  }
  return kept;
}

function stepOf(text: string, file: string, row: number): number {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const step = typeof value === "object" && value !== null && "step" in value ? value.step : undefined;
  if (typeof step !== "number")
    throw new FileError({ where: `${file}:${row}`, what: "not a log row", expected: `JSON with a "step"`, got: text.slice(0, 60) });
  return step;
}
