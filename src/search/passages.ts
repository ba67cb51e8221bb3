/**
 * A corpus: rows `{"id", "text", "title"?}`, one passage each; also `contents` for `text`, as in Search-R1's Wikipedia dump. JSON Lines, a JSON
 * list or parquet, plain or packed by gzip or zstd.
 */
import { readRows } from "../data/rows.ts";
import { SeenIds } from "../data/seen-ids.ts";
import { DataError, show } from "../util/errors.ts";

export interface Passage {
  readonly id: string;
  readonly title?: string;
  readonly text: string;
}

const columns = (names: readonly string[]): string[] => ["id", "title", "text", "contents"].filter((name) => names.includes(name));

/**
 * Reads a corpus row by row, so that it may be larger than memory; its ids are remembered.
 * @throws FileError when the file cannot be read, DataError (file:line) for a wrong row and for an id that occurs twice.
 */
export async function* readPassages(path: string): AsyncGenerator<Passage> {
  const ids = new SeenIds();
  for await (const { value, row, where } of readRows(path, { what: "corpus", columns })) {
    const passage = parsePassage(value, where);
    ids.add(passage.id, row, where);
    yield passage;
  }
}

function parsePassage(value: unknown, where: string): Passage {
  const row = (typeof value === "object" ? value : null) as { id?: unknown; title?: unknown; text?: unknown; contents?: unknown } | null;
  const { id, title } = row ?? {};
  const text = row?.text ?? row?.contents;
  if (typeof id !== "string" && typeof id !== "number")
    throw new DataError({ where, what: "wrong passage id", expected: "a text or a number", got: show(id) });
  if (typeof text !== "string" || text.trim() === "")
    throw new DataError({ where, what: "wrong passage text", expected: "a text", got: show(text) });
  if (title !== undefined && title !== null && typeof title !== "string")
    throw new DataError({ where, what: "wrong passage title", expected: "a text", got: show(title) });
  return { id: String(id), text, ...(typeof title === "string" && title !== "" ? { title } : {}) };
}
