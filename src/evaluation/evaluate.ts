/** How well a policy answers with a search engine: every question once, greedy, every row counted. */
import type { AgentContext, Method } from "../agent/methods/method.ts";
import { evaluationTasks, rolloutAll, type RolloutAllOptions } from "../agent/rollout-all.ts";
import { isValid } from "../rl/metrics.ts";
import { scoreAnswer, scoredAnswer, type Scores } from "../rl/reward.ts";
import type { Question, SearchTrajectory } from "../rl/trajectory.ts";
import { hotpotScores, isHotpot } from "./hotpot.ts";
import { bootstrapInterval, mean } from "../util/stats.ts";

export interface JudgedTrajectory {
  readonly trajectory: SearchTrajectory;
  readonly scores: Scores;
}

/** Means over all `n` questions, 0 to 1; the interval is the 95 % percentile bootstrap of F1. */
export interface EvaluationSummary {
  readonly n: number;
  readonly em: number;
  readonly subem: number;
  readonly f1: number;
  readonly f1Low: number;
  readonly f1High: number;
  /** Searches per question. */
  readonly searches: number;
  /** Share of trajectories that answered without an invalid action. */
  readonly valid: number;
}

export interface EvaluateOptions extends RolloutAllOptions {
  /** The questions that are answered, by their places, `to` excluded; all unless given. */
  readonly range?: { readonly from: number; readonly to: number };
  /** HotpotQA's own rule for yes and no (`hotpotScores`); false unless given. */
  readonly hotpotYesNo?: boolean;
  /** Called with each result in the order of the questions, as soon as those before it have ended. */
  readonly onJudged?: (judged: JudgedTrajectory) => void;
}

/** Answers every question by `method`; results in the order of the questions. Keys are (0, index, 0): nothing random is drawn when greedy. */
export async function evaluate(
  questions: readonly Question[],
  method: Method,
  context: AgentContext,
  { onJudged, range, hotpotYesNo = false, ...options }: EvaluateOptions = {},
): Promise<JudgedTrajectory[]> {
  const { from, to } = range ?? { from: 0, to: questions.length };
  const judged: JudgedTrajectory[] = [];
  let told = from;
  const onFinished: RolloutAllOptions["onFinished"] = (trajectory, finished) => {
    const score = hotpotYesNo && isHotpot(trajectory.question) ? hotpotScores : scoreAnswer;
    const scores = score(scoredAnswer(trajectory), trajectory.question.goldenAnswers, context.rules);
    judged[trajectory.key.question] = { trajectory, scores };
    for (let next = judged[told]; next !== undefined; next = judged[++told]) onJudged?.(next);
    options.onFinished?.(trajectory, finished);
  };
  await rolloutAll(evaluationTasks(questions).slice(from, to), method, context, { ...options, onFinished });
  return judged.slice(from, to);
}

/** @throws DataError when there is nothing to summarise. */
export function summarise(
  judged: readonly JudgedTrajectory[],
  { seed, samples }: { readonly seed: number; readonly samples: number },
): EvaluationSummary {
  const f1 = judged.map(({ scores }) => scores.f1);
  const interval = bootstrapInterval(f1, { samples, seed });
  return {
    n: judged.length,
    em: mean(judged.map(({ scores }) => scores.em)),
    subem: mean(judged.map(({ scores }) => scores.subem)),
    f1: mean(f1),
    f1Low: interval.low,
    f1High: interval.high,
    searches: mean(judged.map(({ trajectory }) => trajectory.searches.length)),
    valid: mean(judged.map(({ trajectory }) => (isValid(trajectory) ? 1 : 0))),
  };
}
