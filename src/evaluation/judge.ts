/** Methods x engines x question sets: what an evaluation runs, and what it makes of each question. */
import type { AgentContext, Method } from "../agent/methods/method.ts";
import { withoutText } from "../agent/prompts.ts";
import type { RolloutAllOptions } from "../agent/rollout-all.ts";
import { Progress } from "../log/progress.ts";
import { searchWarnings } from "../rl/metrics.ts";
import type { Scores } from "../rl/reward.ts";
import type { Question, SearchTrajectory } from "../rl/trajectory.ts";
import { FirstSearch } from "../search/first-search.ts";
import type { Engine } from "../search/search-engine.ts";
import { mean } from "../util/stats.ts";
import { evaluate, summarise, type JudgedTrajectory } from "./evaluate.ts";
import { hotpotNote, isHotpot } from "./hotpot.ts";
import type { Evaluation, EvaluationRow, HopsRow, When } from "./report.ts";
import { measureRobustness, type RobustnessSummary } from "./robustness.ts";

export interface JudgeOptions {
  /** The method that is judged; how it searches is looked at beyond its rows. */
  readonly method: Method;
  /** Others with the same model, whose rows come first. */
  readonly baselines: readonly Method[];
  /** At least one. */
  readonly engines: readonly Engine[];
  /** A question set is all that have one `dataSource`. */
  readonly questions: readonly Question[];
  /** Greedy. */
  readonly context: Omit<AgentContext, "engine">;
  /** What rows call the model. */
  readonly model: string;
  readonly when: When;
  /** Training steps behind the policy; null where nobody knows. */
  readonly step: number | null;
  /** Of the bootstrap. */
  readonly seed: number;
  readonly samples: number;
  /** For the table of how the policy takes noise: simulators whose documents are meant to be useful, and noisy. Null leaves it out. */
  readonly simulated: { readonly useful: Engine; readonly noisy: Engine } | null;
  /** HotpotQA's own rule for yes and no, which is then said; false unless given. */
  readonly hotpotYesNo?: boolean;
  /** Called with each row of `judged.jsonl`, in the order of methods, engines and questions. */
  readonly onJudged?: (row: JudgedRow) => void;
  /** Gives it up. */
  readonly signal?: AbortSignal;
}

/** A row of `judged.jsonl`: one question by one method with one engine; the answer's scores, and the trajectory, field for field. */
export interface JudgedRow extends SearchTrajectory, Scores {
  readonly when: When;
  readonly method: string;
  readonly engine: string;
  readonly step: number | null;
}

/** @throws whatever a method or an engine throws, and the signal's reason. */
export async function judge(options: JudgeOptions): Promise<Evaluation> {
  const {
    method,
    baselines,
    engines,
    questions,
    context,
    model,
    when,
    step,
    seed,
    samples,
    simulated,
    onJudged,
    hotpotYesNo = false,
  } = options;
  const rows: EvaluationRow[] = [];
  let byHops: readonly HopsRow[] | null = null;
  if (hotpotYesNo && questions.some(isHotpot)) process.stdout.write(`${hotpotNote}\n`);
  for (const one of [...baselines, method]) {
    const searches = one.searches !== false;
    for (const engine of searches ? engines : engines.slice(0, 1)) {
      const label = `${one.name} ${when} training${searches && engines.length > 1 ? ` with ${engine.name}` : ""}:`;
      const named = { when, method: one.name, engine: searches ? engine.name : "none" };
      const judged = await shown(options, label, questions.length, (progress) =>
        evaluate(
          questions,
          one,
          { ...context, engine, prompts: one === method ? context.prompts : withoutText(context.prompts) },
          { ...progress, hotpotYesNo, onJudged: ({ trajectory, scores }) => onJudged?.({ ...named, step, ...scores, ...trajectory }) },
        ),
      );
      for (const line of searchWarnings(judged.map(({ trajectory }) => trajectory))) process.stdout.write(`warning: ${label} ${line}\n`);
      if (one === method) byHops ??= hopsOf(judged);
      for (const dataset of new Set(questions.map(({ dataSource }) => dataSource))) {
        const part = judged.filter(({ trajectory }) => trajectory.question.dataSource === dataset);
        rows.push({ method: one.name, model, when, engine: named.engine, dataset, ...summarise(part, { seed, samples }) });
      }
    }
  }
  return { rows, byHops: byHops ?? [], robustness: simulated === null ? [] : await robustness(options, simulated) };
}

/** Runs `work` behind a progress bar over `total` rollouts. */
async function shown<T>(
  { signal }: JudgeOptions,
  label: string,
  total: number,
  work: (options: RolloutAllOptions) => Promise<T>,
): Promise<T> {
  const progress = new Progress({ label, total, plainInterval: 15_000 });
  try {
    // The very first are too few to guess the end from.
    const onFinished = (_: unknown, finished: number): void => {
      if (finished >= total / 10) progress.update(finished);
    };
    return await work({ ...(signal === undefined ? {} : { signal }), onFinished });
  } finally {
    progress.finish();
  }
}

/** On one-hop questions (all, where rows do not say): a two-hop rollout searches again in any case. */
function robustness(options: JudgeOptions, { useful, noisy }: NonNullable<JudgeOptions["simulated"]>): Promise<RobustnessSummary[]> {
  const { method, questions, context, when } = options;
  const single = questions.filter(({ metadata }) => (metadata?.["hops"] ?? 1) === 1);
  const from = (first: Engine): AgentContext => ({ ...context, engine: new FirstSearch(first, useful) });
  return shown(options, `noise ${when} training:`, 2 * single.length, (progress) =>
    measureRobustness(single, method, from(noisy), from(useful), progress),
  );
}

/** By the hops that the questions say they take. */
function hopsOf(judged: readonly JudgedTrajectory[]): HopsRow[] {
  const of = ({ trajectory }: JudgedTrajectory): unknown => trajectory.question.metadata?.["hops"];
  const kinds = [...new Set(judged.map(of))].filter((hops) => typeof hops === "number").sort((a, b) => a - b);
  return kinds.map((hops) => {
    const part = judged.filter((row) => of(row) === hops);
    return {
      hops,
      n: part.length,
      f1: mean(part.map(({ scores }) => scores.f1)),
      searches: mean(part.map(({ trajectory }) => trajectory.searches.length)),
      enough: mean(part.map(({ trajectory }) => (trajectory.searches.length >= hops ? 1 : 0))),
    };
  });
}
