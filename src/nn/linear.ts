/** A linear layer with room for LoRA adapters, of which a call uses one by name, or none. */
import { linear } from "../ops/matmul.ts";
import { loraLayers } from "../ops/lora.ts";
import type { Tensor, Parameter } from "../tensor/tensor.ts";

/** The pair of small matrices of one layer: y += scale (x a^T) b^T. */
export interface LoraPair {
  /** [r, in] */
  readonly a: Parameter;
  /** [out, r] */
  readonly b: Parameter;
  /** alpha / r */
  readonly scale: number;
}

export class Linear {
  /** [out, in] */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | null;
  readonly adapters = new Map<string, LoraPair>();

  constructor(weight: Parameter, bias: Parameter | null) {
    this.weight = weight;
    this.bias = bias;
  }

  /** x [N, in] -> [N, out]. A layer without a pair of that name gives its plain result. */
  forward(x: Tensor, adapter?: string): Tensor {
    return forwardAll(x, [this], adapter)[0]!;
  }
}

/** Layers of one input, together: x [N, in] -> [N, out] of each, with the bits of each alone. */
export function forwardAll(x: Tensor, layers: readonly Linear[], adapter?: string): Tensor[] {
  const pairs = layers.map(({ adapters }) => (adapter === undefined ? null : (adapters.get(adapter) ?? null)));
  if (pairs.every((pair) => pair === null)) return layers.map(({ weight, bias }) => linear(x, weight, bias));
  return loraLayers(
    x,
    layers.map(({ weight, bias }, i) => ({ weight, bias, pair: pairs[i]! })),
  );
}
