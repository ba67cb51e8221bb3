/** The forward pass of training: hidden states of the tokens that predict what the policy sampled. */
import type { Device, Dtype } from "../device/device.ts";
import { packBatch } from "../nn/batch.ts";
import type { Decoder } from "../nn/decoder.ts";
import { gatherRows } from "../ops/gather-rows.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { fromHost, full, type Parameter, type Tensor } from "../tensor/tensor.ts";
import type { MicroBatch } from "./packing.ts";

/** How log-probabilities are computed: as the sampler did, at the temperature of each trajectory. */
export interface ForwardSettings {
  /** Tokens in one forward. */
  readonly microBatchTokens: number;
  /** Type of the cache that sampling used; f32 unless told. */
  readonly cacheDtype?: Dtype;
  /** The LoRA adapter that sampled, if one did. */
  readonly adapter?: string | undefined;
  /** Keep only each block's input for the backward. */
  readonly recompute?: boolean;
}

/** Hidden states [M, C] of the packed tokens `rows` of sequences. */
export function hiddenRows(
  model: Decoder,
  { sequences, rows }: Pick<MicroBatch, "sequences" | "rows">,
  { cacheDtype, adapter, recompute }: Omit<ForwardSettings, "microBatchTokens">,
): Tensor {
  const { device } = model;
  return withScope(() => {
    const hidden = model.forward(packBatch(device, sequences), {
      ...(recompute === undefined ? {} : { recompute }),
      ...(cacheDtype === undefined ? {} : { cacheDtype }),
      adapter,
    });
    return gatherRows(hidden, fromHost(device, rows, [rows.length], { label: "rows" }));
  });
}

/** Vectors of `length` on a device. */
export function vectorsOn(device: Device, length: number): (values: Float32Array | Uint32Array, label: string) => Tensor {
  return (values, label) => fromHost(device, values, [length], { label });
}

/** A parameter that no micro-batch reaches has a gradient of 0, too. */
export function zeroGradients(parameters: Iterable<Parameter>): void {
  for (const parameter of parameters) {
    if (!parameter.requiresGrad) continue;
    parameter.grad ??= keep(full(parameter.device, parameter.shape, 0, { usage: "parameter", label: `gradient of ${parameter.label}` }));
    parameter.zeroGrad();
  }
}
