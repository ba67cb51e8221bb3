/** What a critic's values are measured against, and what is said of them. */
import { valueLoss, valueLossStats } from "../ops/value-loss.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { mean, standardDeviation } from "../util/stats.ts";
import { nameOf } from "./check-batch.ts";
import { vectorsOn } from "./forward.ts";
import type { Scored, Trajectory } from "./trajectory.ts";

/** Values before each token of `ids`, aligned with them; of policy tokens at least. */
export type TokenValues = ReadonlyMap<Trajectory, Float64Array>;

export interface ValueTargets {
  /** Under the weights that the returns of the batch were computed with. */
  readonly values: TokenValues;
  /** A value gains nothing by moving further than this from the old one; 0 is no clipping. */
  readonly clip: number;
}

/** Old values and returns of the policy tokens of a micro-batch, in its order. */
interface PackedTargets {
  readonly oldValue: Float32Array;
  readonly returns: Float32Array;
}

/** @throws ShapeError naming a trajectory without values or returns, or one of which is not finite. */
export function packTargets(batch: readonly Scored[], values: TokenValues): PackedTargets {
  const pairs = batch.flatMap((row) => pairsOf(row, values));
  return { oldValue: Float32Array.from(pairs, ([value]) => value), returns: Float32Array.from(pairs, ([, target]) => target) };
}

/** Value and return of each policy token of a rollout. */
function pairsOf({ trajectory, returns }: Scored, values: TokenValues): [number, number][] {
  const own = values.get(trajectory);
  const where = nameOf(trajectory.key);
  if (own === undefined || returns === undefined)
    throw new ShapeError({
      where,
      what: "the critic needs values and returns",
      expected: "both",
      got: own === undefined ? "no values" : "no returns",
    });
  return trajectory.lossMask.flatMap((mask, t): [number, number][] => {
    if (mask !== 1) return [];
    const pair: [number, number] = [own[t] as number, returns[t] as number];
    if (!pair.every(Number.isFinite))
      throw new ShapeError({
        where,
        what: `value or return of policy token ${t} is not finite`,
        expected: "numbers",
        got: pair.join(" and "),
      });
    return [pair];
  });
}

/** The value loss of a micro-batch, recorded: its statistics are added to `stats`. */
export function lossOfValues(
  value: Tensor,
  { oldValue, returns, weight }: PackedTargets & { readonly weight: Float32Array },
  options: { readonly clip: number; readonly scale: number; readonly stats: Tensor },
): Tensor {
  const vector = vectorsOn(value.device, weight.length);
  return valueLoss(
    { value, oldValue: vector(oldValue, "oldValue"), returns: vector(returns, "returns"), weight: vector(weight, "weight") },
    options,
  );
}

/** What the loss kernel summed, as means over tokens. */
export interface ValueMeans {
  readonly loss: number;
  /** Share of tokens whose loss was held by the clip. */
  readonly clipped: number;
}

/** Means over tokens from the statistics of `valueLoss`, whose loss was multiplied by `scale`. */
export function valueMeans(stats: Float32Array, scale = 1): ValueMeans {
  const at = (name: (typeof valueLossStats)[number]): number => stats[valueLossStats.indexOf(name)] as number;
  return { loss: at("loss") / scale, clipped: at("tokens") === 0 ? 0 : at("clipped") / at("tokens") };
}

/** How well values foretold returns, over the policy tokens of a batch. */
export interface ValueFit {
  readonly valueMean: number;
  readonly returnMean: number;
  /** 1 - Var(return - value) / Var(return): 1 is perfect, 0 no better than their mean, below it worse; undefined where all returns are equal. */
  readonly explainedVariance: number | undefined;
}

/** Undefined for no token. @throws as `packTargets` */
export function valueFit(batch: readonly Scored[], values: TokenValues): ValueFit | undefined {
  const pairs = batch.flatMap((row) => pairsOf(row, values));
  if (pairs.length === 0) return undefined;
  const returns = pairs.map(([, target]) => target);
  const spread = standardDeviation(returns);
  return {
    valueMean: mean(pairs.map(([value]) => value)),
    returnMean: mean(returns),
    explainedVariance: spread === 0 ? undefined : 1 - (standardDeviation(pairs.map(([value, target]) => target - value)) / spread) ** 2,
  };
}
