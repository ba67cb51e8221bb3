/** Matrix product in all transpositions, and the linear form. */
import { record } from "../tensor/tape.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import { expectFloat, expectMatrix, expectShape } from "./check.ts";
import { formatShape } from "../tensor/shape.ts";
import { ShapeError } from "../util/errors.ts";

export interface MatmulOptions {
  /** a is stored [K, M]. */
  readonly transA?: boolean;
  /** b is stored [N, K]. */
  readonly transB?: boolean;
  /** [N], added to every row. */
  readonly bias?: Tensor | null;
}

/** c = (or +=, by accumulate) op(a)[M,K] op(b)[K,N] + bias on storages that are known to fit. */
export function runMatmul(
  a: Tensor,
  transA: boolean,
  b: Tensor,
  transB: boolean,
  bias: Tensor | null,
  c: Tensor,
  accumulate: number,
): void {
  const K = transA ? a.rows : a.cols;
  a.device.run(
    "matmul",
    { M: c.rows, N: c.cols, K, transA: transA ? 1 : 0, transB: transB ? 1 : 0, accumulate },
    [a.storage, b.storage, bias === null ? null : bias.storage],
    [c.storage],
  );
}

/**
 * op(a)[M, K] op(b)[K, N] + bias[N] -> [M, N] f32, where op transposes as asked. a, b and bias may be f32, f16 or bf16; sums are f32,
 * in an order that depends on K only. Differentiable in a, b and bias.
 * @throws ShapeError if the inner dimensions differ.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transA = false, transB = false, bias = null } = options;
  expectMatrix("matmul", "a", a);
  expectMatrix("matmul", "b", b);
  expectFloat("matmul", "a", a);
  expectFloat("matmul", "b", b);
  const M = transA ? a.cols : a.rows;
  const K = transA ? a.rows : a.cols;
  const N = transB ? b.rows : b.cols;
  if (K !== (transB ? b.cols : b.rows))
    throw new ShapeError({
      where: "matmul",
      what: `inner dimensions of "${a.label}"${transA ? " transposed" : ""} and "${b.label}"${transB ? " transposed" : ""} differ`,
      expected: `[${M}, K] x [K, ${N}]`,
      got: `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    });
  if (bias !== null) expectShape("matmul", "bias", bias, [N]);
  const c = empty(a.device, [M, N], { label: "matmul" });
  runMatmul(a, transA, b, transB, bias, c, 0);
  record({
    op: "matmul",
    inputs: bias === null ? [a, b] : [a, b, bias],
    outputs: [c],
    holds: [...(b.requiresGrad ? [a] : []), ...(a.requiresGrad ? [b] : [])],
    backward(gradients, [dc]) {
      if (dc === null || dc === undefined) return;
      if (gradients.needs(a)) {
        const { tensor, accumulate } = gradients.slot(a);
        if (transA) runMatmul(b, transB, dc, true, null, tensor, accumulate);
        else runMatmul(dc, false, b, !transB, null, tensor, accumulate);
      }
      if (gradients.needs(b)) {
        const { tensor, accumulate } = gradients.slot(b);
        if (transB) runMatmul(dc, true, a, transA, null, tensor, accumulate);
        else runMatmul(a, !transA, dc, false, null, tensor, accumulate);
      }
      if (bias !== null && gradients.needs(bias)) dc.device.run("column_sum", {}, [dc.storage], [gradients.accumulator(bias).storage]);
    },
  });
  return c;
}

/** x [N, K], weight [M, K], bias [M] -> x weight^T + bias, [N, M]: the linear layer as checkpoints store it. */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  return matmul(x, weight, { transB: true, bias });
}
