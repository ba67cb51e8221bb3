/** What is prepared for one model alone: `modelProgram` of a decoder that has shapes only. */
import { readOverride, resolveConfig } from "../../src/config/index.ts";
import type { DeviceProgram, Dtype } from "../../src/device/device.ts";
import { genericGpu } from "../../src/device/kinds/webgpu.ts";
import { DryWebGpuDevice } from "../../src/device/webgpu/dry-device.ts";
import type { DecoderConfig } from "../../src/nn/config.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { modelProgram } from "../../src/setup/prepare-device.ts";

export interface ModelCase {
  readonly config: DecoderConfig;
  /** Storage type of its weights. */
  readonly weights: Dtype;
  /** What learns; where nothing does, it decodes, and its log-probabilities are asked for. */
  readonly trains: "weights" | "adapters" | "nothing";
  /** Of the adapter that it computes with. */
  readonly loraRank?: number;
  /** Of the run. */
  readonly settings?: readonly string[];
}

const needed = ["data.train=none", "model.policy=none", "simulator.path=none", "train.microBatchTokens=16384"];

export function programOf({ config, weights, trains, loraRank = 0, settings = [] }: ModelCase): DeviceProgram {
  const shell = new DryWebGpuDevice({ capabilities: genericGpu.capabilities, precision: "f32" });
  const decoder = new Decoder(config, shell, { dtype: weights, maxPositions: 64 });
  const adapter = loraRank > 0 ? "a" : undefined;
  if (adapter !== undefined) decoder.addAdapter(adapter, { rank: loraRank, alpha: 8 });
  const model = { decoder, adapter };
  const run = resolveConfig([...needed, ...settings].map(readOverride));
  const learns = trains !== "nothing";
  return modelProgram(run, { policy: model, simulator: null, reference: learns ? null : model, criticModel: null }, { trains: learns });
}
