/**
 * The tensor engine, as both entries export it (`zerosearch`, and `zerosearch/webgpu` for browsers): devices' contract, tensors, ops, the
 * decoder, optimiser, fine-tuning and generation. It knows token ids, not text.
 */

// Devices
export type { ByRow, Device, DeviceProgram, Dtype, HostArray, MemoryReport, Operands, Replay, Storage, Usage } from "./device/device.ts";
export type { KernelDims, KernelName } from "./device/kernels.ts";
export type { Gpu, WebGpuOptions } from "./device/webgpu/options.ts";
export type { Tuning, TuningPlace } from "./device/webgpu/tuning.ts";
export type { Tier } from "./device/webgpu/capabilities.ts";

// Tensors
export { empty, fromHost, full, Parameter, Tensor, type TensorOptions } from "./tensor/tensor.ts";
export type { Shape } from "./tensor/shape.ts";
export { keep, Scope, withScope, type Owned } from "./tensor/scope.ts";
export { withoutTape, withTape, type Tape } from "./tensor/tape.ts";
export { backward, type BackwardOptions } from "./tensor/backward.ts";

// Ops
export { crossEntropy, type WeightedNllOptions } from "./ops/cross-entropy.ts";
export { gatherRows } from "./ops/gather-rows.ts";
export { logProb, type LogProb } from "./ops/log-prob.ts";
export { matmul, type MatmulOptions } from "./ops/matmul.ts";
export { policyLoss, policyLossStats, type PolicyLossInputs, type PolicyLossOptions } from "./ops/policy-loss.ts";
export type { KlEstimator, PolicyLossForm } from "./ops/policy-loss.ts";
export { sequenceOldLogProb } from "./ops/sequence-ratio.ts";
export { valueLoss, valueLossStats, type ValueLossInputs, type ValueLossOptions } from "./ops/value-loss.ts";

// The decoder
export { packBatch, type PackedBatch } from "./nn/batch.ts";
export type { LinearName } from "./nn/block.ts";
export { fromHuggingFace, parameterShapes } from "./nn/config.ts";
export type { Architecture, DecoderConfig, ParameterShape, RopeScaling } from "./nn/config.ts";
export { Decoder } from "./nn/decoder.ts";
export type { AdapterOptions, AdapterShape, DecoderOptions, ForwardOptions, PagedBatch, PairShape } from "./nn/decoder.ts";
export { ValueHead } from "./nn/value-head.ts";
export { KvCache } from "./nn/kv-cache.ts";
export type { PagedPlaces } from "./ops/kv-write.ts";

// Optimiser and fine-tuning
export { AdamW, decayGroups, type AdamWOptions, type ParameterGroup, type StepOutcome } from "./optim/adamw.ts";
export { LossScaler, lossScalerFor, type LossScalerOptions, type LossScalerState } from "./optim/loss-scaler.ts";
export type { MomentKind } from "./optim/moments.ts";
export { learningRate, type LearningRateSchedule } from "./optim/schedule.ts";
export { fineTuneStep, type Example, type FineTuneSettings, type FineTuneStats } from "./sft/fine-tune.ts";

// Generation
export { BatchGenerator, type BatchGeneratorOptions, type GeneratorModel } from "./generate/scheduler.ts";
export { compileStops, type StopSpecification } from "./generate/stop-automaton.ts";
export type {
  Generated,
  GenerateRequest,
  Generator,
  GeneratorCounts,
  OpenOptions,
  SamplingSettings,
  Sequence,
  StopTable,
  TrajectoryKey,
} from "./generate/types.ts";
export type { Purpose } from "./util/philox.ts";

// Errors
export {
  ConfigError,
  DataError,
  DeviceError,
  FileError,
  RequestError,
  ServerError,
  ShapeError,
  ZeroSearchError,
  type Complaint,
} from "./util/errors.ts";
