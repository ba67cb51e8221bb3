/** How a run is judged: validation on questions that choose the best state, and the evaluation before and after with a real engine. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { methods } from "../agent/methods/index.ts";
import { writeFileAtomic } from "../checkpoint/atomic.ts";
import { evaluate, summarise } from "../evaluation/evaluate.ts";
import { judge, type JudgedRow } from "../evaluation/judge.ts";
import { documentedRows, evaluationJson, evaluationText, type Evaluation, type When } from "../evaluation/report.ts";
import { JsonLines, truncateAfterStep } from "../log/json-lines.ts";
import type { SearchEngine } from "../search/search-engine.ts";
import { evaluationContext } from "../setup/open-agents.ts";
import type { Model } from "../setup/open-model.ts";
import { partingNote } from "./parting-note.ts";
import { restorePolicy, savePolicy } from "./run-states.ts";
import type { StepResult, TrainingRun } from "./training-run.ts";

export interface Validation {
  readonly f1: number;
  readonly searches: number;
}

const evaluationFile = "evaluation.json";
const detailsFile = "evaluation-details.json";
const judgedFile = "judged.jsonl";

/** Judges the policy as it starts. A resumed run that has its rows keeps them. Null without test questions or corpus. */
export async function evaluateBefore(run: TrainingRun): Promise<Evaluation | null> {
  const details = join(run.logFolder, detailsFile);
  if (existsSync(details)) return (JSON.parse(readFileSync(details, "utf8")) as { before: Evaluation }).before;
  const before = await judgeRun(run, "before");
  if (before !== null) await write(run, { before });
  return before;
}

/** Judges the best state, prints the tables, and leaves the best policy as a folder to be used. */
export async function evaluateAfter(run: TrainingRun, before: Evaluation | null): Promise<void> {
  run.endProgress();
  const { best, validations } = run.memory;
  if (best !== null && best.step !== run.done) await restorePolicy(run.folder, best.step, run.policy);
  const policy = join(run.folder, "policy");
  await savePolicy(run.policy, policy, run.config.output.dtype);
  const after = await judgeRun(run, "after");
  if (after !== null && before !== null) {
    await write(run, { before, after });
    run.scores = documentedRows([...before.rows, ...after.rows]);
    await run.writeReceipt();
    run.say(evaluationText([before, after], run.data.test));
  }
  const note = partingNote(validations);
  if (best !== null) run.say(`\nBest of the validations: step ${best.step}, F1 ${best.score.toFixed(3)}.`);
  if (note !== undefined) run.say(note);
  run.say(`The policy: ${policy}${whatItIs(run.policy)}. Logs and evaluation.json: ${run.logFolder}.`);
  if (run.policy.adapter !== undefined) run.say(`As a model of its own: ${mergeCommand(run.policy, policy)}`);
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
 * Validates where it is due, remembers the best. Ctrl-C does not cut it short: a step is logged with its validation or not at all, so
 * that a run that goes on is the run that was never stopped.
 */
export async function validate(run: TrainingRun, step: number, { metrics }: StepResult): Promise<Validation | null> {
  const { validateEvery, steps } = run.config.train;
  const { memory, data } = run;
  memory.since.steps++;
  memory.since.reward += metrics["reward/mean"] ?? 0;
  memory.since.noise += metrics["curriculum/noise_probability"] ?? 0;
  if (data.validation.length === 0 || (step % validateEvery !== 0 && step !== steps)) return null;
  const judged = await evaluate(data.validation, methods.zerosearch, evaluationContext(run.context, data.engine as SearchEngine), {
    onFinished: run.showing("validation", data.validation.length),
  });
  run.generator.takeCounts();
  run.endpoint?.takeCounts();
  const { f1, searches } = summarise(judged, { seed: run.config.seed, samples: 100 });
  const { since } = memory;
  memory.validations.push({ step, simulatedReward: since.reward / since.steps, noise: since.noise / since.steps, realF1: f1 });
  memory.since = { steps: 0, reward: 0, noise: 0 };
  if (memory.best === null || f1 > memory.best.score) memory.best = { step, score: f1 };
  return { f1, searches };
}

/** Null without test questions. The rows of `judged.jsonl` from before training are of step 0; those that an earlier program left are replaced. */
async function judgeRun(run: TrainingRun, when: When): Promise<Evaluation | null> {
  const { config, data, policy, context, simulate, interrupted } = run;
  if (data.test.length === 0) return null;
  const { baselines, robustness, bootstrapSamples } = config.evaluation;
  const file = join(run.logFolder, judgedFile);
  truncateAfterStep(file, when === "before" ? -1 : 0);
  const log = new JsonLines<JudgedRow>(file);
  try {
    const engine = data.engine as SearchEngine;
    const evaluation = await judge({
      method: methods.zerosearch,
      baselines: baselines ? [methods.direct, methods.rag] : [],
      engines: [engine],
      questions: data.test,
      context: evaluationContext(context, engine),
      model: basename(policy.source),
      when,
      step: when === "before" ? 0 : (run.memory.best?.step ?? run.done),
      seed: config.seed,
      samples: bootstrapSamples,
      simulated: robustness ? { useful: simulate(0), noisy: simulate(1) } : null,
      onJudged: (row) => log.append([row]),
      signal: interrupted,
    });
    log.sync();
    return evaluation;
  } finally {
    log.close();
    run.generator.takeCounts();
    run.endpoint?.takeCounts();
  }
}

async function write(run: TrainingRun, { before, after }: { readonly before: Evaluation; readonly after?: Evaluation }): Promise<void> {
  await writeFileAtomic(join(run.logFolder, evaluationFile), evaluationJson([...before.rows, ...(after?.rows ?? [])]));
  await writeFileAtomic(join(run.logFolder, detailsFile), `${JSON.stringify({ before, after }, null, 1)}\n`);
}
