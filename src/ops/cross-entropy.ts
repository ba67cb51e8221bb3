/** Weighted negative log-likelihood, the loss of fine-tuning. */
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectShape, expectVector } from "./check.ts";
import { logProb } from "./log-prob.ts";

export interface WeightedNllOptions {
  /** Factor on the sum: 1 / (sum of all weights of the optimiser batch) gives the token mean, however the batch is split. 1 unless told. */
  readonly scale?: number;
  /** [1, 2] f32 to add the statistics to, over micro-batches; new and zero unless told. */
  readonly stats?: Tensor;
}

/**
 * loss = scale * sum_n weights[n] * -logProb[n]. logProb, weights [N] f32 -> statistics [1, 2]: the loss and the sum of
 * weights, each added to what `stats` holds. A loss: `backward` may start here. A token of weight 0 has no say, whatever its
 * log-probability (NaN too). Differentiable in logProb.
 * @throws ShapeError
 */
export function weightedNll(logProbs: Tensor, weights: Tensor, options: WeightedNllOptions = {}): Tensor {
  expectVector("weighted_nll", "logProb", logProbs);
  expectShape("weighted_nll", "weights", weights, logProbs.shape, "f32");
  const device = logProbs.device;
  const stats = options.stats ?? full(device, [1, 2], 0, { label: "weighted_nll" });
  expectShape("weighted_nll", "stats", stats, [1, 2]);
  const dLogProb = empty(device, logProbs.shape, { label: "gradient of log_prob" });
  runKernel("weighted_nll", { scale: options.scale ?? 1 }, [logProbs, weights], [dLogProb, stats]);
  record({
    op: "weighted_nll",
    inputs: [logProbs],
    outputs: [stats],
    holds: [],
    saved: [dLogProb],
    loss: true,
    backward(gradients) {
      gradients.give(logProbs, dLogProb);
    },
  });
  return stats;
}

/**
 * Cross-entropy of next tokens: hidden [N, C], weight [V, C], targets [N] u32, weights [N] -> statistics as `weightedNll`.
 * Differentiable in hidden and weight.
 * @throws ShapeError
 */
export function crossEntropy(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, options: WeightedNllOptions = {}): Tensor {
  const { logProb: value } = logProb(hidden, weight, targets);
  return weightedNll(value, weights, options);
}
