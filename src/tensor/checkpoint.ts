/**
 * Activation recomputation: a stretch of the program keeps only its inputs and is run again in the backward pass.
 * Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
 */
import { backward } from "./backward.ts";
import { withScope } from "./scope.ts";
import { activeTape, record, withoutTape, withTape } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * `fn(...inputs)`, whose intermediate tensors are freed at once and made again when gradients are wanted. `fn` must give the same
 * bits when it is run twice. Besides `inputs`, it may use `reads`, which get no gradient, and parameters, which need not be named.
 * Gradients have the bits that plain recording gives.
 */
export function checkpoint(fn: (...inputs: Tensor[]) => Tensor, inputs: readonly Tensor[], reads: readonly Tensor[] = []): Tensor {
  if (activeTape() === null) return fn(...inputs);
  const output = withoutTape(() => withScope(() => fn(...inputs)));
  record({
    op: "checkpoint",
    inputs,
    outputs: [output],
    holds: [...inputs, ...reads],
    always: true,
    backward(gradients, [dOutput]) {
      withScope(() => {
        const { tape, value } = withTape(() => withScope(() => fn(...inputs)));
        if (tape.produced.has(value)) backward(tape, value, { seed: dOutput!, into: gradients });
      });
    },
  });
  return output;
}
