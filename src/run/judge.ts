/** How a run is judged: validation on questions that choose the best state, and the evaluation before and after with a real engine. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { evaluate, summarise, type JudgedTrajectory } from "../agent/evaluate.ts";
import { direct } from "../agent/methods/direct.ts";
import type { AgentContext, Method } from "../agent/methods/method.ts";
import { rag } from "../agent/methods/rag.ts";
import { zerosearch } from "../agent/methods/zerosearch.ts";
import { measureRobustness, type RobustnessSummary } from "../agent/robustness.ts";
import type { RolloutAllOptions } from "../agent/rollout-all.ts";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { Progress } from "../log/progress.ts";
import { evaluationJson, evaluationTable, partingNote, type EvaluationRow } from "../log/report.ts";
import { formatTable } from "../log/table.ts";
import { scoreAnswer } from "../rl/reward.ts";
import type { Question } from "../rl/trajectory.ts";
import { FirstSearch } from "../search/first-search.ts";
import type { SearchEngine } from "../search/search-engine.ts";
import { mean } from "../util/stats.ts";
import { evaluationContext } from "../setup/open-agents.ts";
import type { Model } from "../setup/open-model.ts";
import type { Journal, Validation } from "./journal.ts";
import { savePolicy } from "./policy-files.ts";
import { logFolder, type Run, type StepResult } from "./run.ts";
import type { States } from "./states.ts";

/** Rows, and what is shown beside them. */
export interface Evaluation {
  readonly rows: readonly EvaluationRow[];
  readonly byHops: readonly HopsRow[];
  readonly robustness: readonly RobustnessSummary[];
}

interface HopsRow {
  readonly hops: number;
  readonly n: number;
  readonly f1: number;
  readonly searches: number;
  /** Share of questions with at least as many searches as hops. */
  readonly enough: number;
}

const evaluationFile = "evaluation.json";
const detailsFile = "evaluation-details.json";

/** Judges the policy as it starts. A resumed run that has its rows keeps them. Null without test questions or corpus. */
export async function evaluateBefore(run: Run): Promise<Evaluation | null> {
  const details = join(logFolder(run.config), detailsFile);
  if (existsSync(details)) return (JSON.parse(readFileSync(details, "utf8")) as { before: Evaluation }).before;
  const before = await judge(run, "before");
  if (before !== null) await write(run, { before });
  return before;
}

/** Judges the best state, prints the tables, and leaves the best policy as a folder to be used. */
export async function evaluateAfter({ run, journal, states }: TrainingParts, before: Evaluation | null): Promise<void> {
  journal.endProgress();
  const { best, validations } = journal.history;
  if (best !== null && best.step !== journal.done) await states.restorePolicy(best.step);
  const policy = join(states.folder, "policy");
  await savePolicy(run.policy, policy, run.config.output.dtype);
  const after = await judge(run, "after");
  if (after !== null && before !== null) {
    await write(run, { before, after });
    await journal.noteScores(documentedRows([...before.rows, ...after.rows]));
    journal.say(evaluationText([before, after], run.data.test));
  }
  const note = partingNote(validations);
  if (best !== null) journal.say(`\nBest of the validations: step ${best.step}, F1 ${best.score.toFixed(3)}.`);
  if (note !== undefined) journal.say(note);
  journal.say(`The policy: ${policy}${whatItIs(run.policy)}. Logs and evaluation.json: ${journal.folder}.`);
  if (run.policy.adapter !== undefined) journal.say(`As a model of its own: ${mergeCommand(run.policy, policy)}`);
}

/** A run with its journal and its states. */
export interface TrainingParts {
  readonly run: Run;
  readonly journal: Journal;
  readonly states: States;
}

function whatItIs({ adapter, source }: Model): string {
  return adapter === undefined ? "" : `, a LoRA adapter on ${source}`;
}

/** The command that merges an adapter into a copy of its model. */
function mergeCommand({ source, commit }: Model, adapter: string): string {
  const base = commit === undefined ? source : `${source}@${commit}`;
  return `npx zerosearch export --from ${base} --adapter ${adapter} --to ${adapter}-merged`;
}

