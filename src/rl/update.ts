/**
 * One update of the policy on one optimiser batch: for each micro-batch a forward, the policy loss and a backward; then one clipped AdamW step.
 *
 * Sources: Schulman et al. 2017 (arXiv 1707.06347) equation 7; Shao et al. 2024 (arXiv 2402.03300); the loss of a shared critic beside it,
 * equation 9 of the first.
 */
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import { logProb, type LogProb } from "../ops/log-prob.ts";
import type { ValueHead } from "../nn/value-head.ts";
import { policyLoss, policyLossStats, type KlEstimator } from "../ops/policy-loss.ts";
import { sequenceOldLogProb } from "../ops/sequence-ratio.ts";
import { valueLossStats } from "../ops/value-loss.ts";
import { backward } from "../tensor/backward.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape, withTape } from "../tensor/tape.ts";
import { fromHost, full, type Parameter, type Tensor } from "../tensor/tensor.ts";
import { ConfigError } from "../util/errors.ts";
import { checkTrajectories, checkUpdate } from "./check-batch.ts";
import { hiddenRows, vectorsOn, zeroGradients, type ForwardSettings } from "./forward.ts";
import { tokenMean, type LossWeights } from "./loss-weights.ts";
import { hasGradient, lossTokens, microBatches, policyTokens } from "./mini-batches.ts";
import { packMicroBatch, type MicroBatch, type TokenLogProbs } from "./packing.ts";
import type { LossName } from "./settings.ts";
import type { Scored, Trajectory } from "./trajectory.ts";
import { lossMeans, ratioStats, type UpdateStats } from "./update-stats.ts";
import { lossOfValues, packTargets, valueMeans, type ValueTargets } from "./value-targets.ts";

export interface UpdateSettings extends ForwardSettings {
  readonly clipLow: number;
  readonly clipHigh: number;
  /** `ppo_clip` unless told. */
  readonly loss?: LossName;
  /** `ppo_clip` only; 0, unless told, is none. */
  readonly dualClip?: number;
  /** Of the KL term in the loss. */
  readonly klCoef: number;
  /** `k3` unless told. */
  readonly klEstimator?: KlEstimator;
  readonly entropyCoef: number;
  /** What each token weighs in the loss; `tokenMean` unless told. */
  readonly lossWeights?: LossWeights;
  /** A critic that stands on the policy's weights, which learn from both losses. */
  readonly critic?: SharedCritic;
}

/** A value head on the policy's hidden states. */
export interface SharedCritic extends ValueTargets {
  readonly head: ValueHead;
  /** Weight of the value loss. */
  readonly coef: number;
}

/** Rollouts of one forward and backward. */
export interface Packed {
  readonly rows: readonly Scored[];
  readonly micro: MicroBatch;
}

/** `AdamW` of `src/optim/`: clips and steps; then tells how it went. */
export interface UpdateOptimizer {
  /** What the loss is to be multiplied by, a power of two: the optimiser takes it out of the gradients again. */
  readonly lossScale: number;
  /** Updates skipped so far because of it. */
  readonly overflows: number;
  update(learningRate: number): Promise<unknown>;
  /** To be asked for once after each `update`, before the next one. `gradNorm` is NaN where the update was refused. */
  settle(): Promise<{ readonly gradNorm: number; readonly overflowed: boolean }>;
}

/**
 * Updates the policy once on `batch`.
 * @param reference - log-probabilities under the reference policy (`tokenLogProbs`), needed where klCoef is not 0
 * @throws ConfigError for a trajectory of temperature 0 or a missing reference, and as `checkUpdate`; ShapeError for trajectories that do not fit.
 */
