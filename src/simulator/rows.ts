/** Rows that a stage has written so far, for its next start. */
import { existsSync, readFileSync, truncateSync } from "node:fs";
import { FileError } from "../util/errors.ts";

/**
 * The whole rows of a file of JSON lines; a row that a killed program left half written is cut off. None where there is no file.
 * @throws FileError for another row that is no JSON
 */
export function readWholeRows<Row>(file: string): Row[] {
  if (!existsSync(file)) return [];
  const data = readFileSync(file);
  const end = data.lastIndexOf(10) + 1;
  if (end < data.length) truncateSync(file, end);
  const rows: Row[] = [];
  for (let from = 0, line = 1; from < end; line++) {
    const to = data.indexOf(10, from);
    const text = data.toString("utf8", from, to);
    try {
      rows.push(JSON.parse(text) as Row);
    } catch (cause) {
      const hint = "Delete the line, or start again with --fresh.";
      throw new FileError({ where: `${file}:${line}`, what: "is no row", expected: "JSON", got: text.slice(0, 60), hint }, { cause });
    }
    from = to + 1;
  }
  return rows;
}
