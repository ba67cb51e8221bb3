/** The residual sum. */
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDtype, expectShape } from "./check.ts";

/**
 * a + b, both [N, C] f32. Differentiable in both.
 * @throws ShapeError
 */
export function add(a: Tensor, b: Tensor): Tensor {
  expectDtype("add", "a", a, "f32");
  expectShape("add", "b", b, a.shape, "f32");
  const y = empty(a.device, a.shape, { label: "add" });
  runKernel("add", {}, [a, b], [y]);
  record({
    op: "add",
    inputs: [a, b],
    outputs: [y],
    holds: [],
    backward(gradients, [dy]) {
      if (gradients.needs(a)) gradients.pass(a, dy!);
      if (gradients.needs(b)) gradients.pass(b, dy!);
    },
  });
  return y;
}
