/** `zerosearch rescore`: what a run or an evaluation has stored, scored by another metric; nothing is generated. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { readOverride, type ArgumentSpec, type Config } from "../config/index.ts";
import { gridFiles } from "../evaluation/folder.ts";
import { hotpotScores, isHotpot } from "../evaluation/hotpot.ts";
import { Rescored, rescoredText, type RescoredRow } from "../evaluation/rescore.ts";
import type { JudgedRow } from "../evaluation/judge.ts";
import { Progress, steadyClock } from "../log/progress.ts";
import type { RolloutRow } from "../log/rows.ts";
import { wholeRows } from "../log/whole-rows.ts";
import { rewardNames, scoredAnswer, type RewardName } from "../rl/reward.ts";
import type { SearchTrajectory } from "../rl/trajectory.ts";
import { costText } from "../run/costs.ts";
import { openReward, payAll, type Reward } from "../run/reward.ts";
import { Closing } from "../setup/closing.ts";
import { scoreRules } from "../setup/open-agents.ts";
import { ConfigError, DataError, FileError } from "../util/errors.ts";
import { readArguments, say, untilInterrupted } from "./program.ts";
import { openAnswerJudge } from "./rescore/judge.ts";
import { checkStoredRow, findStored, storedConfig } from "./stored.ts";

const spec: ArgumentSpec = {
  program: "zerosearch rescore",
  summary:
    "Scores stored rollouts (rollouts.jsonl) and judgements (judged.jsonl) anew, without generating, by the settings that they were made with: reward.normalizer, compat, evaluation.hotpotYesNo.",
  words: ["RUN_OR_FOLDER"],
  options: {
    metric: {
      value: "SCORE",
      doc: "em, subem, f1, a sum of terms such as f1 + 0.2*format, a module ./mine.js that exports a reward, or judge: a model, by the section judge (f1).",
    },
    replies: {
      value: "FILE",
      doc: "Keeps what the judge replies there, as it comes; what the file holds already is not asked for again.",
    },
    json: { value: "FILE", doc: "Writes the tables there as JSON." },
    rows: { value: "FILE", doc: "Writes a line for each rollout there: which it is, its answer, the stored score and the new one." },
  },
  settings: true,
};

/** Rollouts that are scored at a time. */
const batchSize = 256;
/** Rows of the table of a run's training. */
const stretches = 10;

export async function main(argv: readonly string[]): Promise<void> {
  const read = readArguments(argv, spec, "\nExample: zerosearch rescore runs/my-run --metric em reward.normalizer=unicode\n");
  if (read === null) return;
  const { options, words, settings } = read;
  const [given] = words;
  if (given === undefined)
    throw new ConfigError({
      where: "zerosearch rescore",
      what: "needs what it is to score",
      expected: "a run by name, or the folder of a run or an evaluation",
    });
  const overrides = settings.map(readOverride);
  const folder = findStored(given, overrides, "zerosearch rescore");
  const config = storedConfig(folder, overrides);
  const metric = options.get("metric") ?? "f1";
  if (options.has("replies") && metric !== "judge")
    throw new ConfigError({ where: "--replies", what: "are a judge's", expected: "--metric judge" });
  await untilInterrupted((signal) => {
    const closing = new Closing();
    return closing.after(async () => {
      const from = steadyClock();
      const judge = metric === "judge" ? await openAnswerJudge(config, closing, signal, options.get("replies")) : null;
      const reward = judge?.reward ?? (await rewardOf(metric, config));
      const check = (): void => judge?.check();
      await rescore(folder, { config, metric, reward, check, json: options.get("json"), rows: options.get("rows"), signal });
      const counts = judge?.takeCounts() ?? {};
      const cost = judge === null ? "" : costText(config, { seconds: (steadyClock() - from) / 1000, simulated: 0, counts });
      if (cost !== "") say(`\n${cost}`);
    });
  });
}

/** @throws ConfigError naming `--metric` */
async function rewardOf(metric: string, { evaluation }: Config): Promise<Reward> {
  try {
    const reward = await openReward(metric, "--metric");
    if (metric !== "f1" || !evaluation.hotpotYesNo) return reward;
    const official: Reward = (trajectory, rules) =>
      isHotpot(trajectory.question)
        ? hotpotScores(scoredAnswer(trajectory), trajectory.question.goldenAnswers, rules).f1
        : reward(trajectory, rules);
    return official;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError({ ...error.complaint, where: error.complaint.where.replace(/^reward\.kind/, "--metric") }, { cause: error });
  }
}

interface RescoreOptions {
  readonly config: Config;
  readonly metric: string;
  readonly reward: Reward;
  /** After each batch. @throws what ends the scoring, and is no failed score */
  readonly check: () => void;
  readonly json: string | undefined;
  readonly rows: string | undefined;
  readonly signal: AbortSignal;
}

/** A stored row, whatever file it is of. */
type StoredRow = SearchTrajectory &
  Partial<Pick<JudgedRow, "when" | "method" | "engine" | RewardName>> &
  Partial<Pick<RolloutRow, "reward">> & { readonly step: number | null };

