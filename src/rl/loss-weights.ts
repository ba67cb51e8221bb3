/**
 * What each token weighs in the loss of one update: scale * sum over policy tokens of weight * loss. The four ways in use differ in
 * nothing else. All look at the whole optimiser batch, so that no cut into micro-batches changes the loss. (`microBatchMean` is a fault of others.)
 *
 * Sources: token mean, Yu et al. 2025 (DAPO, arXiv 2503.14476); mean over rollouts of the token mean, Shao et al. 2024 (GRPO, arXiv
 * 2402.03300); a constant, Liu et al. 2025 (Dr. GRPO, arXiv 2503.20783).
 */
import { ConfigError } from "../util/errors.ts";
import { lossTokens, microBatches, policyTokens } from "./mini-batches.ts";
import type { AggregationName } from "./settings.ts";
import type { Scored } from "./trajectory.ts";

export interface TokenWeights {
  /** Factor on the sum over tokens. */
  readonly scale: number;
  /** Of token `t` of a rollout; asked for where lossMask is 1. 0 leaves the token out. */
  readonly weight: (row: Scored, t: number) => number;
}

/** From the whole optimiser batch. */
export type LossWeights = (batch: readonly Scored[]) => TokenWeights;

const one = (): number => 1;

/** The mean over all policy tokens: a long rollout counts for more than a short one. */
export const tokenMean: LossWeights = (batch) => ({ scale: 1 / Math.max(1, lossTokens(batch)), weight: one });

/** The mean over rollouts of the sum over a rollout's policy tokens. Rollouts without one do not count. */
export const sequenceMeanTokenSum: LossWeights = (batch) => ({ scale: 1 / Math.max(1, speaking(batch)), weight: one });

/** The mean over rollouts of the mean over a rollout's policy tokens: every rollout counts the same. Those without one do not count. */
export const sequenceMeanTokenMean: LossWeights = (batch) => {
  const weights = new Map(batch.map(({ trajectory }) => [trajectory, 1 / policyTokens(trajectory)]));
  return { scale: 1 / Math.max(1, speaking(batch)), weight: ({ trajectory }) => weights.get(trajectory) as number };
};

/**
 * The sum over all policy tokens over rollouts x `tokens`, the same for each update: how long a rollout is changes no other token's weight.
 * @param tokens - a rollout's longest length, say
 */
export const constantLength = (tokens: number): LossWeights => {
  if (!(tokens > 0 && Number.isFinite(tokens)))
    throw new ConfigError({ where: "constantLength", what: "nothing to divide by", expected: "tokens above 0", got: String(tokens) });
  return (batch) => ({ scale: 1 / (Math.max(1, batch.length) * tokens), weight: one });
};

/**
 * compat: the mean over micro-batches of the mean over their policy tokens, as the released code has it (`dp_actor.py` 275): a token in a
 * micro-batch of few weighs more, and the cut changes the loss. Rollouts without a policy token do not count.
 * @param maxTokens - of a micro-batch, as the update cuts them
 */
export const microBatchMean =
  (maxTokens: number): LossWeights =>
  (batch) => {
    const speak = batch.filter(({ trajectory }) => trajectory.lossMask.includes(1));
    const parts = microBatches(speak, maxTokens);
    const weights = new Map(parts.flatMap((rows) => rows.map(({ trajectory }) => [trajectory, 1 / lossTokens(rows)])));
    return { scale: 1 / Math.max(1, parts.length), weight: ({ trajectory }) => weights.get(trajectory) as number };
  };

/**
 * By the names of the configuration.
 * @param tokens - the constant of `constant`
 */
export function lossWeightsOf(name: AggregationName, tokens: number): LossWeights {
  switch (name) {
    case "token-mean":
      return tokenMean;
    case "seq-mean-token-sum":
      return sequenceMeanTokenSum;
    case "seq-mean-token-mean":
      return sequenceMeanTokenMean;
    case "constant":
      return constantLength(tokens);
  }
}

/** Rollouts with a policy token. */
function speaking(batch: readonly Scored[]): number {
  return batch.filter(({ trajectory }) => trajectory.lossMask.includes(1)).length;
}
