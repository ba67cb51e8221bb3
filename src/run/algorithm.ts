/** What a configuration's `algorithm` and `critic` say, as the settings of what computes. */
import type { Config } from "../config/index.ts";
import type { LearningRateSchedule } from "../optim/schedule.ts";
import type { AdvantageSettings, TokenRewards } from "../rl/advantage.ts";
import type { ForwardSettings } from "../rl/forward.ts";
import { klEstimate } from "../rl/kl.ts";
import { lossWeightsOf, microBatchMean, type LossWeights } from "../rl/loss-weights.ts";
import type { Metrics } from "../rl/metrics.ts";
import { groupIndices, policyTokens } from "../rl/mini-batches.ts";
import { overlongShaping } from "../rl/overlong.ts";
import type { TokenLogProbs } from "../rl/packing.ts";
import { groupAdvantageNames } from "../rl/settings.ts";
import type { Scored, SearchTrajectory, Trajectory } from "../rl/trajectory.ts";
import type { UpdateSettings } from "../rl/update.ts";
import { mean } from "../util/stats.ts";

/** How a model goes forward over the step's rollouts. */
export function forwardSettings({ train, model }: Config): Omit<ForwardSettings, "adapter"> {
  return { microBatchTokens: train.microBatchTokens, cacheDtype: model.cacheDtype, recompute: train.recompute };
}

export function advantageSettings({ algorithm, compat: { documentsAsActions } }: Config): AdvantageSettings {
  const { advantage, normalizeByStd, whiten, gamma, lambda, documents } = algorithm;
  return { estimator: advantage, normalizeByStd, whiten, gamma, lambda, documents, documentsAsActions };
}

/** Whether a critic is asked for the values of documents. */
export function valuesDocuments({ algorithm, compat }: Config): boolean {
  return algorithm.documents === "plain" || compat.documentsAsActions;
}

/** Those of the loss; a KL term that is part of the reward is none of it. */
export function lossSettings(config: Config): Omit<UpdateSettings, keyof ForwardSettings> {
  const { loss, clipLow, clipHigh, dualClip, klCoef, klIn, klEstimator, entropyCoef } = config.algorithm;
  const inLoss = klIn === "loss" ? (config.compat.klSign ? -klCoef : klCoef) : 0;
  return { loss, clipLow, clipHigh, dualClip, klCoef: inLoss, klEstimator, entropyCoef, lossWeights: lossWeights(config) };
}

export function lossWeights(config: Config): LossWeights {
  const { aggregation, aggregationTokens } = config.algorithm;
  if (config.compat.microBatchMean) return microBatchMean(config.train.microBatchTokens);
  return lossWeightsOf(aggregation, aggregationTokens === 0 ? mostPolicyTokens(config) : aggregationTokens);
}

/** Learning rates over the updates of a run: the policy's, which begin after a critic's head start, and the critic's. */
export function schedules({ optimizer, critic, train }: Config): {
  readonly schedule: LearningRateSchedule;
  readonly criticSchedule: LearningRateSchedule;
} {
  const { schedule: kind, finalFraction, warmupShare } = optimizer;
  const [updates, all] = [train.steps - critic.headStartSteps, train.steps].map((steps) => steps * train.updatesPerStep) as [
    number,
    number,
  ];
  const warmupSteps = warmupShare === null ? optimizer.warmupSteps : Math.floor(warmupShare * updates);
  return {
    schedule: { kind, peak: optimizer.learningRate, warmupSteps, finalFraction, totalSteps: updates },
    criticSchedule: { kind, peak: critic.learningRate, warmupSteps: critic.warmupSteps, finalFraction, totalSteps: all },
  };
}

/** Tokens that the policy may write in a rollout. */
function mostPolicyTokens({ rollout: { maxNewTokens, maxTurns, maxContextTokens } }: Config): number {
  return Math.min(maxNewTokens * (maxTurns + 1), maxContextTokens);
}

/** What length takes from the reward of each rollout; undefined where nothing does. */
export function shapingOf(config: Config, trajectories: readonly Trajectory[]): number[] | undefined {
  const { overlongBuffer, overlongTokens, overlongPenalty: penalty } = config.algorithm;
  if (overlongBuffer === 0) return undefined;
  const tokens = overlongTokens === 0 ? mostPolicyTokens(config) : overlongTokens;
  return trajectories.map((one) => overlongShaping(policyTokens(one), { tokens, buffer: overlongBuffer * tokens, penalty }));
}

/** KL to the reference, of a step. */
export interface StepKl {
  /** `klEstimator`'s, of the policy tokens of each rollout. */
  readonly tokens: ReadonlyMap<Trajectory, Float64Array>;
  /** k3, the mean over all of them; 0 for none. */
  readonly mean: number;
}

/** Of tokens under the weights that sampled them; null without a reference. */
export function stepKl({ algorithm }: Config, trajectories: readonly Trajectory[], reference: TokenLogProbs | null): StepKl | null {
  if (reference === null) return null;
  const estimates = (estimator: Config["algorithm"]["klEstimator"]): [Trajectory, Float64Array][] =>
    trajectories.map((trajectory) => {
      const sampled = trajectory.logProbs.filter((_, t) => trajectory.lossMask[t] === 1);
      const known = reference.get(trajectory);
      return [trajectory, Float64Array.from(sampled, (logProb, i) => klEstimate(logProb, known?.[i] as number, estimator))];
    });
  const all = estimates("k3").flatMap(([, values]) => [...values]);
  return { tokens: new Map(estimates(algorithm.klEstimator)), mean: all.length === 0 ? 0 : mean(all) };
}

/** KL of a step, and its weight. */
export function klMetrics({ algorithm }: Config, kl: StepKl, coef: number): Metrics {
  // In the loss, the updates measure it.
  return { ...(algorithm.klIn === "reward" ? { "policy/kl_reference": kl.mean } : {}), "policy/kl_coef": coef };
}

/** KL as what it takes from the reward of each token; undefined where it is not in the reward. */
export function klPenalties({ algorithm }: Config, kl: StepKl | null, coef: number): TokenRewards["penalties"] {
  if (kl === null || algorithm.klIn !== "reward") return undefined;
  return new Map([...kl.tokens].map(([trajectory, values]) => [trajectory, values.map((value) => coef * value)]));
}

/** Rewards of a group are equal where they lie no further apart. */
const EQUAL = 1e-6;

/** Whether all rewards of a group are the same, but for rounding: it teaches nothing. */
export function allEqual(rewards: readonly number[]): boolean {
  return Math.max(...rewards) - Math.min(...rewards) <= EQUAL;
}

/**
 * The rollouts of a step that its updates learn from. Those that ran out of room may be left out, though they stay in their groups' baselines; a
 * rollout that is alone, as the rewards of its group failed, has nothing to be compared with.
 */
export function learntFrom<T extends SearchTrajectory>(
  { algorithm, train }: Config,
  scored: readonly Scored<T>[],
  dropped: ReadonlySet<Trajectory>,
): Scored<T>[] {
  const compares = train.groupSize > 1 && groupAdvantageNames.includes(algorithm.advantage);
  const groups = [...groupIndices(scored.map(({ trajectory }) => trajectory)).values()];
  const alone = new Set(compares ? groups.filter(({ length }) => length === 1).flat() : []);
  const kept = scored.filter(({ trajectory }, i) => {
    const truncated = algorithm.maskTruncated && trajectory.status === "length";
    return !truncated && !dropped.has(trajectory) && !alone.has(i);
  });
  // The optimiser goes on all the same, without a gradient.
  return kept.length === 0 ? scored.map((row) => ({ ...row, advantage: 0 })) : kept;
}
