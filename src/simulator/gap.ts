/** How far answers under a simulator are from those under a real engine, where both are as often useless. */
import type { AgentContext, Method } from "../agent/methods/method.ts";
import type { RolloutAllOptions } from "../agent/rollout-all.ts";
import { evaluate, type JudgedTrajectory } from "../evaluation/evaluate.ts";
import type { Question } from "../rl/trajectory.ts";
import type { Engine } from "../search/search-engine.ts";
import { bootstrapInterval, mean, type Interval } from "../util/stats.ts";

export interface Gap {
  readonly n: number;
  /** Share of the first sets that the real engine's searches brought without a right answer, of questions of one hop. The simulator's noise is set to it. */
  readonly uselessShare: number;
  /** Mean F1 of greedy answers. */
  readonly real: number;
  readonly simulated: number;
  /** Simulated minus real: mean of the differences on each question, with its 95 % interval. */
  readonly difference: number;
  readonly interval: Interval;
}

export interface GapOptions extends RolloutAllOptions {
  readonly context: Omit<AgentContext, "engine">;
  readonly method: Method;
  readonly engine: Engine;
  /** A simulator whose sets are noisy with this probability. */
  readonly simulator: (noise: number) => Engine;
  readonly seed: number;
}

/** Answers every question twice. @throws as `evaluate` */
export async function measureGap(
  questions: readonly Question[],
  { context, method, engine, simulator, seed, ...options }: GapOptions,
): Promise<Gap> {
  const answered = async (one: Engine, before: number): Promise<JudgedTrajectory[]> =>
    evaluate(
      questions,
      method,
      { ...context, engine: one },
      { ...options, onFinished: (trajectory, finished) => options.onFinished?.(trajectory, before + finished) },
    );
  const real = await answered(engine, 0);
  const uselessShare = uselessFirstSets(real);
  const simulated = await answered(simulator(uselessShare), questions.length);
  const differences = simulated.map(({ scores }, i) => scores.f1 - (real[i] as JudgedTrajectory).scores.f1);
  return {
    n: questions.length,
    uselessShare,
    real: mean(real.map(({ scores }) => scores.f1)),
    simulated: mean(simulated.map(({ scores }) => scores.f1)),
    difference: mean(differences),
    interval: bootstrapInterval(differences, { seed }),
  };
}

/** Of questions that take one search, as far as they say: the first set of two hops need not hold the answer. 0 where nothing was searched for. */
export function uselessFirstSets(judged: readonly Pick<JudgedTrajectory, "trajectory">[]): number {
  const first = judged
    .filter(({ trajectory }) => (trajectory.question.metadata?.["hops"] ?? 1) === 1)
    .flatMap(({ trajectory }) => trajectory.searches.slice(0, 1));
  return first.length === 0 ? 0 : mean(first.map(({ containsGold }) => (containsGold ? 0 : 1)));
}
