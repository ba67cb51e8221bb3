/**
 * Devices for tests. The same test files run once per kind: the projects of vitest.config.ts set TEST_DEVICE to `cpu` or `webgpu`.
 */
import { afterAll, beforeAll } from "vitest";
import { createDevice } from "../../src/device/create.ts";
import type { DeviceOptions } from "../../src/device/options.ts";
import type { Device } from "../../src/device/device.ts";
import { countTensors } from "./live-tensors.ts";
import { buildKernels } from "../../scripts/build-kernels.js";

/** What tests of this run compute on. */
export const testDevice: "cpu" | "webgpu" = process.env["TEST_DEVICE"] === "webgpu" ? "webgpu" : "cpu";

let built: Promise<unknown> | null = null;

/**
 * A device for one test or suite; whoever made it destroys it. Fresh memory is NaN unless told, so that nothing undefined is read;
 * around a GPU's buffers lie canaries, so that nothing is written outside; the self-test at start, seconds on a software adapter, is left out,
 * and so are tiles that the user has measured.
 */
export async function makeDevice(options: DeviceOptions = {}): Promise<Device> {
  if ((options.device ?? testDevice) === "cpu") {
    built ??= (buildKernels as (options: { ifChanged: boolean }) => Promise<unknown>)({ ifChanged: true });
    await built;
  }
  return countTensors(await createDevice({ device: testDevice, poison: true, guard: true, selfTest: false, tuning: false, ...options }));
}

/** Runs `fn` on a device made for it. */
export async function withDevice<T>(fn: (device: Device) => Promise<T>, options: DeviceOptions = {}): Promise<T> {
  const device = await makeDevice(options);
  try {
    return await fn(device);
  } finally {
    await device.destroy();
  }
}

/** One device for all tests of the file or `describe` that calls this; the function gives it, inside tests. */
export function useDevice(options: DeviceOptions = {}): () => Device {
  let device: Device | null = null;
  beforeAll(async () => {
    device = await makeDevice(options);
  });
  afterAll(async () => {
    await device?.destroy();
  });
  return () => device!;
}

interface Variant {
  readonly name: string;
  readonly options: DeviceOptions;
  /** Whether its bits should be those of the first one of its kind. */
  readonly sameBits: boolean;
}

/**
 * What every op is tested on: all defaults; the portable kernels on one thread; shards so small that tensors of a few rows have several.
 * There a GPU's accesses that go astray, however far, are moved to the end of a buffer, where a canary shows them; elsewhere kernels run
 * as they do for users, unchecked.
 */
export const deviceVariants: readonly Variant[] = {
  cpu: [
    { name: "cpu", options: {}, sameBits: true },
    {
      name: "cpu, mul+add, one thread, shards of 256 bytes",
      options: { threads: 1, simd: "plain" as const, maxShardBytes: 256 },
      sameBits: false,
    },
  ],
  webgpu: [
    { name: "webgpu", options: {}, sameBits: true },
    {
      name: "webgpu, kernels that run anywhere, small shards, checked accesses",
      options: { tiersOff: ["subgroups", "shader-f16", "subgroup-matrix"] as const, maxShardBytes: 256, robust: true },
      sameBits: false,
    },
  ],
}[testDevice];

/** What every kernel is tested on: with small shards a GPU's accesses are checked, as above. */
export const kernelVariants: readonly Variant[] = {
  cpu: [
    { name: "1 thread", options: { threads: 1 }, sameBits: true },
    { name: "2 threads", options: { threads: 2 }, sameBits: true },
    { name: "2 threads, small shards", options: { threads: 2, maxShardBytes: 2048 }, sameBits: true },
    { name: "without FMA", options: { threads: 1, simd: "plain" as const, poison: false }, sameBits: false },
  ],
  webgpu: [
    { name: "all tiers", options: {}, sameBits: true },
    { name: "small shards, checked accesses", options: { maxShardBytes: 2048, robust: true }, sameBits: true },
    { name: "kernels that run anywhere", options: { tiersOff: ["subgroups", "shader-f16", "subgroup-matrix"] as const }, sameBits: false },
  ],
}[testDevice];
