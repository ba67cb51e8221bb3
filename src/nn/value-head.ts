/** A linear layer from hidden states to one number: what a critic expects of a token. */
import type { Device } from "../device/device.ts";
import { linear } from "../ops/matmul.ts";
import { Parameter, type Tensor } from "../tensor/tensor.ts";

export class ValueHead {
  /** [1, C] */
  readonly weight: Parameter;
  /** [1] */
  readonly bias: Parameter;

  /** Zero, so that all values are 0 until it has learnt. The caller disposes of it. */
  constructor(device: Device, hidden: number) {
    // The names that transformers gives to the head of a token classifier with one class.
    this.weight = new Parameter(device, "score.weight", [1, hidden]);
    this.bias = new Parameter(device, "score.bias", [1]);
    for (const parameter of this.parameters().values()) {
      parameter.write(new Float32Array(parameter.size));
      parameter.requiresGrad = true;
    }
  }

  /** hidden [N, C] -> values [N, 1]. */
  forward(hidden: Tensor): Tensor {
    return linear(hidden, this.weight, this.bias);
  }

  parameters(): ReadonlyMap<string, Parameter> {
    return new Map([this.weight, this.bias].map((parameter) => [parameter.name, parameter]));
  }

  dispose(): void {
    for (const parameter of this.parameters().values()) parameter.dispose();
  }
}
