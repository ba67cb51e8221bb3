/** What a step tells of a policy that is about to collapse, before its reward does: what is measured for that alone. */
import type { Decoder } from "../nn/decoder.ts";
import { mean } from "../util/stats.ts";
import type { ForwardSettings } from "./forward.ts";
import type { Metrics } from "./metrics.ts";
import { groupIndices } from "./mini-batches.ts";
import type { Scored, Trajectory } from "./trajectory.ts";
import { tokenLogProbs } from "./update.ts";

/** Rollouts that are looked at again, and of one group at most. */
const watched = { all: 16, ofGroup: 2 };

/** Rewarded rollouts of a step: paid more than the mean of their group, the first ones of each. A question that all answer right teaches nothing. */
export function rewardedRollouts<T extends Trajectory>(scored: readonly Scored<T>[]): Scored<T>[] {
  return [...groupIndices(scored.map(({ trajectory }) => trajectory)).values()]
    .flatMap((members) => {
      const rows = members.map((index) => scored[index] as Scored<T>);
      const middle = mean(rows.map(({ reward }) => reward));
      return rows.filter(({ reward }) => reward > middle).slice(0, watched.ofGroup);
    })
    .slice(0, watched.all);
}

/**
 * The mean log-probability of a policy token of rewarded rollouts under the policy as it is now, and what it has gained since it sampled them.
 * Training raises it; where it falls, step after step, right answers are pushed down with the wrong ones ("lazy likelihood displacement", issue
 * 186 of Search-R1). Empty where no rollout was rewarded.
 */
export async function rewardedLogProbs(policy: Decoder, scored: readonly Scored[], settings: ForwardSettings): Promise<Metrics> {
  const rows = rewardedRollouts(scored).map(({ trajectory }) => trajectory);
  if (rows.length === 0) return {};
  const now = await tokenLogProbs(policy, rows, settings);
  const after = rows.flatMap((row) => [...(now.get(row) ?? [])]);
  const before = rows.flatMap((row) => row.logProbs.filter((_, t) => row.lossMask[t] === 1));
  const rewarded = mean(after);
  return { "policy/rewarded_logprob": rewarded, "policy/rewarded_logprob_gain": rewarded - mean(before) };
}
