/** Rotary position embedding, half-split as in Hugging Face. Source: Su et al. 2021, arXiv:2104.09864. */
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDivisor, expectMatrix, expectShape } from "./check.ts";

/**
 * Turns the pairs (d, d + D/2) of every head by the angle of its token's position. x [N, heads * D], positions [N] u32, table
 * [maxPositions, D] (cosines, then sines, D/2 each) -> [N, heads * D]. Differentiable in x. Positions must be below maxPositions
 * (0xffffffff marks an inactive row, whose output is undefined).
 * @throws ShapeError
 */
export function rope(x: Tensor, positions: Tensor, table: Tensor, heads: number): Tensor {
  expectMatrix("rope", "x", x);
  expectDivisor("rope", "heads", heads, "columns", x.cols);
  expectShape("rope", "positions", positions, [x.rows], "u32");
  expectShape("rope", "table", table, [table.rows, x.cols / heads]);
  const y = empty(x.device, x.shape, { label: "rope" });
  runKernel("rope", { heads, inverse: 0 }, [x, positions, table], [y]);
  record({
    op: "rope",
    inputs: [x],
    outputs: [y],
    holds: [positions, table],
    backward(gradients, [dy]) {
      const dx = gradients.make(x);
      runKernel("rope", { heads, inverse: 1 }, [dy!, positions, table], [dx]);
      gradients.give(x, dx);
    },
  });
  return y;
}
