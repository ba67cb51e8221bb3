/**
 * The engine for browsers: `import { createWebGpuDevice } from "zerosearch/webgpu"`. Devices, tensors, ops, the decoder, fine-tuning and
 * generation, without Node and without any package; text, files and search are in the main entry.
 *
 * @example
 * const sources = new Map(Object.entries(await (await fetch("wgsl.json")).json())); // zerosearch/wgsl.json
 * const device = await createWebGpuDevice({ gpu: navigator.gpu, sources });
 */
export { createWebGpuDevice, type WebGpuOptions } from "./device/webgpu/create-webgpu.ts";
export type { Device, Dtype, MemoryReport, Storage } from "./device/device.ts";
export { empty, fromHost, full, Parameter, Tensor } from "./tensor/tensor.ts";
export { backward } from "./tensor/backward.ts";
export { keep, Scope, withScope } from "./tensor/scope.ts";
export { withTape, withoutTape } from "./tensor/tape.ts";
export { matmul } from "./ops/matmul.ts";
export { gatherRows } from "./ops/gather-rows.ts";
export { logProb } from "./ops/log-prob.ts";
export { crossEntropy } from "./ops/cross-entropy.ts";
export { policyLoss } from "./ops/policy-loss.ts";
export { packBatch, type PackedBatch } from "./nn/batch.ts";
export { fromHuggingFace, parameterShapes, type DecoderConfig } from "./nn/config.ts";
export { Decoder, type DecoderOptions } from "./nn/decoder.ts";
export { KvCache } from "./nn/kv-cache.ts";
export { AdamW, decayGroups } from "./optim/adamw.ts";
export { LossScaler, lossScalerFor } from "./optim/loss-scaler.ts";
export { learningRate } from "./optim/schedule.ts";
export { fineTuneStep, type Example } from "./sft/fine-tune.ts";
export { BatchGenerator } from "./generate/scheduler.ts";
export { compileStops } from "./generate/stop-automaton.ts";
export type { Generated, GenerateRequest, Generator, Sequence, TrajectoryKey } from "./generate/types.ts";
export { ZeroSearchError } from "./util/errors.ts";
