/**
 * One update of the policy on one optimiser batch: for each micro-batch a forward, the clipped policy loss (PPO's, with GRPO's
 * advantages) and a backward; then one clipped AdamW step.
 *
 * Sources: Schulman et al. 2017 (arXiv 1707.06347) equation 7; Shao et al. 2024 (arXiv 2402.03300).
 */
import type { Device, Dtype } from "../device/device.ts";
import { packBatch } from "../nn/batch.ts";
import type { Decoder } from "../nn/decoder.ts";
import { gatherRows } from "../ops/gather-rows.ts";
import { logProb } from "../ops/log-prob.ts";
import { policyLoss, policyLossStats } from "../ops/policy-loss.ts";
import { backward } from "../tensor/backward.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape, withTape } from "../tensor/tape.ts";
import { fromHost, full, type Tensor } from "../tensor/tensor.ts";
import { ConfigError } from "../util/errors.ts";
import { checkTrajectories, checkUpdate } from "./check-batch.ts";
import { tokenMean, type LossWeights } from "./loss-weights.ts";
import { hasGradient, lossTokens, microBatches, policyTokens } from "./mini-batches.ts";
import { packMicroBatch, type MicroBatch, type TokenLogProbs } from "./packing.ts";
import type { Scored, Trajectory } from "./trajectory.ts";
import { lossMeans, ratioStats, type UpdateStats } from "./update-stats.ts";

/** How log-probabilities are computed: as the sampler did, at the temperature of each trajectory. */
export interface ForwardSettings {
  /** Tokens in one forward. */
  readonly microBatchTokens: number;
  /** Type of the cache that sampling used; f32 unless told. */
  readonly cacheDtype?: Dtype;
  /** The LoRA adapter that sampled, if one did. */
  readonly adapter?: string | undefined;
  /** Keep only each block's input for the backward. */
  readonly recompute?: boolean;
}

export interface UpdateSettings extends ForwardSettings {
  readonly clipLow: number;
  readonly clipHigh: number;
  readonly klCoef: number;
  readonly entropyCoef: number;
  /** What each token weighs in the loss; `tokenMean` unless told. */
  readonly lossWeights?: LossWeights;
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
  const micros = microBatches(trained, settings.microBatchTokens).map((rows) =>
    packMicroBatch(rows, { reference: settings.klCoef === 0 ? null : reference, weight }),
  );
  if (micros.length === 0) return stepOnly(policy, optimizer, batch, settings, learningRate);
  const stats = keep(full(device, [1, policyLossStats.length], 0, { label: "policy loss statistics" }));
  const kept: Tensor[] = [stats];
  try {
    zeroGradients(policy, settings);
    const { lossScale } = optimizer;
    const logProbs = micros.map((micro) => {
      const values = accumulate(policy, micro, settings, lossScale * scale, stats);
      kept.push(values);
      return values;
    });
    await optimizer.update(learningRate);
    // The one wait of an update.
    const [outcome, sums, ...values] = await Promise.all([
      optimizer.settle(),
      stats.readFloats(),
      ...logProbs.map((tensor) => tensor.readFloats()),
    ]);
    const means = lossMeans(sums, lossScale);
    return {
      ...means,
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
    for (const rows of batches) kept.push(keep(withoutTape(() => withScope(() => score(model, packMicroBatch(rows), settings).logProb))));
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
  zeroGradients(policy, settings);
  const { lossScale } = optimizer;
  await optimizer.update(learningRate);
  const [outcome, measured] = await Promise.all([optimizer.settle(), measuring]);
  return {
    loss: 0,
    clipLow: 0,
    clipHigh: 0,
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

/** A parameter that no micro-batch reaches has a gradient of 0, too. */
function zeroGradients(policy: Decoder, { adapter }: ForwardSettings): void {
  const adapters = adapter === undefined ? [] : policy.adapterParameters(adapter).values();
  for (const parameter of [...policy.parameters().values(), ...adapters]) {
    if (!parameter.requiresGrad) continue;
    parameter.grad ??= keep(full(parameter.device, parameter.shape, 0, { usage: "parameter", label: `gradient of ${parameter.label}` }));
    parameter.zeroGrad();
  }
}

/** Forward, loss and backward of one micro-batch -> its new log-probabilities [M], the caller's. Adds to gradients and `stats`. */
function accumulate(policy: Decoder, micro: MicroBatch, settings: UpdateSettings, scale: number, stats: Tensor): Tensor {
  const { clipLow, clipHigh, klCoef, entropyCoef } = settings;
  return withScope(() => {
    const { tape, value } = withTape(() => {
      const scored = score(policy, micro, settings);
      const vector = vectorsOn(policy.device, micro.targets.length);
      const loss = policyLoss(
        {
          ...scored,
          oldLogProb: vector(micro.oldLogProb, "oldLogProb"),
          referenceLogProb: micro.referenceLogProb === null ? null : vector(micro.referenceLogProb, "referenceLogProb"),
          advantage: vector(micro.advantage, "advantage"),
          weight: vector(micro.weight, "weight"),
        },
        { clipLow, clipHigh, klCoef, entropyCoef, scale, stats },
      );
      return { loss, logProb: scored.logProb };
    });
    backward(tape, value.loss);
    // The tape took the statistics over; they go on over all micro-batches.
    keep(stats);
    return keep(value.logProb);
  });
}

/** logProb and entropy [M] of the scored tokens. */
function score(
  model: Decoder,
  micro: MicroBatch,
  { cacheDtype, adapter, recompute }: ForwardSettings,
): { readonly logProb: Tensor; readonly entropy: Tensor } {
  const { device } = model;
  const vector = vectorsOn(device, micro.targets.length);
  return withScope(() => {
    const hidden = model.forward(packBatch(device, micro.sequences), {
      ...(recompute === undefined ? {} : { recompute }),
      ...(cacheDtype === undefined ? {} : { cacheDtype }),
      adapter,
    });
    return logProb(gatherRows(hidden, vector(micro.rows, "rows")), model.headWeight, vector(micro.targets, "targets"), micro.temperature);
  });
}

function vectorsOn(device: Device, length: number): (values: Float32Array | Uint32Array, label: string) => Tensor {
  return (values, label) => fromHost(device, values, [length], { label });
}
