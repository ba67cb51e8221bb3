/** How a run is judged: validation on questions that choose the best state, and the evaluation before and after with a real engine. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { methods } from "../agent/methods/index.ts";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import type { Config } from "../config/index.ts";
import { evaluate, summarise } from "../evaluation/evaluate.ts";
import { judge, type JudgedRow, type JudgeOptions } from "../evaluation/judge.ts";
import { documentedRows, evaluationJson, evaluationText, type Evaluation, type When } from "../evaluation/report.ts";
import { JsonLines, truncateAfterStep } from "../log/json-lines.ts";
import { steadyClock } from "../log/progress.ts";
import { searchWarnings } from "../rl/metrics.ts";
import { evaluationContext } from "../setup/open-agents.ts";
import type { Model } from "../setup/open-model.ts";
import { collectionOf, costText, noteCosts, readCosts } from "./costs.ts";
import type { Journal, Validation } from "./journal.ts";
import { partingNote } from "./parting-note.ts";
import { savePolicy } from "./policy-files.ts";
import { logFolder, type Run, type StepResult } from "./run.ts";
import type { States } from "./states.ts";

export const evaluationFile = "evaluation.json";
const detailsFile = "evaluation-details.json";
export const judgedFile = "judged.jsonl";

/** Judges the policy as it starts. A resumed run that has its rows keeps them. Null without test questions or corpus. */
export async function evaluateBefore(run: Run): Promise<Evaluation | null> {
  const details = join(logFolder(run.config), detailsFile);
  if (existsSync(details)) return (JSON.parse(readFileSync(details, "utf8")) as { before: Evaluation }).before;
  const before = await judgeRun(run, "before", 0);
  if (before !== null) await write(run, { before });
  return before;
}

/** Judges the best state, prints the tables, and leaves the best policy as a folder to be used. */
export async function evaluateAfter({ run, journal, states }: TrainingParts, before: Evaluation | null): Promise<void> {
  journal.endProgress();
  const { validations } = journal.history;
  const found = journal.history.best;
  const lost = found !== null && found.step !== journal.done && !(await states.has(found.step));
  if (lost)
    journal.say(
      `warning: the best state, of step ${found.step}, is not in ${states.folder}; the policy is that of the last step. Where it was kept elsewhere, copy it there and go on with --resume.`,
    );
  const best = lost ? null : found;
  if (best !== null && best.step !== journal.done) await states.restorePolicy(best.step);
  const policy = join(states.folder, "policy");
  await savePolicy(run.policy, policy, run.config.output.dtype);
  const after = await judgeRun(run, "after", best?.step ?? journal.done);
  if (after !== null && before !== null) {
    await write(run, { before, after });
    await journal.noteScores(documentedRows([...before.rows, ...after.rows]));
    journal.say(evaluationText([before, after], run.data.test, run.context.rules));
  }
  const note = partingNote(validations);
  if (best !== null) journal.say(`\nBest of the validations: step ${best.step}, F1 ${best.score.toFixed(3)}.`);
  if (note !== undefined) journal.say(note);
  journal.say(`The policy: ${policy}${whatItIs(run.policy)}. Logs and evaluation.json: ${journal.folder}.`);
  const cost = costText(run.config, readCosts(run.config), collectionOf(run.config));
  if (cost !== "") journal.say(`\n${cost}`);
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
  const from = steadyClock();
  const judged = await evaluate(
    validation,
    run.method,
    evaluationContext(run.config, run.context, run.engines.get(run.config.evaluation.engine)),
    {
      onFinished: journal.showing("validation", validation.length),
    },
  );
  run.generator.takeCounts();
  noteCosts(run.config, { part: "validation", step, seconds: since(from), simulated: 0, counts: run.engines.takeCounts() });
  const trajectories = judged.map(({ trajectory }) => trajectory);
  for (const line of searchWarnings(trajectories)) journal.say(`warning: validation after step ${step}: ${line}`);
  const { f1, searches } = summarise(judged, { seed: run.config.seed, samples: 100 });
  return { f1, searches };
}

/** What rows call a model. */
function modelName({ source }: Pick<Model, "source">): string {
  return basename(source);
}

/** What a configuration says of judging, for a run and for `zerosearch evaluate`. `engines` are those of the configuration. */
export function judgeSettings(
  { evaluation: { baselines, robustness, bootstrapSamples, engine, hotpotYesNo }, seed }: Config,
  { method, engines, name }: Pick<Run, "method" | "engines"> & { readonly name: string },
): Omit<JudgeOptions, "questions" | "context" | "when" | "step"> {
  const { simulate } = engines;
  return {
    method,
    baselines: baselines ? [methods.direct, methods.rag].filter((one) => one !== method) : [],
    engines: [engines.get(engine)],
    model: name,
    seed,
    samples: bootstrapSamples,
    hotpotYesNo,
    simulated: robustness && simulate !== null ? { useful: simulate(0), noisy: simulate(1) } : null,
  };
}

/**
 * Null without test questions. `step`: the training steps behind the policy. Rows of `judged.jsonl` that an earlier program left of this
 * part are replaced: those before training are of step 0.
 */
async function judgeRun(run: Run, when: When, step: number): Promise<Evaluation | null> {
  const { config, data, context, engines, signal } = run;
  if (data.test.length === 0) return null;
  const file = join(logFolder(config), judgedFile);
  truncateAfterStep(file, when === "before" ? -1 : 0);
  const log = new JsonLines<JudgedRow>(file);
  const from = steadyClock();
  try {
    const evaluation = await judge({
      ...judgeSettings(config, { ...run, name: modelName(run.policy) }),
      questions: data.test,
      context: evaluationContext(config, context, engines.get(config.evaluation.engine)),
      when,
      step,
      onJudged: (row) => log.append([row]),
      signal,
    });
    log.sync();
    return evaluation;
  } finally {
    log.close();
    run.generator.takeCounts();
    noteCosts(config, { part: "evaluation", step, seconds: since(from), simulated: 0, counts: engines.takeCounts() });
  }
}

async function write({ config }: Run, { before, after }: { readonly before: Evaluation; readonly after?: Evaluation }): Promise<void> {
  const folder = logFolder(config);
  await writeFileAtomic(join(folder, evaluationFile), evaluationJson([...before.rows, ...(after?.rows ?? [])]));
  await writeFileAtomic(join(folder, detailsFile), `${JSON.stringify({ before, after }, null, 1)}\n`);
}

/** Seconds since a time of the steady clock. */
function since(from: number): number {
  return (steadyClock() - from) / 1000;
}
