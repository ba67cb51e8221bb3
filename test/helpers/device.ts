/** Devices for tests: the CPU device with its kernels built if need be, and the float64 reference. */
import { afterAll, beforeAll } from "vitest";
import { createDevice, type DeviceOptions } from "../../src/device/create.ts";
import type { Device } from "../../src/device/device.ts";
import { buildKernels } from "../../scripts/build-kernels.js";

let built: Promise<unknown> | null = null;

/** A CPU device for one test or suite; whoever made it destroys it. Fresh memory is NaN unless told, so that nothing undefined is read. */
export async function makeCpu(options: DeviceOptions = {}): Promise<Device> {
  built ??= (buildKernels as (options: { ifChanged: boolean }) => Promise<unknown>)({ ifChanged: true });
  await built;
  return createDevice({ poison: true, ...options });
}

/** Runs `fn` on a CPU device made for it. */
export async function withCpu<T>(fn: (device: Device) => Promise<T>, options: DeviceOptions = {}): Promise<T> {
  const device = await makeCpu(options);
  try {
    return await fn(device);
  } finally {
    await device.destroy();
  }
}

/** One CPU device for all tests of the file or `describe` that calls this; the function gives it, inside tests. */
export function useCpu(options: DeviceOptions = {}): () => Device {
  let device: Device | null = null;
  beforeAll(async () => {
    device = await makeCpu(options);
  });
  afterAll(async () => {
    await device?.destroy();
  });
  return () => device!;
}

/** What every op is tested on: all defaults; the portable build on one thread; shards so small that tensors of a few rows have several. */
export const deviceVariants: readonly { readonly name: string; readonly options: DeviceOptions }[] = [
  { name: "cpu", options: {} },
  { name: "cpu, mul+add, one thread, shards of 256 bytes", options: { threads: 1, simd: "plain", maxShardBytes: 256 } },
];
