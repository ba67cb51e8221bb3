/**
 * A corpus: rows `{"id", "text", "title"?}`, one passage each; also `contents` for `text`, as in Search-R1's Wikipedia dump, whose first line is
 * the title in quotes. JSON Lines, a JSON list or parquet, plain or packed by gzip or zstd.
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
 * @param onRead - told how many bytes of the file have been read, every so often
 * @throws FileError when the file cannot be read, DataError (file:line) for a wrong row and for an id that occurs twice.
 */
export async function* readPassages(path: string, onRead?: (bytes: number) => void): AsyncGenerator<Passage> {
  const ids = new SeenIds();
  for await (const { value, row, where } of readRows(path, { what: "corpus", columns, onRead })) {
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
  const titled = typeof title === "string" && title !== "" ? { title, text } : row?.text === undefined ? splitContents(text) : { text };
  return { id: String(id), ...titled };
}

/** `"title"` and a line break before the text: how Search-R1's corpora hold both in one. */
const titleLine = /^"([^\n]+)"\r?\n/;

export function splitContents(contents: string): Pick<Passage, "title" | "text"> {
  const [line = "", title] = titleLine.exec(contents) ?? [];
  const text = contents.slice(line.length);
  return title === undefined || text.trim() === "" ? { text: contents } : { title, text };
}

/** The other way round. */
export function joinContents({ title, text }: Pick<Passage, "title" | "text">): string {
  return title === undefined ? text : `"${title}"\n${text}`;
}