export async function update(
  policy: Decoder,
  optimizer: UpdateOptimizer,
  batch: readonly Scored[],
  settings: UpdateSettings,
  learningRate: number,
  reference: TokenLogProbs | null = null,
): Promise<UpdateStats> {
  if (settings.klCoef !== 0 && reference === null)
    throw new ConfigError({
      where: "update",
      what: "a KL term needs the reference policy's log-probabilities",
      expected: "them, or klCoef 0",
      got: `klCoef ${settings.klCoef}`,
    });
  const { device } = policy;
  checkUpdate(
    batch.map(({ trajectory }) => trajectory),
    settings,
    learningRate,
    policy.config.vocabulary,
  );
  const { scale, weight } = (settings.lossWeights ?? tokenMean)(batch);
  const trained = batch.filter((row) => hasGradient(row, settings));
  const packed = microBatches(trained, settings.microBatchTokens).map((rows) => ({
    rows,
    micro: packMicroBatch(rows, { reference: settings.klCoef === 0 ? null : reference, weight }),
  }));
  if (packed.length === 0) return stepOnly(policy, optimizer, batch, settings, learningRate);
  const micros = packed.map(({ micro }) => micro);
  const sums: Sums = {
    policy: keep(full(device, [1, policyLossStats.length], 0, { label: "policy loss statistics" })),
    values: settings.critic === undefined ? null : keep(full(device, [1, valueLossStats.length], 0, { label: "value loss statistics" })),
  };
  const kept: Tensor[] = [sums.policy, ...(sums.values === null ? [] : [sums.values])];
  try {
    zeroGradients(learners(policy, settings));
    const { lossScale } = optimizer;
    const logProbs = packed.map((part) => {
      const values = accumulate(policy, part, settings, lossScale * scale, sums);
      kept.push(values);
      return values;
    });
    await optimizer.update(learningRate);
    // The one wait of an update.
    const [outcome, stats, valueStats, ...values] = await Promise.all([
      optimizer.settle(),
      sums.policy.readFloats(),
      sums.values?.readFloats() ?? null,
      ...logProbs.map((tensor) => tensor.readFloats()),
    ]);
    const means = lossMeans(stats, lossScale);
    return {
      ...means,
      ...(valueStats === null || settings.critic === undefined ? {} : { values: valueMeans(valueStats, lossScale * settings.critic.coef) }),
      ...ratioStats(micros, values),
      ...scaleStats(optimizer, lossScale, outcome, means.loss),
      learningRate,
      tokens: lossTokens(batch),
      trainedRollouts: trained.length,
      trainedTokens: micros.reduce((sum, { targets }) => sum + targets.length, 0),
      microBatches: micros.length,
    };
  } finally {
    for (const tensor of kept) tensor.dispose();
  }
}

/**
 * Log-probabilities of the policy tokens of trajectories under a model, without gradients: the reference policy's, or the policy's
 * own, to measure the mismatch with what was recorded at sampling.
 * @throws as `checkTrajectories`
 */
export async function tokenLogProbs(
  model: Decoder,
  trajectories: readonly Trajectory[],
  settings: ForwardSettings,
): Promise<TokenLogProbs> {
  checkTrajectories(trajectories, model.config.vocabulary);
  const result = new Map<Trajectory, Float32Array>();
  const sampled = trajectories
    .filter(({ lossMask }) => lossMask.includes(1))
    .map((trajectory) => ({ trajectory, reward: 0, advantage: 0 }));
  for (const trajectory of trajectories) result.set(trajectory, new Float32Array(0));
  const batches = microBatches(sampled, settings.microBatchTokens);
  const kept: Tensor[] = [];
  try {
    for (const rows of batches) kept.push(keep(withoutTape(() => score(model, packMicroBatch(rows), settings))));
    const values = await Promise.all(kept.map((tensor) => tensor.readFloats()));
    for (const [i, rows] of batches.entries()) {
      let at = 0;
      for (const { trajectory } of rows) {
        const count = policyTokens(trajectory);
        result.set(trajectory, (values[i] as Float32Array).slice(at, at + count));
        at += count;
      }
    }
  } finally {
    for (const tensor of kept) tensor.dispose();
  }
  return result;
}

/** An update of rollouts without any gradient: the optimiser still decays and moves on; the mismatch is measured on one micro-batch. */
async function stepOnly(
  policy: Decoder,
  optimizer: UpdateOptimizer,
  batch: readonly Scored[],
  settings: UpdateSettings,
  learningRate: number,
): Promise<UpdateStats> {
  const [some = []] = microBatches(
    batch.filter(({ trajectory }) => trajectory.lossMask.includes(1)),
    settings.microBatchTokens,
  );
  // Asked for before the step, waited for with it.
  const measuring = tokenLogProbs(
    policy,
    some.map(({ trajectory }) => trajectory),
    settings,
  );
  measuring.catch(() => undefined); // an error of the step comes first
  zeroGradients(learners(policy, settings));
  const { lossScale } = optimizer;
  await optimizer.update(learningRate);
  const [outcome, measured] = await Promise.all([optimizer.settle(), measuring]);
  return {
    loss: 0,
    clipLow: 0,
    clipHigh: 0,
    clipDual: 0,
    klOldNew: 0,
    klReference: 0,
    entropy: 0,
    ...ratioStats(
      some.map((row) => packMicroBatch([row])),
      [...measured.values()],
    ),
    ...scaleStats(optimizer, lossScale, outcome, 0),
    learningRate,
    tokens: lossTokens(batch),
    trainedRollouts: 0,
    trainedTokens: 0,
    microBatches: 0,
  };
}

