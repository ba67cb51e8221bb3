/** The runs of a folder, as their logs and states tell of them: to be listed, compared and removed. */
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { lstat, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { listFiles, removeFolderAtomic } from "../checkpoint/atomic.ts";
import { isHeld } from "../checkpoint/lock.ts";
import { listSteps } from "../checkpoint/run-state.ts";
import { changedKeys, isTree, runConfigFile, type Config, type Source } from "../config/index.ts";
import type { EvaluationRow } from "../evaluation/report.ts";
import type { MetricRow } from "../log/rows.ts";
import { ConfigError, FileError, ZeroSearchError } from "../util/errors.ts";
import { outputFolders, runConfig, runNames } from "./find-policy.ts";
import { runLockFile } from "./run-lock.ts";
import { statesFolder } from "./run.ts";

/** What is known of a run. */
export interface RunSummary {
  readonly name: string;
  /** When its folder was made: ISO 8601. */
  readonly started: string;
  /** Steps in its logs. */
  readonly steps: number;
  readonly totalSteps: number;
  /** The best validation F1, and its step; null without a validation. */
  readonly best: { readonly step: number; readonly f1: number } | null;
  /** F1 of the evaluation after training, over all questions, of the method that was trained. */
  readonly f1: number | null;
  /** Bytes of states and of the policy that it leaves. */
  readonly bytes: number;
  readonly state: "finished" | "under way" | "resumable" | "no state";
  /** The newest state's step; null where there is none. */
  readonly savedStep: number | null;
}

/** A run and what it was told and found. */
export interface RunDetails {
  readonly summary: RunSummary;
  readonly config: Config;
  readonly evaluation: readonly EvaluationRow[];
}

/** All runs of a folder, the oldest first, and those that cannot be read, with the reason. */
export async function listRuns(
  runs: string,
  overrides: readonly Source[],
): Promise<{ readonly runs: readonly RunSummary[]; readonly unreadable: readonly { readonly name: string; readonly why: string }[] }> {
  const found: RunSummary[] = [];
  const unreadable: { name: string; why: string }[] = [];
  for (const name of runNames(runs)) {
    try {
      found.push((await readRun(runs, name, overrides)).summary);
    } catch (error) {
      if (!(error instanceof ZeroSearchError)) throw error;
      unreadable.push({ name, why: error.message });
    }
  }
  return { runs: found.sort((a, b) => (a.started < b.started ? -1 : 1)), unreadable };
}

/** @throws ConfigError where there is no such run, FileError where its files are none of a run's */
export async function readRun(runs: string, name: string, overrides: readonly Source[]): Promise<RunDetails> {
  refusePaths(name);
  const config = runConfig({ runs, name }, overrides, "train");
  const folder = join(runs, name);
  const metrics = readMetrics(join(folder, "metrics.jsonl"));
  const evaluation = await readEvaluation(join(folder, "evaluation.json"));
  const states = statesFolder(config);
  const steps = metrics.at(-1)?.step ?? 0;
  const savedStep = (await listSteps(states)).at(-1) ?? null;
  const after = evaluation.filter(({ when }) => when === "after");
  const done = savedStep === config.train.steps && (config.data.test === null || after.length > 0);
  return {
    config,
    evaluation,
    summary: {
      name,
      started: startOf(folder),
      steps,
      totalSteps: config.train.steps,
      best: bestOf(metrics),
      f1: meanF1(after),
      bytes: await bytesBelow(states),
      state: (await isUnderWay(folder)) ? "under way" : done ? "finished" : savedStep === null ? "no state" : "resumable",
      savedStep,
    },
  };
}

export interface RunDifference {
  readonly key: string;
  /** In the order of the runs. */
  readonly values: readonly unknown[];
}

/** The settings in which runs differ; what they are called is no difference. */
export function differences(runs: readonly RunDetails[]): RunDifference[] {
  const [first, ...others] = runs.map(({ config }) => config);
  if (first === undefined) return [];
  const changes = others.map((config) => new Map(changedKeys(first, config).map(({ key, before, after }) => [key, { before, after }])));
  return [...new Set(changes.flatMap((one) => [...one.keys()]))]
    .filter((key) => key !== "name")
    .map((key) => {
      const before = changes.find((one) => one.has(key))?.get(key)?.before;
      return { key, values: [before, ...changes.map((one) => (one.has(key) ? one.get(key)?.after : before))] };
    });
}

/** What removing a run takes away. */
export interface Removal {
  readonly name: string;
  /** Its states, then its logs; those that are there. */
  readonly folders: readonly string[];
  readonly bytes: number;
}

/**
 * What would be removed of a run: its logs, and its states.
 * @throws ConfigError where there is no such run, a program is at work on it, or something lies among its states that no run leaves there
 */
export async function planRemoval(runs: string, name: string, overrides: readonly Source[]): Promise<Removal> {
  refusePaths(name);
  const logs = join(runs, name);
  const states = statesOf(runs, name, overrides);
  if (await isUnderWay(logs))
    throw new ConfigError({
      where: `run ${name}`,
      what: "is under way",
      hint: `Stop it first (Ctrl-C); its program holds ${join(logs, runLockFile)}, which is left only where another machine was switched off.`,
    });
  const foreign = entriesOf(states).find((entry) => !/^(step-\d{6,}|policy|policy-merged|\.tmp-.*)$/.test(entry));
  if (foreign !== undefined)
    throw new ConfigError({
      where: states,
      what: "holds what no run leaves there, so nothing is removed",
      expected: "states (step-000001) and policy",
      got: foreign,
    });
  const folders = [states, logs].filter((folder) => existsSync(folder));
  let bytes = 0;
  for (const folder of folders) bytes += await bytesBelow(folder);
  return { name, folders, bytes };
}

/** Where its configuration cannot be read, its states are looked for where they are by default. @throws ConfigError where there is no such run */
function statesOf(runs: string, name: string, overrides: readonly Source[]): string {
  try {
    return statesFolder(runConfig({ runs, name }, overrides, "train"));
  } catch (error) {
    if (!existsSync(join(runs, name, runConfigFile))) throw error;
    return join(outputFolders(overrides).checkpoints, name);
  }
}

/** Removes the folders, each all at once; a link is removed itself, not what it leads to. @throws FileError */
export async function removeRun({ folders }: Removal): Promise<void> {
  for (const folder of folders) {
    if ((await lstat(folder)).isSymbolicLink()) await rm(folder);
    else await removeFolderAtomic(folder);
  }
}

function refusePaths(name: string): void {
  if (!/[/\\]/.test(name) && name !== "" && name !== "." && name !== "..") return;
  throw new ConfigError({
    where: "zerosearch runs",
    what: "this is no name of a run",
    expected: "a name, as zerosearch runs lists it; output.runs=FOLDER looks elsewhere",
    got: name,
  });
}

function isUnderWay(folder: string): Promise<boolean> {
  return isHeld(join(folder, runLockFile));
}

function entriesOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** The oldest time that the file system knows of a run's folder and files: a resumed run writes its configuration anew. */
function startOf(folder: string): string {
  const paths = [folder, ...readdirSync(folder).map((name) => join(folder, name))];
  const times = paths.flatMap((path) => {
    const { birthtime, mtime } = lstatSync(path);
    return [birthtime, mtime];
  });
  // Where a file system keeps no times of birth, they are 0.
  const known = times.filter((time) => time.getTime() > 0);
  return known.reduce((first, time) => (time < first ? time : first)).toISOString();
}

/** Rows of metrics, none where there is no file; a line that a killed program left half written is none. */
export function readMetrics(file: string): MetricRow[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line): MetricRow[] => {
      try {
        const row: unknown = JSON.parse(line);
        return isTree(row) && typeof row["step"] === "number" ? [row as MetricRow] : [];
      } catch {
        return [];
      }
    });
}

