/** What an entry of the table of devices says: everything that depends on which kind of device there is. */
import type { Device, DryDevice, MemoryObserver } from "./device.ts";
import type { Machine, Memory } from "./gpu-memory.ts";
import type { Backend, DeviceOptions } from "./options.ts";

/** The configuration of a device; 0 and null leave the choice to it. */
export interface DeviceSettings {
  /** Part of an adapter's name. */
  readonly adapter: string | null;
  /** The way to a GPU. */
  readonly backend: Backend | "auto";
  readonly threads: number;
  readonly native: "auto" | "off";
  readonly tuning: "auto" | "off";
  readonly precision: "f32" | "f16";
  readonly memoryGiB: number;
  readonly maxShardMiB: number;
}

/** Whether `auto` takes a device of some kind on this machine: of a kind that has several, which. */
export interface Offer {
  readonly takes: boolean;
  readonly adapter?: string | undefined;
  /** Why, or why not; empty where there is nothing to say. */
  readonly why: string;
}

/** What a run is planned for: a device as it is or would be on a machine, and the memory there is. */
export interface Target {
  readonly kind: string;
  /** What to call devices of its kind: "the GPU". */
  readonly title: string;
  /** What it is, for people. */
  readonly name: string;
  /** Whose memory it is. */
  readonly place: "memory" | "GPU";
  /** What a person should know of it. */
  readonly notes: readonly string[];
  /** Under which its rates are kept. */
  readonly rateKey: string;
  /** What there is; null where nobody knows. */
  readonly memory: Memory | null;
  /** Bytes of it that are not for a run: the driver's. */
  readonly kept: number;
  /** Whether what does not fit is sure to fail: nothing of its memory is an assumption. */
  readonly exact: boolean;
  /** Where there is more memory, in a sentence; null where nothing is known to have more. */
  readonly larger: string | null;
  open(observer: MemoryObserver): Promise<DryDevice>;
}

export interface DeviceKind {
  readonly name: string;
  /** Settings of which it makes use, among those that not all kinds do. */
  readonly uses: readonly ("adapter" | "backend" | "memoryGiB" | "native" | "precision" | "threads" | "tuning")[];
  /** Whether `auto` takes it. Opens nothing. */
  probe(settings: Pick<DeviceSettings, "adapter" | "backend">, machine: Machine): Promise<Offer>;
  /** @throws DeviceError when it cannot be had. */
  open(options: DeviceOptions): Promise<Device>;
  /** What these settings lead to on this machine, or what `opened` is, to be planned for. */
  dry(settings: DeviceSettings, machine: Machine, opened?: Device): Promise<Target>;
  /** The code of its kernels, in which two builds of this package may differ. */
  code(): Promise<Uint8Array>;
}

/** The options that the settings say, but for `memoryGiB`. */
export function optionsOf({ adapter, backend, threads, native, precision, tuning, maxShardMiB }: Partial<DeviceSettings>): DeviceOptions {
  return {
    adapter: adapter ?? undefined,
    backend: backend === "auto" ? undefined : backend,
    threads: threads === 0 ? undefined : threads,
    native,
    precision,
    tuning: tuning === "off" ? false : undefined,
    maxShardBytes: maxShardMiB === undefined || maxShardMiB === 0 ? undefined : maxShardMiB * 2 ** 20,
  };
}

/** Names a CPU among measured rates: many processors of one name differ in what machine code they run. */
export function cpuRateKey(processor: string, threads: number, vectors: string): string {
  return `${processor.trim()} x ${threads}, ${vectors}`;
}

/** Names a GPU among measured rates. */
export function gpuRateKey(adapter: string, precision: string): string {
  return `${adapter}, ${precision}`;
}
