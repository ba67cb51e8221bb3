/** What a run is planned for: the device that it would take, as one that only counts, and the memory there is. */
import { availableParallelism, cpus } from "node:os";
import type { Config } from "../config/index.ts";
import { chooseAsked, chooseAuto } from "../device/choose.ts";
import type { Device, MemoryObserver } from "../device/device.ts";
import { genericGpu, gpuOf, gpuUnder, hollowCpu, hollowGpu, type GpuFacts, type HollowDevice } from "../device/hollow.ts";
import { probeAdapters, type FoundAdapter, type Probe } from "../device/probe.ts";
import { formatBytes } from "../log/progress.ts";
import { gpuMemory, thisMachine, type Machine, type Memory } from "./gpu-memory.ts";
import { cpuRateKey, gpuRateKey } from "./rates.ts";

export interface Target {
  readonly kind: "cpu" | "webgpu";
  /** What it is, for people. */
  readonly name: string;
  /** Whose memory it is. */
  readonly place: "memory" | "GPU";
  /** What a person should know of it. */
  readonly notes: readonly string[];
  /** Under which its rates are kept (`rates.ts`). */
  readonly rateKey: string;
  /** What there is; null where nobody knows. */
  readonly memory: Memory | null;
  /** Bytes of it that are not for a run: the driver's. */
  readonly kept: number;
  open(observer: MemoryObserver): Promise<HollowDevice>;
}

/** Kept free of a GPU's own memory: the driver's, pipelines, and buffers that data travels in. An assumption. */
export function driverBytes(memory: number): number {
  return Math.max(0.5 * 2 ** 30, 0.02 * memory);
}

/** The device that a run has opened. */
export async function targetOf(device: Device, settings: Config["device"], machine: Machine = thisMachine): Promise<Target> {
  const gpu = gpuUnder(device);
  return gpu === null ? cpuTarget(settings, machine, []) : gpuTarget(settings, gpu, gpu.name, machine);
}

function givenMemory({ memoryGiB }: Config["device"]): Memory | null {
  return memoryGiB > 0 ? { bytes: memoryGiB * 2 ** 30, source: "device.memoryGiB" } : null;
}

/**
 * The device that these settings lead to on this machine. Where a GPU is asked for that is not here, one like today's NVIDIA GPUs, with
 * the memory that device.memoryGiB says.
 */
export async function findTarget(
  settings: Config["device"],
  machine: Machine = thisMachine,
  probe: () => Promise<Probe> = probeAdapters,
): Promise<Target> {
  const { kind, adapter } = settings;
  if (kind === "cpu") return cpuTarget(settings, machine, []);
  const found = await probe();
  if (kind === "auto") {
    const choice = chooseAuto({ adapter }, found);
    if (choice.device === "cpu") return cpuTarget(settings, machine, [choice.why.replace(/; zerosearch doctor says more$/, "")]);
    const taken = found.adapters.find(({ fullName }) => fullName === choice.adapter);
    if (taken !== undefined) return gpuTarget(settings, gpuOf(taken), taken.fullName, machine);
  }
  const asked = chooseAsked({ kind: "webgpu", adapter });
  const wanted = found.adapters.filter(({ fullName }) => asked?.device === "webgpu" && fullName.includes(asked.adapter ?? ""));
  const here = wanted.find(({ software }) => !software) ?? (settings.memoryGiB > 0 ? undefined : wanted[0]);
  return here === undefined ? absentTarget(settings, wanted) : gpuTarget(settings, gpuOf(here), here.fullName, machine);
}

function cpuTarget(settings: Config["device"], machine: Machine, notes: readonly string[]): Target {
  const { blas, threads, maxShardMiB } = settings;
  const options = {
    blas,
    ...(threads === 0 ? {} : { threads }),
    ...(maxShardMiB === 0 ? {} : { maxShardBytes: maxShardMiB * 2 ** 20 }),
  };
  const count = threads === 0 ? availableParallelism() : threads;
  const four = 2 ** 32;
  const memory =
    machine.memory < four ? { bytes: machine.memory, source: "this machine's memory" } : { bytes: four, source: "WebAssembly's addresses" };
  return {
    kind: "cpu",
    place: "memory",
    name: `the CPU, ${count} thread${count === 1 ? "" : "s"}`,
    notes,
    rateKey: cpuRateKey(cpus()[0]?.model ?? "unknown processor", count, blas),
    memory,
    kept: 0,
    open: (observer) => hollowCpu({ ...options, maxMemoryBytes: memory.bytes }, observer),
  };
}

async function gpuTarget(settings: Config["device"], gpu: GpuFacts, fullName: string, machine: Machine): Promise<Target> {
  const memory = givenMemory(settings) ?? (await gpuMemory({ vendor: gpu.vendor, fullName, software: gpu.software }, machine));
  return webgpuTarget(settings, gpu, fullName, memory, []);
}

function absentTarget(settings: Config["device"], others: readonly FoundAdapter[]): Target {
  const here = others[0] === undefined ? "no GPU adapter is here" : `only a software adapter is here (${others[0].fullName})`;
  const { maxBuffer } = genericGpu.capabilities;
  const note = `${here}: planned for a GPU with the limits of today's NVIDIA GPUs (buffers of ${formatBytes(maxBuffer)}, subgroup matrices)`;
  return webgpuTarget(settings, genericGpu, genericGpu.name, givenMemory(settings), [note]);
}

function webgpuTarget(
  { precision, maxShardMiB }: Config["device"],
  gpu: GpuFacts,
  fullName: string,
  memory: Memory | null,
  notes: readonly string[],
): Target {
  const kept = memory === null || gpu.software ? 0 : driverBytes(memory.bytes);
  const maxShardBytes = maxShardMiB === 0 ? undefined : maxShardMiB * 2 ** 20;
  const maxMemoryBytes = memory === null ? undefined : Math.floor(memory.bytes - kept);
  return {
    kind: "webgpu",
    place: gpu.software ? "memory" : "GPU",
    name: `${fullName}, ${precision}`,
    notes: [...notes, ...(kept === 0 ? [] : [`${formatBytes(kept)} of them are left to the driver (an assumption)`])],
    rateKey: gpuRateKey(gpu.name, precision),
    memory,
    kept,
    open: (observer) => Promise.resolve(hollowGpu(gpu, { precision, maxShardBytes, maxMemoryBytes }, observer)),
  };
}