/**
 * Validates where it is due. The signal does not cut it short: a step is logged with its validation or not at all, so that a run that
 * goes on is the run that was never stopped.
 */
export async function validate({ run, journal }: Omit<TrainingParts, "states">, { step }: StepResult): Promise<Validation | null> {
  const { validateEvery, steps } = run.config.train;
  const { validation } = run.data;
  if (validation.length === 0 || (step % validateEvery !== 0 && step !== steps)) return null;
  const judged = await evaluate(validation, zerosearch, realContext(run), { onFinished: journal.showing("validation", validation.length) });
  run.generator.takeCounts();
  run.endpoint?.takeCounts();
  const { f1, searches } = summarise(judged, { seed: run.config.seed, samples: 100 });
  return { f1, searches };
}

/** What judging needs of a run. */
export type Judged = Pick<Run, "config" | "policy" | "generator" | "context" | "simulate" | "endpoint" | "data" | "signal">;

/** Evaluates every method on the test questions, and how the policy takes noise. Null without test questions. */
export async function judge(run: Judged, when: "before" | "after"): Promise<Evaluation | null> {
  const {
    config,
    data: { test },
  } = run;
  if (test.length === 0) return null;
  const methods: readonly Method[] = config.evaluation.baselines ? [direct, rag, zerosearch] : [zerosearch];
  const rows: EvaluationRow[] = [];
  let searched: readonly JudgedTrajectory[] = [];
  for (const method of methods) {
    const judged = await shown(run, `${method.name} ${when} training:`, test.length, (options) =>
      evaluate(test, method, realContext(run), options),
    );
    if (method === zerosearch) searched = judged;
    for (const dataset of new Set(test.map(({ dataSource }) => dataSource))) {
      const part = judged.filter(({ trajectory }) => trajectory.question.dataSource === dataset);
      const summary = summarise(part, { seed: config.seed, samples: config.evaluation.bootstrapSamples });
      rows.push({
        method: method.name,
        model: basename(run.policy.source),
        when,
        engine: method === direct ? "none" : config.evaluation.engine,
        dataset,
        ...summary,
      });
    }
  }
  const evaluation = { rows, byHops: byHops(searched), robustness: config.evaluation.robustness ? await robustness(run, when) : [] };
  run.generator.takeCounts();
  run.endpoint?.takeCounts();
  return evaluation;
}

/** Runs `work` behind a progress bar over `total` rollouts; Ctrl-C gives it up. */
async function shown<T>(run: Judged, label: string, total: number, work: (options: RolloutAllOptions) => Promise<T>): Promise<T> {
  const progress = new Progress({ label, total, plainInterval: 15_000 });
  try {
    // The very first are too few to guess the end from.
    const onFinished = (_: unknown, finished: number): void => {
      if (finished >= total / 10) progress.update(finished);
    };
    return await work({ signal: run.signal, onFinished });
  } finally {
    progress.finish();
  }
}

function realContext({ context, data }: Judged): AgentContext {
  return evaluationContext(context, data.engine as SearchEngine);
}

/** On one-hop questions (all, where rows do not say): a two-hop rollout searches again in any case. */
async function robustness(run: Judged, when: string): Promise<RobustnessSummary[]> {
  const single = run.data.test.filter(({ metadata }) => (metadata?.["hops"] ?? 1) === 1);
  const useful = run.simulate(0),
    noisy = run.simulate(1);
  const context = (first: SearchEngine): AgentContext => evaluationContext(run.context, new FirstSearch(first, useful));
  return shown(run, `noise ${when} training:`, 2 * single.length, (options) =>
    measureRobustness(single, zerosearch, context(noisy), context(useful), options),
  );
}

