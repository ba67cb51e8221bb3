/** A linear layer with room for LoRA adapters, of which a call uses one by name, or none. */
import { linear } from "../ops/matmul.ts";
import { lora } from "../ops/lora.ts";
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
    const pair = adapter === undefined ? undefined : this.adapters.get(adapter);
    if (pair === undefined) return linear(x, this.weight, this.bias);
    return lora(x, this.weight, this.bias, pair.a, pair.b, pair.scale);
  }
}
