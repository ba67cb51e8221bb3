/** Matrix product in all transpositions, and the linear form. */
import type { Gradients } from "../tensor/backward.ts";
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectMatrix, expectShape } from "./check.ts";
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
  runKernel("matmul", { M: c.rows, N: c.cols, K, transA: transA ? 1 : 0, transB: transB ? 1 : 0, accumulate }, [a, b, bias], [c]);
}

/** Adds op(a) op(b) to the gradient of `input`, if it wants one. */
export function addProduct(gradients: Gradients, input: Tensor, a: Tensor, transA: boolean, b: Tensor, transB: boolean): void {
  if (!gradients.needs(input)) return;
  const { tensor, accumulate } = gradients.slot(input);
  runMatmul(a, transA, b, transB, null, tensor, accumulate);
}

/**
 * op(a)[M, K] op(b)[K, N] + bias[N] -> [M, N] f32, where op transposes as asked. a, b and bias may be f32, f16 or bf16; sums are f32,
 * in an order that depends on N and K only. Differentiable in a, b and bias.
 * @throws ShapeError if the inner dimensions differ.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transA = false, transB = false, bias = null } = options;
  expectMatrix("matmul", "a", a, "float");
  expectMatrix("matmul", "b", b, "float");
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
  recordMatmul(a, b, c, { transA, transB, bias });
  return c;
}

/** Puts c = op(a) op(b) + bias, which has been run, on the tape. */
export function recordMatmul(a: Tensor, b: Tensor, c: Tensor, { transA = false, transB = false, bias = null }: MatmulOptions): void {
  record({
    op: "matmul",
    inputs: bias === null ? [a, b] : [a, b, bias],
    outputs: [c],
    holds: [...(b.requiresGrad ? [a] : []), ...(a.requiresGrad ? [b] : [])],
    backward(gradients, dOutputs) {
      const dc = dOutputs[0]!;
      if (transA) addProduct(gradients, a, b, transB, dc, true);
      else addProduct(gradients, a, dc, false, b, !transB);
      if (transB) addProduct(gradients, b, dc, true, a, transA);
      else addProduct(gradients, b, a, !transA, dc, false);
      if (bias !== null && gradients.needs(bias)) runKernel("column_sum", {}, [dc], [gradients.accumulator(bias)]);
    },
  });
}

/** x [N, K], weight [M, K], bias [M] -> x weight^T + bias, [N, M]: the linear layer as checkpoints store it. */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  return matmul(x, weight, { transB: true, bias });
}
