/** The gated activation of the MLP. Source: Shazeer 2020, arXiv:2002.05202. */
import { record } from "../tensor/tape.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import { expectDtype, expectShape } from "./check.ts";

/**
 * gate, up [N, F] f32 -> silu(gate) * up, silu(x) = x / (1 + e^-x). Differentiable in both.
 * @throws ShapeError
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  expectDtype("swiglu", "gate", gate, "f32");
  expectShape("swiglu", "up", up, gate.shape);
  const y = empty(gate.device, gate.shape, { label: "swiglu" });
  gate.device.run("swiglu", {}, [gate.storage, up.storage], [y.storage]);
  record({
    op: "swiglu",
    inputs: [gate, up],
    outputs: [y],
    holds: [gate, up],
    backward(gradients, [dy]) {
      if (dy === null || dy === undefined) return;
      const made = [gate, up].map((input) => ({ input, gradient: gradients.make(input) }));
      gate.device.run(
        "swiglu_backward",
        {},
        [gate.storage, up.storage, dy.storage],
        made.map(({ gradient }) => gradient.storage),
      );
      for (const { input, gradient } of made) {
        if (gradients.needs(input)) gradients.give(input, gradient);
        else gradient.dispose();
      }
    },
  });
  return y;
}
