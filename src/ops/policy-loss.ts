/**
 * The clipped policy loss with a k3 penalty to a reference and an entropy bonus. Sources: Schulman et al. 2017, arXiv:1707.06347,
 * equation 7; separate clip bounds: DAPO, arXiv:2503.14476; k3: Schulman 2020, "Approximating KL divergence".
 */
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectShape, expectVector } from "./check.ts";

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
  readonly klCoef?: number;
  readonly entropyCoef?: number;
  /** Factor on the sum over tokens: 1 / (policy tokens of the whole optimiser batch) with weights of 1 gives the token mean, however it is split. */
  readonly scale: number;
  /** [1, 8] f32 to add the statistics to, over micro-batches; new and zero unless told. */
  readonly stats?: Tensor;
}

/** Columns of the statistics. All are sums over tokens of weight other than 0, but for the maximum; `loss` is weighted and scaled, the others are not. */
export const policyLossStats = ["loss", "clippedLow", "clippedHigh", "k1", "k3", "entropy", "logProbDifferenceMax", "tokens"] as const;

/**
 * loss = scale * sum_n weight[n] * (-min(ratio A, clip(ratio, 1 - clipLow, 1 + clipHigh) A) + klCoef k3 - entropyCoef H), with
 * ratio = exp(logProb - oldLogProb), k3 = exp(ref - logProb) - 1 - (ref - logProb). All inputs [N] -> statistics [1, 8]
 * (`policyLossStats`). A loss: `backward` may start here. A token of weight 0 has no say, whatever its other values (NaN too).
 * Differentiable in logProb and entropy.
 * @throws ShapeError
 */
export function policyLoss(inputs: PolicyLossInputs, options: PolicyLossOptions): Tensor {
  const { logProb, oldLogProb, entropy, advantage, weight } = inputs;
  const reference = inputs.referenceLogProb ?? null;
  const { clipLow, clipHigh, klCoef = 0, entropyCoef = 0, scale } = options;
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
  runKernel("policy_loss", { clipLow, clipHigh, klCoef, entropyCoef, scale }, tokens, [dLogProb, dEntropy, stats]);
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
