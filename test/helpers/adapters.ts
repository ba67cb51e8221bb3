/** Adapters that this machine need not have. */
import { dawn } from "../../src/device/dawn.ts";
import type { FoundAdapter, Probe } from "../../src/device/probe.ts";
import { factsOf, type AdapterFacts } from "../../src/device/webgpu/adapter.ts";

export const emptyProbe: Probe = { adapters: [], unusable: [], failure: null, messages: [] };

export const h200: FoundAdapter = {
  name: "nvidia-h200",
  fullName: "NVIDIA H200",
  backend: "vulkan",
  count: 1,
  vendor: "nvidia",
  architecture: "hopper",
  driver: "NVIDIA: 580.82.07",
  software: false,
  features: ["chromium-experimental-subgroup-matrix", "shader-f16", "subgroups", "timestamp-query"],
  limits: {
    maxStorageBufferBindingSize: 2 ** 31 - 4,
    maxBufferSize: 2 ** 31,
    maxComputeWorkgroupStorageSize: 49152,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxStorageBuffersPerShaderStage: 16,
  },
  matrices: [{ M: 16, N: 16, K: 16, componentType: "f16", resultComponentType: "f32" }],
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
};

/** An H200 but for what is told. */
export function adapter(changes: Partial<FoundAdapter>): FoundAdapter {
  return { ...h200, ...changes };
}

/**
 * The adapter that the tests of this process run on. Without one, a software adapter that can do nothing: test files must load for
 * the runner to skip their tests.
 */
export async function adapterHere(): Promise<AdapterFacts> {
  const found = await (await dawn()).requestAdapter();
  return found === null ? adapter({ software: true, features: [], matrices: [] }) : factsOf(found);
}
