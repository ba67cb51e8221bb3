/** The rollouts of a step's questions, and of those that are asked in place of questions that teach nothing. */
import type { SampledQuestion } from "../data/question-sampler.ts";
import type { Metrics } from "../rl/metrics.ts";
import { groupIndices } from "../rl/mini-batches.ts";
import type { Question, SearchTrajectory } from "../rl/trajectory.ts";
import { allEqual } from "./algorithm.ts";
import type { Payments } from "./reward.ts";
import type { StepRun } from "./run.ts";

/** Rollouts of questions, in order, and what each earned. */
export interface Sampled extends Payments {
  readonly trajectories: readonly SearchTrajectory[];
}

/**
 * Rolls out the questions of a step. With `algorithm.dynamicSampling`, groups whose rewards are all equal are dropped, and other questions asked
 * in their place, round after round (DAPO, arXiv 2503.14476, 3.2).
 */
export async function sampleGroups(
  { config: { algorithm, train }, questions }: StepRun,
  step: number,
  asked: readonly SampledQuestion<Question>[],
  sample: (questions: readonly SampledQuestion<Question>[], round: number) => Promise<Sampled>,
): Promise<Sampled & { readonly dropped: ReadonlySet<SearchTrajectory>; readonly metrics: Metrics }> {
  const first = await sample(asked, 0);
  const dropped = new Set<SearchTrajectory>();
  if (algorithm.dynamicSampling === 0) return { ...first, dropped, metrics: {} };
  const seen = new Set(asked.map(({ index }) => index));
  const all = { trajectories: [...first.trajectories], rewards: [...first.rewards], unpaid: [...first.unpaid] };
  let [latest, round] = [first, 0];
  for (;;) {
    for (const members of groupIndices(latest.trajectories).values())
      if (allEqual(members.flatMap((i) => latest.rewards[i] ?? [])))
        for (const i of members) dropped.add(latest.trajectories[i] as SearchTrajectory);
    const missing = asked.length - (all.trajectories.length - dropped.size) / train.groupSize;
    const others = missing > 0 && round < algorithm.dynamicSampling ? questions.others(step, ++round, missing, seen) : [];
    if (others.length === 0) break;
    for (const { index } of others) seen.add(index);
    latest = await sample(others, round);
    all.trajectories.push(...latest.trajectories);
    all.rewards.push(...latest.rewards);
    all.unpaid.push(...latest.unpaid);
  }
  return { ...all, dropped, metrics: { "sampling/rounds": round, "sampling/dropped_groups": dropped.size / train.groupSize } };
}
