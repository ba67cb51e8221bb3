/** What a run or an evaluation has stored, for programs that read it: where it lies, and by which settings it was scored. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readYaml, resolveConfig, runConfigFile, savedSource, type Config, type Source } from "../config/index.ts";
import { findKey } from "../config/keys.ts";
import { treeOf } from "../config/tree.ts";
import { gridFiles } from "../evaluation/folder.ts";
import { outputFolders } from "../run/find-policy.ts";
import type { JudgedRow } from "../evaluation/judge.ts";
import { rewardNames } from "../rl/reward.ts";
import { attempt, ConfigError, FileError, show } from "../util/errors.ts";

/** What stands for the policy, which nothing here needs. */
export const noModel = "(no model)";

/** A folder, or that of a run by its name. @throws ConfigError where it is neither */
export function findStored(given: string, overrides: readonly Source[], program: string): string {
  const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  const { runs } = outputFolders(overrides);
  const found = given === "" ? undefined : [given, join(runs, given)].find(isFolder);
  if (found !== undefined) return found;
  throw new ConfigError({
    where: `${program} ${given}`,
    what: "there is no such folder, and no such run",
    expected: `a folder, or a run in ${runs}`,
  });
}

/** How the rollouts of a folder were made and scored, as far as it says so, and settings over it. */
export function storedConfig(folder: string, overrides: readonly Source[]): Config {
  const model: Source = { tree: { model: { policy: noModel } }, locate: () => undefined };
  const ofRun = join(folder, runConfigFile);
  const saved = existsSync(ofRun)
    ? readYaml(ofRun).map(({ tree }) => savedSource(tree, ofRun))
    : evaluationSettings(join(folder, gridFiles.settings));
  return resolveConfig([model, ...saved, ...overrides], "compare");
}

/** Of an evaluation, what its settings say of scores and of the room that a turn had. */
function evaluationSettings(file: string): Source[] {
  const text = existsSync(file) ? readFileSync(file, "utf8") : "{}";
  const values = attempt<unknown>(() => JSON.parse(text), null);
  if (typeof values !== "object" || values === null || Array.isArray(values))
    throw new FileError({ where: file, what: "is damaged", expected: "a JSON object", got: text.slice(0, 60) });
  return Object.entries(values)
    .filter(
      ([name]) =>
        (/^(reward|compat|evaluation)\./.test(name) || ["seed", "rollout.maxNewTokens"].includes(name)) && findKey(name) !== undefined,
    )
    .map(([name, value]) => ({ tree: treeOf(name.split("."), value), locate: () => file }));
}

/** @throws FileError for a row that is no rollout; `where` is its file and line */
export function checkStoredRow(row: Partial<JudgedRow>, where: string): void {
  const { question, searches, ids, lossMask, asides = [], text } = row;
  const isRight =
    typeof question?.question === "string" &&
    Array.isArray(question.goldenAnswers) &&
    [searches, ids, lossMask, asides].every(Array.isArray) &&
    typeof text === "string" &&
    "answer" in row;
  if (!isRight)
    throw new FileError({
      where,
      what: "is no stored rollout",
      expected: "question, answer, searches, ids, lossMask and text, as in judged.jsonl",
      got: Object.keys(row).slice(0, 8).join(", "),
    });
}

/** @throws FileError for a row that is no judgement */
export function checkJudgedRow(row: Partial<JudgedRow>, where: string): void {
  checkStoredRow(row, where);
  const bad = rewardNames.find((name) => !(typeof row[name] === "number" && row[name] >= 0 && row[name] <= 1));
  if (bad !== undefined) throw new FileError({ where, what: `has a wrong ${bad}`, expected: "a number from 0 to 1", got: show(row[bad]) });
  const missing = (["method", "engine"] as const).find((name) => typeof row[name] !== "string");
  if (missing !== undefined) throw new FileError({ where, what: `has no ${missing}`, expected: "a name", got: show(row[missing]) });
  if (row.when !== "before" && row.when !== "after")
    throw new FileError({ where, what: "says not when it was judged", expected: "when: before or after", got: show(row.when) });
}
