/**
 * The rows of a run's logs. `metrics.jsonl`: one flat row a step, whose keys are `room/name`; what a clock or the system measured is under
 * `time/`, at the end of the row: two runs with one seed agree in everything else, bit for bit. `rollouts.jsonl`: one row a rollout, what was
 * seen, what was sampled, what it earned.
 */
import type { Scored, SearchTrajectory, Unpaid } from "../rl/trajectory.ts";

export interface MetricRow {
  readonly step: number;
  readonly [key: string]: number | string;
}

/** `times`: keys without the prefix; seconds unless the key says otherwise. */
export function metricRow(
  step: number,
  values: Readonly<Record<string, number | string>>,
  times: Readonly<Record<string, number>> = {},
): MetricRow {
  return { step, ...values, ...Object.fromEntries(Object.entries(times).map(([key, value]) => [`time/${key}`, value])) };
}

/** A row: the trajectory, field for field, with the step by which the log is cut, and what it earned. */
export interface RolloutRow extends SearchTrajectory {
  readonly step: number;
  /** Null where it failed, and where a search failed (status "failed"). */
  readonly reward: number | null;
  /** Why, there. */
  readonly rewardFailure?: string;
  /** One for all policy tokens, or one per token of `ids`, 0 where lossMask is 0. */
  readonly advantage: number | readonly number[];
}

/** A row of a rollout that was not paid. */
export function unpaidRow({ trajectory, failure }: Unpaid<SearchTrajectory>): RolloutRow {
  return { ...rolloutRow({ trajectory, reward: 0, advantage: 0 }), reward: null, rewardFailure: failure };
}

export function rolloutRow({ trajectory, reward, advantage }: Scored<SearchTrajectory>): RolloutRow {
  const { ids, lossMask, logProbs, ...rest } = trajectory;
  const logged = typeof advantage === "number" ? advantage : ids.map((_, t) => (lossMask[t] === 1 ? (advantage[t] as number) : 0));
  return { step: trajectory.key.step, reward, advantage: logged, ...rest, ids, lossMask, logProbs };
}
