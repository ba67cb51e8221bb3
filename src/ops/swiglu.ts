/** The gated activation of the MLP. Source: Shazeer 2020, arXiv:2002.05202. */
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDtype, expectShape } from "./check.ts";

/**
 * gate, up [N, F] f32 -> silu(gate) * up, silu(x) = x / (1 + e^-x). Differentiable in both.
 * @throws ShapeError
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  expectDtype("swiglu", "gate", gate, "f32");
  expectShape("swiglu", "up", up, gate.shape);
  const y = empty(gate.device, gate.shape, { label: "swiglu" });
  runKernel("swiglu", {}, [gate, up], [y]);
  record({
    op: "swiglu",
    inputs: [gate, up],
    outputs: [y],
    holds: [gate, up],
    backward(gradients, [dy]) {
      const [dgate, dup] = [gradients.make(gate), gradients.make(up)];
      runKernel("swiglu_backward", {}, [gate, up, dy!], [dgate, dup]);
      gradients.give(gate, dgate);
      gradients.give(up, dup);
    },
  });
  return y;
}
