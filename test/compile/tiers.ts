/** Adapters to compile for: what each set of tiers lets hosts choose. */
import type { Capabilities, MatrixShape } from "../../src/device/webgpu/capabilities.ts";
import { defaultTuning } from "../../src/device/webgpu/tuning.ts";

export interface CompileTarget {
  readonly name: string;
  readonly capabilities: Capabilities;
  /**
   * Whether the null backend takes its pipelines. Its limits are the least that WebGPU allows, and workgroups of matrix kernels must be
   * multiples of its 128 there; for other adapters the WGSL is compiled, but no pipeline is made.
   */
  readonly pipelines: boolean;
}

const least: Capabilities = {
  subgroupSize: 0,
  subgroupSizeControl: false,
  f16: false,
  matrix: null,
  maxBinding: 2 ** 27,
  maxBuffer: 2 ** 28,
  maxWorkgroupMemory: 16384,
  maxInvocations: 256,
  maxStorageBuffers: 8,
  software: false,
  tuning: defaultTuning,
};
const square = (n: number): MatrixShape => ({ M: n, N: n, K: n });
const large = {
  maxBinding: 2 ** 31 - 16,
  maxBuffer: 2 ** 31 - 256,
  maxWorkgroupMemory: 49152,
  maxInvocations: 1024,
  maxStorageBuffers: 16,
};

export const targets: readonly CompileTarget[] = [
  { name: "no tier", capabilities: least, pipelines: true },
  { name: "no tier, software", capabilities: { ...least, software: true }, pipelines: true },
  { name: "subgroups of 32", capabilities: { ...least, subgroupSize: 32 }, pipelines: true },
  { name: "subgroups of 4", capabilities: { ...least, subgroupSize: 4 }, pipelines: true },
  { name: "subgroups of 8 and shader-f16", capabilities: { ...least, subgroupSize: 8, f16: true }, pipelines: true },
  { name: "shader-f16 without subgroups", capabilities: { ...least, f16: true }, pipelines: true },
  {
    name: "matrices of 16 in the least limits",
    capabilities: { ...least, subgroupSize: 64, f16: true, matrix: square(16) },
    pipelines: true,
  },
  {
    name: "matrices of 16 and subgroups whose size is chosen",
    capabilities: { ...least, subgroupSize: 64, subgroupSizeControl: true, f16: true, matrix: square(16) },
    pipelines: true,
  },
  {
    name: "matrices of 8 in the least limits",
    capabilities: { ...least, subgroupSize: 64, f16: true, matrix: square(8) },
    pipelines: true,
  },
  { name: "a large GPU", capabilities: { ...least, ...large, subgroupSize: 32, f16: true, matrix: square(16) }, pipelines: false },
  { name: "a large GPU whose f16 is hidden", capabilities: { ...least, ...large, subgroupSize: 32 }, pipelines: false },
  {
    name: "a small GPU with subgroups of 8 and matrices of 8",
    capabilities: { ...least, maxWorkgroupMemory: 32768, maxInvocations: 1024, subgroupSize: 8, f16: true, matrix: square(8) },
    pipelines: false,
  },
];
