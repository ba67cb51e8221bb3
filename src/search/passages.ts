/** A corpus as JSON Lines: `{"id", "text", "title"?}`, one passage a line; also `contents` for `text`, as in Search-R1's Wikipedia dump. */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { DataError, FileError } from "../util/errors.ts";

export interface Passage {
  readonly id: string;
  readonly title?: string;
  readonly text: string;
}

/**
 * Reads a corpus line by line, so that it may be larger than memory.
 * @throws FileError when the file cannot be read, DataError (file:line) for a wrong row.
 */
export async function* readPassages(path: string): AsyncGenerator<Passage> {
  const stream = createReadStream(path, "utf8");
  let line = 0;
  try {
    for await (const text of createInterface({ input: stream, crlfDelay: Infinity })) {
      line++;
      if (text.trim() !== "") yield parsePassage(text, `${path}:${line}`);
    }
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new FileError({ where: path, what: "cannot read the corpus", got: (error as Error).message }, { cause: error });
  } finally {
    stream.destroy();
  }
}

function parsePassage(line: string, where: string): Passage {
  let row: { id?: unknown; title?: unknown; text?: unknown; contents?: unknown } | null;
  try {
    row = JSON.parse(line) as typeof row;
  } catch (error) {
    throw new DataError({ where, what: "not JSON", expected: "one passage a line", got: (error as Error).message }, { cause: error });
  }
  const { id, title, text = row?.contents } = row ?? {};
  if (typeof id !== "string" && typeof id !== "number")
    throw new DataError({ where, what: "wrong passage id", expected: "a text or a number", got: JSON.stringify(id) ?? "nothing" });
  if (typeof text !== "string" || text.trim() === "")
    throw new DataError({ where, what: "wrong passage text", expected: "a text", got: JSON.stringify(text) ?? "nothing" });
  if (title !== undefined && title !== null && typeof title !== "string")
    throw new DataError({ where, what: "wrong passage title", expected: "a text", got: JSON.stringify(title) });
  return { id: String(id), text, ...(typeof title === "string" && title !== "" ? { title } : {}) };
}
