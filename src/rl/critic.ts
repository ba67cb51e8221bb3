/**
 * A critic with weights of its own, or with an adapter on the policy's: the values of a step's tokens, and its update on them.
 *
 * Source: Schulman et al. 2017 (arXiv 1707.06347); the clipped value loss is that of OpenAI's baselines.
 */
import type { Decoder } from "../nn/decoder.ts";
import type { ValueHead } from "../nn/value-head.ts";
import { valueLossStats } from "../ops/value-loss.ts";
import { backward } from "../tensor/backward.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape, withTape } from "../tensor/tape.ts";
import { full, type Parameter, type Tensor } from "../tensor/tensor.ts";
import { checkTrajectories } from "./check-batch.ts";
import { asActions } from "./documents-as-actions.ts";
import { hiddenRows, zeroGradients, type ForwardSettings } from "./forward.ts";
import { tokenMean, type LossWeights, type TokenWeights } from "./loss-weights.ts";
import { forwardTokens, microBatches } from "./mini-batches.ts";
import { packMicroBatch } from "./packing.ts";
import type { Scored, Trajectory } from "./trajectory.ts";
import type { UpdateOptimizer } from "./update.ts";
import { lossOfValues, packTargets, valueMeans, type TokenValues, type ValueMeans, type ValueTargets } from "./value-targets.ts";

/** A value head, and what it stands on: another model than the policy, or the policy's with another adapter or the same. */
export interface CriticModel {
  readonly decoder: Decoder;
  readonly adapter: string | undefined;
  readonly head: ValueHead;
}

export interface CriticUpdateSettings extends Omit<ForwardSettings, "adapter">, ValueTargets {
  /** What each token weighs in the loss; `tokenMean` unless told. */
  readonly lossWeights?: LossWeights;
  /** compat: learns the values of tokens between those that the policy sampled as well. False unless told. */
  readonly documentsAsActions?: boolean;
}

export interface CriticStats extends ValueMeans {
  /** NaN where the update was refused: weights and moments are as they were. */
  readonly gradNorm: number;
  /** It was refused because of its loss scale. */
  readonly overflowed: boolean;
  /** What the loss was multiplied by for its gradients, 1 in f32. */
  readonly lossScale: number;
  readonly learningRate: number;
}

/**
 * The critic's values before each token that the policy sampled.
 * @param everyToken - also before each token between them, as `plain` advantages want
 * @throws as `checkTrajectories`
 */
export async function tokenValues(
  { decoder, adapter, head }: CriticModel,
  trajectories: readonly Trajectory[],
  settings: Omit<ForwardSettings, "adapter">,
  everyToken = false,
): Promise<TokenValues> {
  checkTrajectories(trajectories, decoder.config.vocabulary);
  const result = new Map<Trajectory, Float64Array>(trajectories.map((one) => [one, new Float64Array(one.ids.length)]));
  const valued = trajectories.filter(({ lossMask }) => lossMask.includes(1));
  const batches = microBatches(
    valued.map((trajectory) => ({ trajectory, reward: 0, advantage: 0 })),
    settings.microBatchTokens,
  ).map((rows) => rows.map(({ trajectory }) => ({ trajectory, positions: valuedPositions(trajectory, everyToken) })));
  const kept: Tensor[] = [];
  try {
    for (const batch of batches) {
      const sequences = batch.map(({ trajectory }) => trajectory.ids.slice(0, forwardTokens(trajectory)));
      let first = 0;
      const rows = batch.flatMap(({ positions }, i) => {
        const start = first;
        first += (sequences[i] as number[]).length;
        return positions.map((t) => start + t - 1);
      });
      const micro = { sequences, rows: Uint32Array.from(rows) };
      kept.push(keep(withoutTape(() => withScope(() => head.forward(hiddenRows(decoder, micro, { ...settings, adapter }))))));
    }
    const values = await Promise.all(kept.map((tensor) => tensor.readFloats()));
    batches.forEach((batch, i) => {
      let at = 0;
      for (const { trajectory, positions } of batch)
        for (const t of positions) (result.get(trajectory) as Float64Array)[t] = values[i]?.[at++] as number;
    });
  } finally {
    for (const tensor of kept) tensor.dispose();
  }
  return result;
}

/** Tokens whose value is wanted. Nothing predicts the first of a sequence. */
function valuedPositions({ lossMask }: Trajectory, everyToken: boolean): number[] {
  const first = lossMask.indexOf(1);
  const last = lossMask.lastIndexOf(1);
  return lossMask.flatMap((mask, t) => (mask === 1 || (everyToken && t >= first && t <= last) ? [t] : []));
}

/** What of a critic learns beside its head. */
export function trunk({ decoder, adapter }: CriticModel): ReadonlyMap<string, Parameter> {
  return adapter === undefined ? decoder.parameters() : decoder.adapterParameters(adapter);
}

/**
 * Updates a critic with a trunk of its own once on the batch `given`, on the tokens that the policy sampled and, without `documentsAsActions`, no others.
 * @throws ShapeError for rows without values or returns, ConfigError as `packMicroBatch`
 */
export async function updateCritic(
  critic: CriticModel,
  optimizer: UpdateOptimizer,
  given: readonly Scored[],
  settings: CriticUpdateSettings,
  learningRate: number,
): Promise<CriticStats> {
  const { decoder, head } = critic;
  const { batch, values } = learntBy(given, settings);
  const { scale, weight } = (settings.lossWeights ?? tokenMean)(batch);
  const rows = batch.filter(({ trajectory }) => trajectory.lossMask.includes(1));
  const stats = keep(full(decoder.device, [1, valueLossStats.length], 0, { label: "value loss statistics" }));
  try {
    zeroGradients([...trunk(critic).values(), ...head.parameters().values()]);
    const { lossScale } = optimizer;
    for (const part of microBatches(rows, settings.microBatchTokens))
      accumulateValues(critic, part, { ...settings, values }, { weight, scale: lossScale * scale, stats });
    await optimizer.update(learningRate);
    const [{ gradNorm, overflowed }, sums] = await Promise.all([optimizer.settle(), stats.readFloats()]);
    const means = valueMeans(sums, lossScale);
    return { ...means, gradNorm, overflowed: overflowed && Number.isFinite(means.loss), lossScale, learningRate };
  } finally {
    stats.dispose();
  }
}

/** The batch as the critic learns from it, with the values of its tokens. */
export function learntBy(
  given: readonly Scored[],
  { values, documentsAsActions = false }: CriticUpdateSettings,
): { readonly batch: readonly Scored[]; readonly values: TokenValues } {
  return documentsAsActions ? asActions(given, values) : { batch: given, values };
}

/** Forward, value loss and backward of one micro-batch. Adds to gradients and `stats`. */
export function accumulateValues(
  { decoder, adapter, head }: CriticModel,
  rows: readonly Scored[],
  settings: CriticUpdateSettings,
  { weight, scale, stats }: Pick<TokenWeights, "weight"> & { readonly scale: number; readonly stats: Tensor },
): void {
  const micro = packMicroBatch(rows, { weight });
  const targets = { ...packTargets(rows, settings.values), weight: micro.weight };
  withScope(() => {
    const { tape, value } = withTape(() =>
      lossOfValues(head.forward(hiddenRows(decoder, micro, { ...settings, adapter })), targets, { clip: settings.clip, scale, stats }),
    );
    backward(tape, value);
    // The tape took the statistics over; they go on over all micro-batches.
    keep(stats);
  });
}
