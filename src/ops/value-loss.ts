/** The clipped loss of a value head. Source: Schulman et al. 2017, arXiv:1707.06347; the clipped form is that of OpenAI's baselines, ppo2. */
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectShape } from "./check.ts";

export interface ValueLossInputs {
  /** [N, 1], as a linear layer gives it, under the weights being trained. */
  readonly value: Tensor;
  /** [N], under the weights that returns were computed with. */
  readonly oldValue: Tensor;
  /** [N]: what the values should have been. */
  readonly returns: Tensor;
  /** [N]: what each token weighs in the loss, lossMask included; 0 leaves a token out. */
  readonly weight: Tensor;
}

export interface ValueLossOptions {
  /** Further than this from its old value, a value gains nothing by coming closer to its return; 0 is no clipping, and nobody reads oldValue. */
  readonly clip: number;
  /** Factor on the sum over tokens: 1 / (tokens of the whole optimiser batch) with weights of 1 gives the token mean, however it is split. */
  readonly scale: number;
  /** [1, 3] f32 to add the statistics to, over micro-batches; new and zero unless told. */
  readonly stats?: Tensor;
}

/** Columns of the statistics. All are sums over tokens of weight other than 0; `loss` is weighted and scaled, the others are counts. */
export const valueLossStats = ["loss", "clipped", "tokens"] as const;

/**
 * loss = scale * sum_n weight[n] * max((v - R)^2, (c - R)^2) / 2, with v = value, R = returns and c = v held within `clip` of oldValue. A
 * token whose second square is the larger is `clipped`: it passes no gradient. value [N, 1], the others [N], all f32 -> statistics [1, 3]
 * (`valueLossStats`). A loss: `backward` may start here. A token of weight 0 has no say, whatever its other values (NaN too).
 * Differentiable in value.
 * @throws ShapeError
 */
export function valueLoss(inputs: ValueLossInputs, options: ValueLossOptions): Tensor {
  const { value, oldValue, returns, weight } = inputs;
  const { clip, scale } = options;
  const N = value.rows;
  expectShape("value_loss", "value", value, [N, 1], "f32");
  for (const [name, tensor] of Object.entries({ oldValue, returns, weight })) expectShape("value_loss", name, tensor, [N], "f32");
  const device = value.device;
  const stats = options.stats ?? full(device, [1, valueLossStats.length], 0, { label: "value_loss" });
  expectShape("value_loss", "stats", stats, [1, valueLossStats.length]);
  const dValue = empty(device, value.shape, { label: "gradient of value" });
  runKernel("value_loss", { clip, scale }, [value, oldValue, returns, weight], [dValue, stats]);
  record({
    op: "value_loss",
    inputs: [value],
    outputs: [stats],
    holds: [],
    saved: [dValue],
    loss: true,
    backward(gradients) {
      gradients.give(value, dValue);
    },
  });
  return stats;
}
