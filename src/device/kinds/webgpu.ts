/** GPUs through WebGPU in the table of devices. */
import { dawn, loadWgsl } from "../dawn.ts";
import { formatBytes } from "../../util/bytes.ts";
import { DeviceError } from "../../util/errors.ts";
import type { Device } from "../device.ts";
import { gpuMemory, type Machine, type Memory } from "../gpu-memory.ts";
import { gpuRateKey, optionsOf, type DeviceKind, type DeviceSettings, type Offer } from "../kind.ts";
import { deviceUses } from "../options.ts";
import type { FoundAdapter, Probe } from "../probe.ts";
import { findTuning } from "../tunings.ts";
import { capabilitiesOf } from "../webgpu/adapter.ts";
import { placeOf, type Capabilities } from "../webgpu/capabilities.ts";
import { openFastest } from "../webgpu/create-webgpu.ts";
import { DryWebGpuDevice } from "../webgpu/dry-device.ts";
import { defaultTuning } from "../webgpu/tuning.ts";
import { WebGpuDevice } from "../webgpu/webgpu-device.ts";

export const webgpu = {
  name: "webgpu",
  uses: deviceUses.webgpu,
  probe: async ({ adapter, backend }, machine) => offerOf({ adapter, backend }, await machine.adapters()),

  open: async (options): Promise<Device> => {
    const { gpu = await dawn(options), sources = await loadWgsl() } = options;
    return openFastest({ ...options, gpu, sources }, undefined, findTuning);
  },

  dry: async (settings, machine, opened) => {
    const { gpu, notes } = opened === undefined ? await findGpu(settings, machine) : gpuUnder(opened);
    const memory = await memoryOf(gpu, settings, machine);
    const { precision } = settings;
    const { capabilities } = gpu;
    const kept = memory === null || gpu.software ? 0 : driverBytes(memory.bytes);
    const { maxShardBytes } = optionsOf(settings);
    const shards = maxShardBytes === undefined ? {} : { maxShardBytes: Math.min(maxShardBytes, capabilities.maxBinding) };
    const maxMemoryBytes = memory === null ? undefined : Math.floor(memory.bytes - kept);
    return {
      kind: "webgpu",
      title: "the GPU",
      place: gpu.software ? "memory" : "GPU",
      name: `${gpu.fullName}, ${precision}`,
      notes: [...notes, ...(kept === 0 ? [] : [`${formatBytes(kept)} of them are left to the driver (an assumption)`])],
      rateKey: gpuRateKey(gpu.name, precision),
      memory,
      kept,
      exact: false,
      larger: null,
      open: (observer) =>
        Promise.resolve(
          new DryWebGpuDevice({ capabilities, precision, maxMemoryBytes, ...shards, fuse: true, notes: false, slowReads: true, observer }),
        ),
    };
  },

  code: async () => Buffer.from([...(await loadWgsl())].flat().join("\n")),
} as const satisfies DeviceKind;

/** What of it is reached in one way. */
function through(backend: DeviceSettings["backend"], probe: Probe): Probe {
  if (backend === "auto") return probe;
  return { ...probe, adapters: probe.adapters.filter((one) => one.backend === backend) };
}

/** The first hardware adapter. A software adapter is slower than the CPU device, which is the same processor. */
function offerOf({ adapter, backend }: Pick<DeviceSettings, "adapter" | "backend">, all: Probe): Offer {
  const probe = through(backend, all);
  if (probe.adapters.length < all.adapters.length && probe.adapters.length === 0) {
    const others = [...new Set(all.adapters.map((one) => one.backend))].join(", ");
    return { takes: false, why: `no adapter is reached through ${backend}; there are ${others}; zerosearch doctor says more` };
  }
  const wanted = probe.adapters.filter(({ fullName }) => adapter === null || fullName.includes(adapter));
  const found = wanted.find(({ software }) => !software);
  if (found !== undefined) return { takes: true, adapter: found.fullName, why: whyFound(found, wanted, adapter) };
  return { takes: false, why: whyNone(probe, wanted, adapter) };
}

