/** Devices that compute nothing and hold no data, but count what the same calls would take of a real one: what a plan is made on. */
import { createHollowCpuDevice, type CpuDeviceOptions } from "./cpu/cpu-device.ts";
import type { Device, MemoryObserver } from "./device.ts";
import type { FoundAdapter } from "./probe.ts";
import { capabilitiesOf } from "./webgpu/adapter.ts";
import type { Capabilities } from "./webgpu/capabilities.ts";
import { DryDevice, type DryDeviceOptions } from "./webgpu/dry-device.ts";
import { WebGpuDevice } from "./webgpu/webgpu-device.ts";

export interface HollowDevice extends Device {
  /** What first exceeded the memory there is; undefined where all fits. It then counts on as if there were no limit. */
  readonly overflow: { readonly what: string; readonly bytes: number; readonly inUse: number } | undefined;
}

/** A GPU as far as memory goes. */
export interface GpuFacts {
  readonly name: string;
  readonly vendor: string;
  readonly software: boolean;
  readonly capabilities: Capabilities;
}

/** As `createCpuDevice`. */
export function hollowCpu(options: CpuDeviceOptions, observer: MemoryObserver): Promise<HollowDevice> {
  return createHollowCpuDevice(options, observer);
}

/** As the WebGPU device on such a GPU. */
export function hollowGpu(
  { capabilities }: GpuFacts,
  options: Pick<DryDeviceOptions, "precision" | "maxShardBytes" | "maxMemoryBytes">,
  observer: MemoryObserver,
): HollowDevice {
  const { maxShardBytes } = options;
  const shards = maxShardBytes === undefined ? {} : { maxShardBytes: Math.min(maxShardBytes, capabilities.maxBinding) };
  return new DryDevice({ capabilities, ...options, ...shards, fuse: true, notes: false, observer });
}

/** Before the self-test, which can switch a tier off. */
export function gpuOf(adapter: FoundAdapter): GpuFacts {
  const { name, vendor, software } = adapter;
  return { name, vendor, software, capabilities: capabilitiesOf(adapter, new Set()) };
}

/** The GPU under a device; null for one that has none. */
export function gpuUnder(device: Device): GpuFacts | null {
  if (!(device instanceof WebGpuDevice)) return null;
  const { adapter, capabilities } = device;
  return { ...adapter, capabilities };
}

/** Largest buffers of today's NVIDIA GPUs, and the tiers that they have. Source: limits of an H200 under Dawn. */
export const genericGpu: GpuFacts = {
  name: "a GPU that is not here",
  vendor: "",
  software: false,
  capabilities: {
    subgroupSize: 32,
    f16: true,
    matrix: { M: 16, N: 16, K: 16 },
    maxBinding: 2 ** 31 - 16,
    maxBuffer: 2 ** 31,
    maxWorkgroupMemory: 49152,
    maxInvocations: 1024,
    software: false,
  },
};
