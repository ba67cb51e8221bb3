/** What one folder has judged, read and checked. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { runConfigFile } from "../../config/index.ts";
import { gridFiles } from "../../evaluation/folder.ts";
import type { GridReport, ScoreRow } from "../../evaluation/grid-report.ts";
import { HealthCounter } from "../../evaluation/health.ts";
import { partKey, readParts, type Part } from "../../evaluation/join.ts";
import type { JudgedRow } from "../../evaluation/judge.ts";
import { wholeRows } from "../../log/whole-rows.ts";
import { scoreRules } from "../../setup/open-agents.ts";
import { attempt, FileError } from "../../util/errors.ts";
import { say } from "../program.ts";
import { checkJudgedRow, storedConfig } from "../stored.ts";

/**
 * The parts of a folder.
 * @param counters - of health, one for the parts of one name in all folders
 * @throws FileError where nothing was judged there, or what was is damaged or not all
 */
export async function readFolder(folder: string, counters: Map<string, HealthCounter>): Promise<Part[]> {
  const file = join(folder, gridFiles.judged);
  if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true)
    throw new FileError({
      where: folder,
      what: "holds nothing that was judged",
      expected: gridFiles.judged,
      hint: "A run that has ended has it, and what zerosearch evaluate --out FOLDER wrote.",
    });
  const config = storedConfig(folder, []);
  // Without its settings nobody knows how many tokens a turn might have had.
  const known = [runConfigFile, gridFiles.settings].some((name) => existsSync(join(folder, name)));
  const options = { maxNewTokens: known ? config.rollout.maxNewTokens : null, rules: scoreRules(config) };
  const parts = await readParts(checkedRows(file), folder, (part) => {
    const counter = counters.get(partKey(part)) ?? new HealthCounter(options);
    counters.set(partKey(part), counter);
    return counter;
  });
  checkWhole(folder, parts);
  return parts;
}

async function* checkedRows(file: string): AsyncGenerator<JudgedRow> {
  let line = 0;
  for await (const row of wholeRows<JudgedRow>(file, { cut: false })) {
    checkJudgedRow(row, `${file}:${++line}`);
    yield row;
  }
}

/** What an evaluation says of itself at its end, it must hold. @throws FileError */
function checkWhole(folder: string, parts: readonly Part[]): void {
  const report = reportOf(folder);
  if (report === null) {
    say(`note: ${folder} has no ${gridFiles.report}: it has not ended, and what it holds may not be all`);
    return;
  }
  const told = (Array.isArray(report) ? report : (report as Partial<GridReport>).rows) ?? [];
  for (const { method, engine, when, dataset, n } of told as readonly Partial<ScoreRow>[]) {
    const part = parts.find((one) => one.method === method && one.engine === engine && one.when === when);
    const count = [...(part?.rows.values() ?? [])].filter(({ question }) => question.dataSource === dataset).length;
    if (count === n) continue;
    throw new FileError({
      where: join(folder, gridFiles.judged),
      what: `holds ${count} rows of ${String(method)} with ${String(engine)} (${String(when)} training) on ${String(dataset)}`,
      expected: `${String(n)}, as ${gridFiles.report} has it`,
      hint: "One of the two files was changed since they were written.",
    });
  }
}

/** Its evaluation.json; null where there is none. @throws FileError for a damaged one */
function reportOf(folder: string): unknown {
  const file = join(folder, gridFiles.report);
  if (!existsSync(file)) return null;
  const text = readFileSync(file, "utf8");
  const report = attempt<unknown>(() => JSON.parse(text), null);
  if (typeof report === "object" && report !== null) return report;
  throw new FileError({ where: file, what: "is damaged", expected: "JSON, as an evaluation writes it", got: text.slice(0, 60) });
}

/** What the folder's own report calls its policy, or the folder. */
export function modelOf(folder: string): string {
  const report = reportOf(folder);
  const found = (Array.isArray(report) ? (report.at(-1) as unknown) : report) as { readonly model?: unknown } | null | undefined;
  return typeof found?.model === "string" ? found.model : folder;
}