/** How the optimiser's step went; `lossScale` is what it was before. A loss that is not finite is no fault of its scale. */
function scaleStats(
  optimizer: UpdateOptimizer,
  lossScale: number,
  { gradNorm, overflowed }: { readonly gradNorm: number; readonly overflowed: boolean },
  loss: number,
): Pick<UpdateStats, "gradNorm" | "overflowed" | "lossScale" | "overflows"> {
  return { gradNorm, overflowed: overflowed && Number.isFinite(loss), lossScale, overflows: optimizer.overflows };
}

/** What learns, and the frozen weights under an adapter: the policy's, its adapter's, and those of the head of a critic that stands on them. */
export function learners(policy: Decoder, { adapter, critic }: UpdateSettings): Parameter[] {
  const adapters = adapter === undefined ? [] : policy.adapterParameters(adapter).values();
  return [...policy.parameters().values(), ...adapters, ...(critic?.head.parameters().values() ?? [])];
}

/** Where an update sums what it did, over micro-batches. */
export interface Sums {
  readonly policy: Tensor;
  /** With a critic that shares the weights. */
  readonly values: Tensor | null;
}

/** Forward, loss and backward of one micro-batch -> its new log-probabilities [M], the caller's. Adds to gradients and `sums`. */
export function accumulate(policy: Decoder, { micro, rows }: Packed, settings: UpdateSettings, scale: number, sums: Sums): Tensor {
  const { critic } = settings;
  return withScope(() => {
    const { tape, value } = withTape(() => {
      const hidden = hiddenRows(policy, micro, settings);
      const vector = vectorsOn(policy.device, micro.targets.length);
      const scored = logProb(hidden, policy.headWeight, vector(micro.targets, "targets"), micro.temperature);
      const root = lossOfTokens(scored, micro, settings, { scale, stats: sums.policy });
      if (critic !== undefined && sums.values !== null) {
        const targets = { ...packTargets(rows, critic.values), weight: micro.weight };
        lossOfValues(critic.head.forward(hidden), targets, { clip: critic.clip, scale: critic.coef * scale, stats: sums.values });
      }
      return { loss: root, logProb: scored.logProb };
    });
    // The tape took the statistics over; they go on over all micro-batches.
    if (sums.values !== null) keep(sums.values);
    backward(tape, value.loss);
    keep(sums.policy);
    return keep(value.logProb);
  });
}

/** The policy loss of a micro-batch, recorded: its statistics are added to `stats`. */
export function lossOfTokens(
  scored: LogProb,
  micro: MicroBatch,
  { clipLow, clipHigh, loss = "ppo_clip", dualClip = 0, klCoef, klEstimator = "k3", entropyCoef }: UpdateSettings,
  { scale, stats }: { readonly scale: number; readonly stats: Tensor },
): Tensor {
  const { device } = scored.logProb;
  const vector = vectorsOn(device, micro.targets.length);
  const sampled = vector(micro.oldLogProb, "oldLogProb");
  return policyLoss(
    {
      ...scored,
      oldLogProb: loss === "gspo" ? sequenceOldLogProb(scored.logProb, sampled, offsetsOn(device, micro)) : sampled,
      referenceLogProb: micro.referenceLogProb === null ? null : vector(micro.referenceLogProb, "referenceLogProb"),
      advantage: vector(micro.advantage, "advantage"),
      weight: vector(micro.weight, "weight"),
    },
    {
      ...{ clipLow, clipHigh, dualClip, klCoef, entropyCoef, scale, stats },
      form: loss === "gspo" ? "ppo_clip" : loss,
      kl: klEstimator,
    },
  );
}

function offsetsOn(device: Device, { offsets }: MicroBatch): Tensor {
  return fromHost(device, offsets, [offsets.length], { label: "offsets" });
}

/** logProb [M] of the scored tokens. */
function score(model: Decoder, micro: MicroBatch, settings: ForwardSettings): Tensor {
  const vector = vectorsOn(model.device, micro.targets.length);
  return withScope(
    () => logProb(hiddenRows(model, micro, settings), model.headWeight, vector(micro.targets, "targets"), micro.temperature).logProb,
  );
}
