/** Rows by index: from all tokens to those that a loss looks at. */
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectMatrix, expectVector } from "./check.ts";

/**
 * x [N, C], indices [n] u32, distinct and below N -> [n, C]. Differentiable in x.
 * @throws ShapeError
 */
export function gatherRows(x: Tensor, indices: Tensor): Tensor {
  expectMatrix("gather_rows", "x", x, "f32");
  expectVector("gather_rows", "indices", indices, "u32");
  const y = empty(x.device, [indices.size, x.cols], { label: "gather_rows" });
  runKernel("gather_rows", {}, [x, indices], [y]);
  record({
    op: "gather_rows",
    inputs: [x],
    outputs: [y],
    holds: [indices],
    backward(gradients, [dy]) {
      runKernel("scatter_rows", {}, [dy!, indices], [gradients.accumulator(x)]);
    },
  });
  return y;
}
