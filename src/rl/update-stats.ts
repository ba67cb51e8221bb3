/** The numbers of one update. */
import { policyLossStats } from "../ops/policy-loss.ts";
import type { MicroBatch } from "./packing.ts";
import type { ValueMeans } from "./value-targets.ts";

/** Means are over the policy tokens that were trained on: rollouts without gradient are left out (`hasGradient`). */
export interface UpdateStats {
  readonly loss: number;
  /** Policy tokens of the optimiser batch, and of the rollouts that were trained on. */
  readonly tokens: number;
  readonly trainedTokens: number;
  readonly trainedRollouts: number;
  readonly microBatches: number;
  readonly ratioMean: number;
  readonly ratioMax: number;
  /** Share of tokens held at each bound. */
  readonly clipLow: number;
  readonly clipHigh: number;
  readonly clipDual: number;
  /** k1 of old to new. */
  readonly klOldNew: number;
  /** k3 to the reference; 0 without one. */
  readonly klReference: number;
  readonly entropy: number;
  /** Of |new - old| log-probability: the mismatch, in the first update after sampling. */
  readonly logProbDifferenceMax: number;
  readonly logProbDifferenceMean: number;
  /** NaN when the update was refused: weights and moments are as they were. */
  readonly gradNorm: number;
  /** It was refused because of its loss scale, which is halved now; else a refusal means that training has diverged. */
  readonly overflowed: boolean;
  /** What the loss was multiplied by for its gradients, 1 in f32; and the updates skipped so far because of it. */
  readonly lossScale: number;
  readonly overflows: number;
  readonly learningRate: number;
  /** Of a critic on the policy's own weights. */
  readonly values?: ValueMeans;
}

/** What the loss kernel summed. */
export type LossMeans = Pick<UpdateStats, "loss" | "clipLow" | "clipHigh" | "clipDual" | "klOldNew" | "klReference" | "entropy">;

/** Means over tokens from the statistics of `policyLoss`, whose loss was multiplied by `lossScale`. */
export function lossMeans(stats: Float32Array, lossScale = 1): LossMeans {
  const at = (name: (typeof policyLossStats)[number]): number => stats[policyLossStats.indexOf(name)] as number;
  const mean = (name: (typeof policyLossStats)[number]): number => (at("tokens") === 0 ? 0 : at(name) / at("tokens"));
  return {
    loss: at("loss") / lossScale,
    clipLow: mean("clippedLow"),
    clipHigh: mean("clippedHigh"),
    clipDual: mean("clippedDual"),
    klOldNew: mean("k1"),
    klReference: mean("k3"),
    entropy: mean("entropy"),
  };
}

export type RatioStats = Pick<UpdateStats, "ratioMean" | "ratioMax" | "logProbDifferenceMax" | "logProbDifferenceMean">;

/** New against old log-probabilities of micro-batches, in f64 on the host. */
export function ratioStats(micros: readonly MicroBatch[], logProbs: readonly Float32Array[]): RatioStats {
  let count = 0,
    ratioSum = 0,
    ratioMax = 0,
    differenceMax = 0,
    differenceSum = 0;
  micros.forEach(({ oldLogProb }, i) => {
    oldLogProb.forEach((old, n) => {
      const difference = (logProbs[i]?.[n] as number) - old;
      const ratio = Math.exp(difference);
      count++;
      ratioSum += ratio;
      // NaN must not hide behind a comparison.
      ratioMax = ratio <= ratioMax ? ratioMax : ratio;
      differenceMax = Math.abs(difference) <= differenceMax ? differenceMax : Math.abs(difference);
      differenceSum += Math.abs(difference);
    });
  });
  if (count === 0) return { ratioMean: 1, ratioMax: 1, logProbDifferenceMax: 0, logProbDifferenceMean: 0 };
  return { ratioMean: ratioSum / count, ratioMax, logProbDifferenceMax: differenceMax, logProbDifferenceMean: differenceSum / count };
}
