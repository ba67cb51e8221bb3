/**
 * The policy loss in its forms, with a penalty on KL to a reference and an entropy bonus. Sources: Schulman et al. 2017, arXiv:1707.06347,
 * equation 7; separate clip bounds: DAPO, arXiv:2503.14476; dual clip: Ye et al. 2020, arXiv:1912.09729; CISPO: MiniMax-M1,
 * arXiv:2506.13585; k1 to k3: Schulman 2020, "Approximating KL divergence".
 */
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectShape, expectVector } from "./check.ts";

/**
 * With the ratio r = exp(logProb - oldLogProb) and c = clip(r, 1 - clipLow, 1 + clipHigh):
 * - `ppo_clip`: -min(r A, c A).
 * - `cispo`: -sg(c) A logProb: a token beyond the bounds still learns, by a factor held at them.
 * - `reinforce`: -A logProb, whatever the ratio.
 */
export const policyLossForms = ["ppo_clip", "cispo", "reinforce"] as const;
export type PolicyLossForm = (typeof policyLossForms)[number];

/** Estimates of KL(policy, reference) from a token that the policy sampled, with d = logProb - reference: d; d^2 / 2; e^-d - 1 + d. */
export const klEstimators = ["k1", "k2", "k3"] as const;
export type KlEstimator = (typeof klEstimators)[number];

export interface PolicyLossInputs {
  /** [N], under the weights being trained. */
  readonly logProb: Tensor;
  /** [N], under the weights that sampled. */
  readonly oldLogProb: Tensor;
  /** [N], under the reference policy; needed where klCoef is not 0. */
  readonly referenceLogProb?: Tensor | null;
  /** [N], from the same `logProb` op. */
  readonly entropy: Tensor;
  readonly advantage: Tensor;
  /** [N] f32: what each token weighs in the loss, lossMask included; 0 leaves a token out. */
  readonly weight: Tensor;
}

export interface PolicyLossOptions {
  /** The ratio is held above 1 - clipLow where the advantage is negative. */
  readonly clipLow: number;
  /** The ratio is held below 1 + clipHigh where the advantage is positive. */
  readonly clipHigh: number;
  /** `ppo_clip` unless told. */
  readonly form?: PolicyLossForm;
  /** `ppo_clip` only: where the advantage is negative the loss is at most -dualClip A. Above 1; 0, unless told, is none. */
  readonly dualClip?: number;
  readonly klCoef?: number;
  /** `k3` unless told. */
  readonly kl?: KlEstimator;
  readonly entropyCoef?: number;
  /** Factor on the sum over tokens: 1 / (policy tokens of the whole optimiser batch) with weights of 1 gives the token mean, however it is split. */
  readonly scale: number;
  /** [1, 9] f32 to add the statistics to, over micro-batches; new and zero unless told. */
  readonly stats?: Tensor;
}

/** Columns of the statistics. All are sums over tokens of weight other than 0, but for the maximum; `loss` is weighted and scaled, the others are not. */
export const policyLossStats = [
  ...(["loss", "clippedLow", "clippedHigh", "k1", "k3", "entropy"] as const),
  ...(["logProbDifferenceMax", "tokens", "clippedDual"] as const),
] as const;

/**
 * loss = scale * sum_n weight[n] * (policy + klCoef KL - entropyCoef H), `form` and `kl` as above. All inputs [N] -> statistics [1, 9]
 * (`policyLossStats`). A loss: `backward` may start here. A token of weight 0 has no say, whatever its other values (NaN too).
 * Differentiable in logProb and entropy.
 * @throws ShapeError
 */
export function policyLoss(inputs: PolicyLossInputs, options: PolicyLossOptions): Tensor {
  const { logProb, oldLogProb, entropy, advantage, weight } = inputs;
  const reference = inputs.referenceLogProb ?? null;
  const { clipLow, clipHigh, dualClip = 0, klCoef = 0, entropyCoef = 0, scale } = options;
  const form = policyLossForms.indexOf(options.form ?? "ppo_clip"),
    kl = 1 + klEstimators.indexOf(options.kl ?? "k3");
  expectVector("policy_loss", "logProb", logProb);
  for (const [name, tensor] of Object.entries({ oldLogProb, entropy, advantage, weight }))
    expectShape("policy_loss", name, tensor, logProb.shape, "f32");
  if (reference !== null) expectShape("policy_loss", "referenceLogProb", reference, logProb.shape, "f32");
  const device = logProb.device;
  const stats = options.stats ?? full(device, [1, policyLossStats.length], 0, { label: "policy_loss" });
  expectShape("policy_loss", "stats", stats, [1, policyLossStats.length]);
  const dLogProb = empty(device, logProb.shape, { label: "gradient of log_prob" });
  const dEntropy = empty(device, logProb.shape, { label: "gradient of entropy" });
  const tokens = [logProb, oldLogProb, reference, entropy, advantage, weight];
  runKernel("policy_loss", { clipLow, clipHigh, klCoef, entropyCoef, scale, dualClip, form, kl }, tokens, [dLogProb, dEntropy, stats]);
  record({
    op: "policy_loss",
    inputs: [logProb, entropy],
    outputs: [stats],
    holds: [],
    saved: [dLogProb, dEntropy],
    loss: true,
    backward(gradients) {
      gradients.give(logProb, dLogProb);
      // Without a bonus it is zero everywhere, and the head's backward is cheaper without it.
      if (entropyCoef !== 0) gradients.give(entropy, dEntropy);
    },
  });
  return stats;
}