function whyFound(found: FoundAdapter, wanted: readonly FoundAdapter[], adapter: string | null): string {
  const hardware = wanted.filter(({ software }) => !software);
  const all = hardware.reduce((sum, { count }) => sum + count, 0);
  const rule = adapter === null ? "" : ` named ${adapter}`;
  if (all === 1) return `the only hardware adapter${rule}`;
  return `the first of ${all} hardware adapters${rule}${found.count === all ? "" : `; device.adapter=NAME takes another`}`;
}

function whyNone({ adapters, unusable, failure }: Probe, named: readonly FoundAdapter[], adapter: string | null): string {
  const more = "; zerosearch doctor says more";
  if (failure !== null) return `${failure}${more}`;
  const [software] = named;
  if (software !== undefined) return `${software.fullName} is a software adapter, taken only where --device webgpu asks for it`;
  const [other] = adapters;
  if (adapter !== null && other !== undefined) return `no adapter's name contains ${adapter}; there is ${other.fullName}`;
  const [refused] = unusable;
  if (refused !== undefined) return `${refused.fullName} cannot be used: ${refused.why}${more}`;
  return `no GPU adapter was found${more}`;
}

/** A GPU as far as a plan goes. */
interface GpuFacts {
  readonly name: string;
  /** The driver's own name. */
  readonly fullName: string;
  readonly vendor: string;
  readonly software: boolean;
  readonly capabilities: Capabilities;
}

/** A GPU, and what a person should know of it. */
interface PlannedGpu {
  readonly gpu: GpuFacts;
  readonly notes: readonly string[];
}

function gpuUnder(device: Device): PlannedGpu {
  if (!(device instanceof WebGpuDevice))
    throw new DeviceError({ where: "webgpu device", what: "another device was given", got: device.kind });
  const { adapter, capabilities } = device;
  return { gpu: { ...adapter, fullName: adapter.name, capabilities }, notes: [] };
}

/** The one that is here; where there is none, one like today's NVIDIA GPUs, with the memory that device.memoryGiB says. */
async function findGpu({ adapter, backend, memoryGiB, precision, tuning }: DeviceSettings, machine: Machine): Promise<PlannedGpu> {
  const wanted = through(backend, await machine.adapters()).adapters.filter(({ fullName }) => fullName.includes(adapter ?? ""));
  const here = wanted.find(({ software }) => !software) ?? (memoryGiB > 0 ? undefined : wanted[0]);
  // Before the self-test, which can switch a tier off.
  if (here !== undefined) {
    const capabilities = capabilitiesOf(here, new Set());
    const kept = tuning === "off" ? null : findTuning(placeOf(here, precision, capabilities));
    return { gpu: { ...here, capabilities: { ...capabilities, tuning: kept ?? defaultTuning } }, notes: [] };
  }
  const lack = wanted[0] === undefined ? "no GPU adapter is here" : `only a software adapter is here (${wanted[0].fullName})`;
  const limits = `buffers of ${formatBytes(genericGpu.capabilities.maxBuffer)}, subgroup matrices`;
  return { gpu: genericGpu, notes: [`${lack}: planned for a GPU with the limits of today's NVIDIA GPUs (${limits})`] };
}

async function memoryOf(gpu: GpuFacts, { memoryGiB }: DeviceSettings, machine: Machine): Promise<Memory | null> {
  if (memoryGiB > 0) return { bytes: memoryGiB * 2 ** 30, source: "device.memoryGiB" };
  return gpu === genericGpu ? null : gpuMemory(gpu, machine);
}

/** Kept free of a GPU's own memory: the driver's, pipelines, and buffers that data travels in. An assumption. */
function driverBytes(memory: number): number {
  return Math.max(0.5 * 2 ** 30, 0.02 * memory);
}

/** Limits and tiers that today's NVIDIA GPUs are taken to have. Source of the binding: Dawn, which bounds it on NVIDIA; the rest is an assumption. */
export const genericGpu: GpuFacts = {
  name: "a GPU that is not here",
  fullName: "a GPU that is not here",
  vendor: "",
  software: false,
  capabilities: {
    subgroupSize: 32,
    subgroupSizeControl: false,
    f16: true,
    matrix: { M: 16, N: 16, K: 16 },
    maxBinding: 2 ** 31 - 16,
    maxBuffer: 2 ** 31,
    maxWorkgroupMemory: 49152,
    maxInvocations: 1024,
    maxStorageBuffers: 16,
    software: false,
    tuning: defaultTuning,
  },
};
