/** Log-probabilities and entropies of next tokens from the final hidden states, without [N, V] logits. */
import { keep } from "../tensor/scope.ts";
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { expectMatrix, expectShape } from "./check.ts";

export interface LogProb {
  /** [N]: log softmax(z)[target]. */
  readonly logProb: Tensor;
  /** [N]: -sum p log p, in nats. */
  readonly entropy: Tensor;
}

/**
 * hidden [N, C] f32, weight [V, C] (f32, f16 or bf16), targets [N] u32 -> logProb and entropy, [N] each, of softmax(z) with
 * z = hidden weight^T / temperature over all of V. Logits are made in chunks of rows with the bits that `matmul` gives, so the
 * result has the bits of `sample`. Differentiable in hidden and weight, from both results.
 * @throws ShapeError if hidden and weight disagree on C, or temperature is not positive.
 */
export function logProb(hidden: Tensor, weight: Tensor, targets: Tensor, temperature = 1): LogProb {
  expectMatrix("log_prob", "hidden", hidden, "f32");
  expectMatrix("log_prob", "weight", weight, "float");
  expectShape("log_prob", "weight", weight, [weight.rows, hidden.cols]);
  expectShape("log_prob", "targets", targets, [hidden.rows], "u32");
  if (!(temperature > 0))
    throw new ShapeError({
      where: "log_prob",
      what: "temperature is not positive",
      expected: "a number above 0",
      got: String(temperature),
    });
  const vector = (label: string): Tensor => empty(hidden.device, [hidden.rows], { label });
  const [value, entropy, lse] = [vector("log_prob"), vector("entropy"), vector("log_prob lse")];
  runKernel("log_prob", { temperature }, [hidden, weight, targets], [value, entropy, lse]);
  record({
    op: "log_prob",
    inputs: [hidden, weight],
    outputs: [value, entropy],
    holds: [hidden, weight, targets, entropy],
    saved: [lse],
    backward(gradients, [dLogProb = null, dEntropy = null]) {
      const dValue = dLogProb ?? keep(full(hidden.device, [hidden.rows], 0, { label: "zero" }));
      const dhidden = gradients.make(hidden);
      const dweight = gradients.needs(weight) ? gradients.accumulator(weight) : null;
      runKernel("log_prob_backward", { temperature }, [hidden, weight, targets, entropy, lse, dValue, dEntropy], [dhidden, dweight]);
      if (dValue !== dLogProb) dValue.dispose();
      gradients.give(hidden, dhidden);
    },
  });
  return { logProb: value, entropy };
}