async function rescore(folder: string, options: RescoreOptions): Promise<void> {
  const { config, metric, json, rows } = options;
  const files = ["rollouts.jsonl", gridFiles.judged].map((name) => join(folder, name)).filter((file) => existsSync(file));
  if (files.length === 0)
    throw new FileError({
      where: folder,
      what: "holds nothing to score",
      expected: `rollouts.jsonl or ${gridFiles.judged}`,
      hint: "zerosearch evaluate --out FOLDER writes one; a run, both.",
    });
  say(
    `${metric}, by reward.normalizer=${config.reward.normalizer}${config.evaluation.hotpotYesNo ? ", HotpotQA by its own script's rule" : ""}`,
  );
  const tables: Record<string, RescoredRow[]> = {};
  const lines: string[] = [];
  for (const file of files) {
    const isTraining = file.endsWith("rollouts.jsonl");
    const rescored = new Rescored(metric);
    const steps = isTraining ? await lastStep(file) : 0;
    for await (const { row, scored } of scoredRows(file, options)) {
      const stored = storedScore(row, metric, isTraining, config);
      rescored.add({ group: isTraining ? { steps: stretch(row.step ?? 0, steps) } : judgedGroup(row), stored, scored });
      if (rows !== undefined) lines.push(JSON.stringify(rowLine(row, stored, scored)));
    }
    const found = rescored.rows({ seed: config.seed, samples: config.evaluation.bootstrapSamples });
    const name = isTraining ? "rollouts" : "judged";
    tables[name] = found;
    if (metric === "judge" && !isTraining) say(`\n${agreement(found)}`);
    const title = isTraining ? `stored reward (${config.reward.kind})` : `stored ${comparedWith(metric)}`;
    say(`\n${file}\n${found.length === 0 ? "holds no row" : rescoredText(found, title)}`);
  }
  if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify({ metric, ...tables }, null, 1)}\n`);
  if (rows !== undefined) await writeFileAtomic(rows, lines.map((line) => `${line}\n`).join(""));
}

function rowLine({ when, method, engine, step, key, question, answer }: StoredRow, stored: number | null, score: number | null): object {
  return { when, method, engine, step, key, id: question.id, dataSource: question.dataSource, answer, stored, score };
}

function judgedGroup({ when = "after", method = "", engine = "", question }: StoredRow): Record<string, string> {
  return { method, when, questions: question.dataSource, engine };
}

/** Null where nothing was stored that the metric can be compared with. */
function storedScore(row: StoredRow, metric: string, isTraining: boolean, { reward }: Config): number | null {
  if (isTraining) return metric === reward.kind || rewardNames.some((name) => name === metric) ? (row.reward ?? null) : null;
  const name = rewardNames.find((one) => one === comparedWith(metric));
  return name === undefined ? null : (row[name] ?? null);
}

/** The stored score that a metric is shown beside: a judge's, which is right or wrong, beside exact match. */
function comparedWith(metric: string): string {
  return metric === "judge" ? "em" : metric;
}

/** How often a judge says what exact match says. */
function agreement(rows: readonly RescoredRow[]): string {
  const judged = rows.reduce((sum, { n, failed }) => sum + n - failed, 0);
  const changed = rows.reduce((sum, row) => sum + row.changed, 0);
  if (judged === 0) return "The judge has judged nothing.";
  return `The judge agrees with EM on ${judged - changed} of ${judged} answers (${((100 * (judged - changed)) / judged).toFixed(1)} %).`;
}

/** Which of ten stretches of a run a step is in: "1-20". */
function stretch(step: number, last: number): string {
  const size = Math.max(1, Math.ceil(last / stretches));
  const from = Math.floor((Math.max(1, step) - 1) / size) * size + 1;
  const to = Math.min(last, from + size - 1);
  return from === to ? String(from) : `${from}-${to}`;
}

async function lastStep(file: string): Promise<number> {
  let last = 1;
  for await (const { step } of wholeRows<StoredRow>(file, { cut: false })) last = Math.max(last, step ?? 1);
  return last;
}

/** The rows of a file with their new scores, in batches. @throws FileError for a row that is no rollout */
async function* scoredRows(
  file: string,
  { config, metric, reward, check, signal }: RescoreOptions,
): AsyncGenerator<{ readonly row: StoredRow; readonly scored: number | null }> {
  const rules = scoreRules(config);
  const total = statSync(file).size / 2 ** 20;
  const progress = new Progress({ label: `scoring ${file}, MiB`, total, unit: "MiB", plainInterval: 15_000 });
  let batch: StoredRow[] = [];
  let place = 0;
  let failure: string | undefined;
  let some = false;
  const score = async (): Promise<{ row: StoredRow; scored: number | null }[]> => {
    // A search that failed ended a rollout: it has no score, as it had no reward.
    const timeoutSeconds = metric === "judge" ? 0 : config.reward.timeoutSeconds;
    const { rewards, unpaid } = await payAll(reward, batch, { rules, timeoutSeconds, allMayFail: true, signal });
    check();
    failure ??= unpaid[0]?.failure;
    some ||= unpaid.length < batch.length;
    const scored = batch.map((row, i) => ({ row, scored: rewards[i] ?? null }));
    batch = [];
    return scored;
  };
  try {
    for await (const row of wholeRows<StoredRow>(file, {
      cut: false,
      onRead: (bytes) => progress.update(Math.min(total, bytes / 2 ** 20)),
    })) {
      place++;
      checkStoredRow(row, `${file}:${place}`);
      if (batch.push(row) >= batchSize) yield* await score();
    }
    if (batch.length > 0) yield* await score();
    if (!some && failure !== undefined)
      throw new DataError({ where: `--metric ${metric}`, what: `fails for every rollout of ${file}: ${failure}` });
  } finally {
    progress.finish();
  }
}