function bestOf(metrics: readonly MetricRow[]): RunSummary["best"] {
  let best: RunSummary["best"] = null;
  for (const { step, "validation/f1": f1 } of metrics) if (typeof f1 === "number" && (best === null || f1 > best.f1)) best = { step, f1 };
  return best;
}

async function readEvaluation(file: string): Promise<readonly EvaluationRow[]> {
  if (!existsSync(file)) return [];
  const wrong = (what: string): FileError => new FileError({ where: file, what, expected: "evaluation.json as a run writes it" });
  let rows: unknown;
  try {
    rows = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw wrong(`cannot be read: ${(cause as Error).message}`);
  }
  if (!Array.isArray(rows) || rows.some((row) => !isTree(row) || typeof row["f1"] !== "number" || typeof row["n"] !== "number"))
    throw wrong("is no list of scores");
  return rows as EvaluationRow[];
}

/** Over all questions, of the method that was trained: its rows come last. */
function meanF1(rows: readonly EvaluationRow[]): number | null {
  const own = rows.filter(({ method }) => method === rows.at(-1)?.method);
  const n = own.reduce((sum, row) => sum + row.n, 0);
  return n === 0 ? null : own.reduce((sum, row) => sum + row.f1 * row.n, 0) / n;
}

async function bytesBelow(folder: string): Promise<number> {
  if (!existsSync(folder)) return 0;
  // A run under way deletes states meanwhile.
  return (await listFiles(folder)).reduce((sum, file) => sum + (statSync(join(folder, file), { throwIfNoEntry: false })?.size ?? 0), 0);
}
