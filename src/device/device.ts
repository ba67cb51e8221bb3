/**
 * What the rest of the house may ask of a device: memory in two-dimensional storages, and kernels in program order.
 *
 * A device knows no autograd, no models and no text. `run` returns at once; kernels take effect in the order in which they were
 * asked for, and only `read` waits. The rooms above `src/device/` never see WASM memory or a GPUDevice.
 */
import type { KernelDims, KernelName } from "./kernels.ts";

/** Storage types. Computation is in f32 (or u32 for ids), whatever the storage type. */
export type Dtype = "f32" | "f16" | "bf16" | "u32";
export const dtypeBytes: Readonly<Record<Dtype, number>> = { f32: 4, f16: 2, bf16: 2, u32: 4 };

/**
 * What a storage is for. A `parameter` (a weight, its gradient, its moments) stays: a device may give it memory of its very size instead
 * of a size class, and keep a repacked copy of it, valid until it is next written.
 */
export type Usage = "parameter" | "activation";

/**
 * `rows` x `cols` elements of one dtype, row-major, rows contiguous. Rows are split over shards of `rowsPerShard` rows (a power
 * of two, or all of them), since a binding or an allocation has a largest size; a single row is never split.
 */
export interface Storage {
  readonly rows: number;
  readonly cols: number;
  readonly dtype: Dtype;
  readonly usage: Usage;
  readonly label: string;
  readonly shards: number;
  readonly rowsPerShard: number;
  /** Bytes of the elements, without padding. */
  readonly bytes: number;
}

/** Inputs or outputs of a kernel; an absent one is null. */
export type Operands = readonly (Storage | null)[];

export interface MemoryReport {
  /** Bytes of live storages, in their size classes. */
  readonly inUse: number;
  /** The largest `inUse` since the last `resetPeak`. */
  readonly peak: number;
  /** Bytes held from the system, in use or pooled. */
  readonly reserved: number;
}

/** What a piece of memory is taken for: a storage of that label, scratch of one kernel call, or a repacked copy of a parameter. */
export interface MemoryUse {
  readonly kind: "storage" | "scratch" | "copy";
  readonly label: string;
}

/** Is told of every piece of memory that a device takes and gives back. */
export interface MemoryObserver {
  /** `id` is that of a piece taken before where it changes its use; `bytes` are those of its size class. */
  taken(id: number, bytes: number, use: MemoryUse): void;
  given(id: number): void;
}

/** What first exceeded the memory there is. */
export interface Overflow {
  readonly what: string;
  readonly bytes: number;
  readonly inUse: number;
}

/** Typed array of a storage's raw elements: f16 and bf16 travel as their bits. */
export type HostArray = Float32Array | Uint32Array | Uint16Array;

/** What captured kernels compute row by row. */
export interface ByRow {
  readonly rows: number;
  /**
   * All storages of others that are read or written row by row: with a row, or a vector's element, for each of these rows; or one more: 0,
   * 1, 2, ..., where each row's only token begins. What is made inside has as many rows too.
   */
  readonly storages: readonly Storage[];
}

/** Kernels that can be run again. It holds next to nothing while it does not run. */
export interface Replay {
  /**
   * `rows`: nobody asks for more than the first ones of what goes by row; what becomes of the others is not said. Returns false where what was
   * recorded could not run again, as memory that it used is in use or a storage that it named is gone: then it was recorded anew.
   * @throws DeviceError unless it is a whole number.
   */
  run(rows?: number): boolean;
  /** Frees what was reserved; whoever captured calls it once. */
  dispose(): void;
}

/** Asks a device for kernels, as a run would. */
export type DeviceProgram = (device: Device) => void | Promise<void>;

export interface Device {
  /** Its name in the table of devices. */
  readonly kind: string;
  /** One line of facts for people, on which bits may depend: engine, threads, SIMD build or adapter, driver, kernel tier. */
  readonly description: string;
  /** What there is to say of how it computes that bits do not depend on. */
  readonly detail?: string | undefined;
  /** Decode steps worth recording before ids are read back: 1 where reading is free. */
  readonly readInterval: number;
  /** Type that the operands of matrix products are rounded to; sums are f32. With f16, gradients need loss scaling. */
  readonly precision: "f32" | "f16";

  /**
   * Contents are undefined. The caller releases it, once.
   * @throws DeviceError when memory runs out: which storage, how much was asked, how much is in use, what to lower.
   */
  allocate(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string): Storage;
  release(storage: Storage): void;

  /**
   * Copies rows from the host; `data.length` is a multiple of cols. Of a storage that is one row of 32-bit elements, any of them: `firstRow` is the
   * first element then. The array may be reused on return.
   */
  write(storage: Storage, data: HostArray, firstRow?: number): void;
  /** A copy of `rows` rows (all by default) after everything asked for before has run. */
  read(storage: Storage, firstRow?: number, rows?: number): Promise<HostArray>;

  /**
   * Runs one kernel of the table in `kernels.ts`. An absent optional input is null. Outputs never alias inputs, except those the
   * table marks `inout`. The call is checked against the table.
   */
  run<K extends KernelName>(kernel: K, dims: KernelDims<K>, inputs: Operands, outputs: Operands): void;

  /**
   * Runs `fn`, which asks for kernels only, and keeps what was recorded, to be run again on the same storages: a decode step costs the host
   * little then. A device calls `fn` again where what was recorded cannot run: it must ask for what is to run now. Absent where nothing is
   * gained.
   */
  capture?(fn: () => void, byRow?: ByRow): Replay;

  /**
   * Makes ready what a program will ask for (a GPU compiles pipelines), without stopping this one: `program` is run on a device that computes
   * nothing, perhaps several times; what it reads are zeros. `onProgress` is told how many pipelines are done. Only time depends on it.
   * Absent where there is nothing to do.
   * @throws DeviceError when a kernel does not compile.
   */
  prepare?(program: DeviceProgram, onProgress?: (done: number, total: number) => void): Promise<void>;

  /** Resolves when everything asked for has run. */
  synchronize(): Promise<void>;
  memory(): MemoryReport;
  resetPeak(): void;
  /** Ends worker threads and frees memory. The device throws afterwards. */
  destroy(): Promise<void>;
}

/** What a device is, and how it computes. */
export function wholeDescription({ description, detail }: Pick<Device, "description" | "detail">): string {
  return detail === undefined ? description : `${description}, ${detail}`;
}

/** A device that computes nothing and holds no data, but counts what the same calls would take of a real one. */
export interface DryDevice extends Device {
  /** Undefined where all fits. It then counts on as if there were no limit. */
  readonly overflow: Overflow | undefined;
}