function byHops(judged: readonly JudgedTrajectory[]): HopsRow[] {
  const hopsOf = ({ trajectory }: JudgedTrajectory): unknown => trajectory.question.metadata?.["hops"];
  const kinds = [...new Set(judged.map(hopsOf))].filter((hops) => typeof hops === "number").sort((a, b) => a - b);
  return kinds.map((hops) => {
    const part = judged.filter((row) => hopsOf(row) === hops);
    return {
      hops,
      n: part.length,
      f1: mean(part.map(({ scores }) => scores.f1)),
      searches: mean(part.map(({ trajectory }) => trajectory.searches.length)),
      enough: mean(part.map(({ trajectory }) => (trajectory.searches.length >= hops ? 1 : 0))),
    };
  });
}

/** All tables of one or more evaluations of the same questions. */
export function evaluationText(evaluations: readonly Evaluation[], questions: readonly Question[]): string {
  const tables = [
    evaluationTable(evaluations.flatMap(({ rows }) => rows)),
    ...(evaluations.some(({ byHops }) => byHops.length > 0) ? [hopsTable(evaluations)] : []),
    ...(evaluations.some((one) => one.robustness.length > 0) ? [robustnessTable(evaluations)] : []),
    ...guessing(questions),
  ];
  return `\n${tables.join("\n\n")}`;
}

/** When an evaluation was made: its rows say so. */
function whenOf({ rows }: Evaluation): string {
  return rows[0]?.when ?? "";
}

function hopsTable(evaluations: readonly Evaluation[]): string {
  const rows = evaluations.flatMap((evaluation) => evaluation.byHops.map((row) => ({ when: whenOf(evaluation), ...row })));
  return formatTable(
    [
      { title: "hops", value: (row) => row.hops },
      { title: "when", value: (row) => row.when },
      { title: "n", value: (row) => row.n },
      { title: "F1", value: (row) => row.f1.toFixed(3) },
      { title: "searches", value: (row) => row.searches.toFixed(2) },
      { title: "as many searches as hops", value: (row) => `${(100 * row.enough).toFixed(0)} %` },
    ],
    rows,
  );
}

function robustnessTable(evaluations: readonly Evaluation[]): string {
  const rows = evaluations.flatMap((evaluation) => evaluation.robustness.map((row) => ({ when: whenOf(evaluation), ...row })));
  return formatTable(
    [
      { title: "first documents hold", value: (row) => row.first },
      { title: "when", value: (row) => row.when },
      { title: "n", value: (row) => row.n },
      { title: "searched again", value: (row) => `${(100 * row.again).toFixed(0)} %` },
      { title: "F1", value: (row) => row.f1.toFixed(3) },
    ],
    rows,
  );
}

/** What always giving a relation's commonest answer would score, where the questions say their relation. */
function guessing(questions: readonly Question[]): string[] {
  const relationOf = ({ metadata }: Question): unknown => metadata?.["relation"];
  if (questions.length === 0 || questions.some((question) => typeof relationOf(question) !== "string")) return [];
  const f1 = [...new Set(questions.map(relationOf))].flatMap((relation) => {
    const asked = questions.filter((question) => relationOf(question) === relation);
    const counts = new Map<string, number>();
    for (const { goldenAnswers } of asked) for (const answer of new Set(goldenAnswers)) counts.set(answer, (counts.get(answer) ?? 0) + 1);
    const [commonest] = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), ["", 0]);
    return asked.map(({ goldenAnswers }) => scoreAnswer(commonest, goldenAnswers).f1);
  });
  return [`Always giving a relation's commonest answer would score F1 ${mean(f1).toFixed(3)}.`];
}

/** `evaluation.json` has exactly the documented fields; the rest is in the file of details. */
async function write(run: Run, evaluation: { readonly before: Evaluation; readonly after?: Evaluation }): Promise<void> {
  const rows = documentedRows([...evaluation.before.rows, ...(evaluation.after?.rows ?? [])]);
  await writeFileAtomic(join(logFolder(run.config), evaluationFile), evaluationJson(rows));
  await writeFileAtomic(join(logFolder(run.config), detailsFile), `${JSON.stringify(evaluation, null, 1)}\n`);
}

/** Rows with the fields of `evaluation.json`. */
export function documentedRows(rows: readonly EvaluationRow[]): EvaluationRow[] {
  return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => key !== "valid")) as unknown as EvaluationRow);
}
