/** The linear layer with a low-rank addition. Source: Hu et al. 2021, "LoRA", arXiv:2106.09685, equation 3. */
import { keep } from "../tensor/scope.ts";
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectMatrix, expectShape } from "./check.ts";
import { addProduct, runMatmul } from "./matmul.ts";

/**
 * y = x weight^T + bias + scale (x a^T) b^T. x [N, K], weight [M, K], bias [M] or null, a [r, K], b [M, r] -> [N, M] f32.
 * Differentiable in all of them. The addition is computed apart in sampling and in training alike: it is never merged.
 * @throws ShapeError
 */
export function lora(x: Tensor, weight: Tensor, bias: Tensor | null, a: Tensor, b: Tensor, scale: number): Tensor {
  expectMatrix("lora", "x", x);
  expectMatrix("lora", "a", a);
  const [N, K, M, r] = [x.rows, x.cols, weight.rows, a.rows];
  expectShape("lora", "weight", weight, [M, K]);
  if (bias !== null) expectShape("lora", "bias", bias, [M]);
  expectShape("lora", "a", a, [r, K]);
  expectShape("lora", "b", b, [M, r]);
  const y = empty(x.device, [N, M], { label: "lora" });
  runMatmul(x, false, weight, true, bias, y, 0);
  const narrow = scaled(project(x, a, true), scale);
  runMatmul(narrow, false, b, true, null, y, 1);
  // Without a gradient of a or of the weight, the input itself is not needed again.
  const needsX = a.requiresGrad || weight.requiresGrad;
  record({
    op: "lora",
    inputs: bias === null ? [x, weight, a, b] : [x, weight, a, b, bias],
    outputs: [y],
    holds: [weight, a, b, ...(needsX ? [x] : [])],
    saved: [narrow],
    backward(gradients, dOutputs) {
      const dy = dOutputs[0]!;
      addProduct(gradients, b, dy, true, narrow, false);
      const dNarrow = scaled(project(dy, b, false), scale);
      addProduct(gradients, a, dNarrow, true, x, false);
      addProduct(gradients, x, dy, false, weight, false);
      addProduct(gradients, x, dNarrow, false, a, false);
      dNarrow.dispose();
      addProduct(gradients, weight, dy, true, x, false);
      if (bias !== null && gradients.needs(bias)) runKernel("column_sum", {}, [dy], [gradients.accumulator(bias)]);
    },
  });
  return y;
}

/** x m^T (or x m), the narrow side of the pair: [N, r]. */
function project(x: Tensor, m: Tensor, transpose: boolean): Tensor {
  const out = empty(x.device, [x.rows, transpose ? m.rows : m.cols], { label: "lora narrow" });
  runMatmul(x, false, m, transpose, null, out, 0);
  return out;
}

/** scale * x in new memory; x is freed. */
function scaled(x: Tensor, scale: number): Tensor {
  const out = keep(full(x.device, x.shape, 0, { label: "lora narrow" }));
  runKernel("accumulate", { scale }, [x], [out]);
  x.dispose();
  return out;
}
