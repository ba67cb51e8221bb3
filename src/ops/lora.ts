/** The linear layer with a low-rank addition. Source: Hu et al. 2021, "LoRA", arXiv:2106.09685, equation 3. */
import { keep } from "../tensor/scope.ts";
import { record } from "../tensor/tape.ts";
import { empty, full, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectMatrix, expectShape } from "./check.ts";
import { addProduct, recordMatmul, runMatmul } from "./matmul.ts";

/** A linear layer, and its pair of small matrices where it has one. */
export interface LoraLayer {
  /** [M, K] */
  readonly weight: Tensor;
  /** [M] */
  readonly bias: Tensor | null;
  /** a [r, K], b [M, r] */
  readonly pair: { readonly a: Tensor; readonly b: Tensor; readonly scale: number } | null;
}

/**
 * y = x weight^T + bias + scale (x a^T) b^T. x [N, K], weight [M, K], bias [M] or null, a [r, K], b [M, r] -> [N, M] f32.
 * Differentiable in all of them. The addition is computed apart in sampling and in training alike: it is never merged.
 * @throws ShapeError
 */
export function lora(x: Tensor, weight: Tensor, bias: Tensor | null, a: Tensor, b: Tensor, scale: number): Tensor {
  return loraLayers(x, [{ weight, bias, pair: { a, b, scale } }])[0]!;
}

/**
 * Several layers of one input x [N, K], each [N, M]: the values, gradients and bits of the layers one by one. What the layers ask of x comes in
 * a row, so that a device may compute it together.
 * @throws ShapeError
 */
export function loraLayers(x: Tensor, layers: readonly LoraLayer[]): Tensor[] {
  expectMatrix("lora", "x", x);
  for (const layer of layers) check(x, layer);
  const outputs = layers.map(({ weight, bias }) => {
    const y = empty(x.device, [x.rows, weight.rows], { label: "lora" });
    runMatmul(x, false, weight, true, bias, y, 0);
    return y;
  });
  const projected = layers.map(({ pair }) => (pair === null ? null : project(x, pair.a, true)));
  for (const [i, { weight, bias, pair }] of layers.entries()) {
    const y = outputs[i]!;
    const wide = projected[i] ?? null;
    if (pair === null || wide === null) {
      recordMatmul(x, weight, y, { transB: true, bias });
      continue;
    }
    const narrow = scaled(wide, pair.scale);
    runMatmul(narrow, false, pair.b, true, null, y, 1);
    recordLora(x, { weight, bias, ...pair }, narrow, y);
  }
  return outputs;
}

function check(x: Tensor, { weight, bias, pair }: LoraLayer): void {
  const [K, M] = [x.cols, weight.rows];
  expectShape("lora", "weight", weight, [M, K]);
  if (bias !== null) expectShape("lora", "bias", bias, [M]);
  if (pair === null) return;
  expectMatrix("lora", "a", pair.a);
  expectShape("lora", "a", pair.a, [pair.a.rows, K]);
  expectShape("lora", "b", pair.b, [M, pair.a.rows]);
}

interface Recorded {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly a: Tensor;
  readonly b: Tensor;
  readonly scale: number;
}

function recordLora(x: Tensor, { weight, bias, a, b, scale }: Recorded, narrow: Tensor, y: Tensor): void {
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
