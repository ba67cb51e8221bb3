/**
 * The folder of an evaluation: what it was made with, what was judged so far. An evaluation that was killed goes on behind the last whole row; one that was
 * made with anything else that its rows depend on is refused.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { wholeRows } from "../log/whole-rows.ts";
import type { Question } from "../rl/trajectory.ts";
import { attempt, ConfigError, FileError, show } from "../util/errors.ts";
import type { JudgedRow } from "./judge.ts";

/** Names of its files. */
export const gridFiles = {
  settings: "settings.json",
  judged: "judged.jsonl",
  report: "evaluation.json",
  table: "table.md",
  picture: "table.svg",
  parts: "parts.jsonl",
  costs: "costs.json",
  coverage: "coverage.json",
  paid: "paid.log",
} as const;

/** What rows depend on, by name: values that JSON can hold. */
export type Identity = Readonly<Record<string, unknown>>;

/** Makes an empty folder of one that is there. @throws the system's error */
export function clearFolder(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const name of Object.values(gridFiles)) rmSync(join(folder, name), { force: true });
}

/**
 * Whether a folder holds an evaluation to go on with; false where it holds none.
 * @throws ConfigError where it was made with something else, naming what differs; FileError where it is damaged
 */
export function canResume(folder: string, identity: Identity): boolean {
  const file = join(folder, gridFiles.settings);
  if (!existsSync(file)) {
    if (!existsSync(join(folder, gridFiles.judged))) return false;
    const hint = "Name another folder, or leave out --resume to judge anew in this one.";
    throw new ConfigError({ where: `--resume (${folder})`, what: `holds ${gridFiles.judged}, and nothing that says of what`, hint });
  }
  const text = readFileSync(file, "utf8");
  const before = attempt<unknown>(() => JSON.parse(text), null);
  if (typeof before !== "object" || before === null || Array.isArray(before))
    throw new FileError({ where: file, what: "is damaged", expected: "a JSON object", got: text.slice(0, 60) });
  const there = before as Identity;
  const here = JSON.parse(JSON.stringify(identity)) as Identity;
  const differ = [...new Set([...Object.keys(there), ...Object.keys(here)])].filter(
    (name) => JSON.stringify(there[name]) !== JSON.stringify(here[name]),
  );
  if (differ.length === 0) return true;
  const named = differ.slice(0, 3).map((name) => `${name} ${show(there[name])}, here ${show(here[name])}`);
  const more = differ.length > 3 ? ` and ${differ.length - 3} more: ${differ.slice(3, 8).join(", ")}` : "";
  throw new ConfigError({
    where: `--resume (${folder})`,
    what: `the evaluation there was made with other settings: ${named.join("; ")}${more}`,
    hint: "Give the same ones, name another folder, or leave out --resume to judge anew in this one.",
  });
}

/**
 * The rows that are there, each looked at: whether it is the one that belongs in its place.
 * @param cells - names of the table's rows, in order
 * @throws FileError for one that does not
 */
export async function* judgedRows(
  folder: string,
  cells: readonly { readonly method: string; readonly engine: string }[],
  questions: readonly Question[],
): AsyncGenerator<JudgedRow> {
  const file = join(folder, gridFiles.judged);
  let place = 0;
  for await (const row of wholeRows<JudgedRow>(file)) {
    const cell = cells[Math.floor(place / questions.length)];
    const question = questions[place % questions.length];
    const at = `${file}:${++place}`;
    const got = attempt(() => `${row.method} with ${row.engine}, question ${row.question.dataSource} ${row.question.id}`, "another row");
    const expected =
      cell === undefined
        ? "no more rows"
        : `${cell.method} with ${cell.engine}, question ${question?.dataSource ?? ""} ${question?.id ?? ""}`;
    if (got !== expected)
      throw new FileError({
        where: at,
        what: "is not the row that belongs here",
        expected,
        got,
        hint: "The file was changed since it was written.",
      });
    yield row;
  }
}
