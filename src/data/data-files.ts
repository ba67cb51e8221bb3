/** The files that a setting of `data` names, and what their rows are called after. */
import { basename } from "node:path";

/** One file, several, or none. */
export type DataFiles = string | readonly string[] | null;

export function filesOf(files: DataFiles): readonly string[] {
  return files === null ? [] : typeof files === "string" ? [files] : files;
}

/** Names that say which part of a data set a file is, not which data set; `data` is a folder's. */
const part =
  /^(?:train|training|dev|develop|valid|validation|val|test|testing|eval|data|questions|default|partial)(?:[-_.]?\d+(?:-of-\d+)?|-of-\d+)*$|^\d+$/i;
/** A file in the Hub's cache. */
const snapshot = /(?:^|\/)datasets--[^/]+?--([^/]+)\/snapshots\/[0-9a-f]{40}\/(.*)$/;

/**
 * The data set that a file is of, for rows that do not say: `nq` for `nq/test.jsonl`, `bamboogle` for `bamboogle.jsonl.gz`; the name of its
 * repository for a file in the Hub's cache. Where the path has nothing but parts of data sets, the file's own name.
 */
export function dataSetOf(file: string): string {
  const path = file.replaceAll("\\", "/");
  const [, repository = null, inside = path] = snapshot.exec(path) ?? [];
  const folders = inside.split("/").filter((name) => name !== "" && name !== "." && name !== "..");
  const stem = withoutEndings(folders.pop() ?? file);
  const named = [stem, ...folders.reverse()].find((name) => !part.test(name));
  return repository !== null && named === undefined ? repository : (named ?? stem);
}

/** The id of a row that has none: the file's name and the row's number. */
export function rowId(file: string, row: number): string {
  return `${withoutEndings(basename(file))}-${row}`;
}

function withoutEndings(name: string): string {
  return name.replace(/(?:\.(?:jsonl?|ndjson|parquet|gz|zst|zstd))+$/i, "");
}
