/** Rows of a table by id. */
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectMatrix, expectVector } from "./check.ts";

/**
 * ids [N] u32, table [V, C] (f32, f16 or bf16) -> [N, C] f32. Differentiable in table. Every id must be below V: ids are device
 * data and are not checked here.
 * @throws ShapeError
 */
export function embedding(ids: Tensor, table: Tensor): Tensor {
  expectVector("embedding", "ids", ids, "u32");
  expectMatrix("embedding", "table", table, "float");
  const y = empty(table.device, [ids.size, table.cols], { label: "embedding" });
  runKernel("embedding", {}, [ids, table], [y]);
  record({
    op: "embedding",
    inputs: [table],
    outputs: [y],
    holds: [ids],
    backward(gradients, [dy]) {
      if (!gradients.needs(table)) return;
      runKernel("embedding_backward", {}, [ids, dy!], [gradients.accumulator(table)]);
    },
  });
  return y;
}
