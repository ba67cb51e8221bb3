/**
 * The engine for browsers: `import { createWebGpuDevice } from "zerosearch/webgpu"`. Devices, tensors, ops, the decoder, fine-tuning and
 * generation, without Node and without any package; text, files and search are in the main entry.
 *
 * @example
 * const sources = new Map(Object.entries(await (await fetch("wgsl.json")).json())); // zerosearch/wgsl.json
 * const device = await createWebGpuDevice({ gpu: navigator.gpu, sources });
 */
export { createWebGpuDevice } from "./device/webgpu/create.ts";
export { tuneWebGpuDevice } from "./device/webgpu/tune-webgpu.ts";
export type { TunedProduct, TuneOptions, TuningReport } from "./device/webgpu/tune-report.ts";
export * from "./engine.ts";
