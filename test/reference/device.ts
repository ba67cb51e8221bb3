/**
 * A device in float64: every kernel of the table in its plainest form, one array per storage. Slow, single-threaded, and written
 * apart from the real devices: what they compute in f32 is compared with this, and central differences are taken on it.
 * f16 and bf16 storages are rounded as they should be; f32 storages keep float64.
 */
import {
  dtypeBytes,
  type Device,
  type Dtype,
  type HostArray,
  type MemoryReport,
  type Storage,
  type Usage,
} from "../../src/device/device.ts";
import { kernels, type KernelDims, type KernelName } from "../../src/device/kernels.ts";
import { toElements, toFloats } from "../../src/tensor/dtype.ts";
import { countTensors } from "../helpers/live-tensors.ts";
import type { ReferenceTensor } from "./kernel-types.ts";
import { referenceKernels } from "./kernels.ts";
import { roundTo } from "../helpers/round-to.ts";

class ReferenceStorage implements Storage, ReferenceTensor {
  readonly rows: number;
  readonly cols: number;
  readonly dtype: Dtype;
  readonly usage: Usage;
  readonly label: string;
  readonly shards = 1;
  readonly values: Float64Array;
  constructor(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string) {
    this.rows = rows;
    this.cols = cols;
    this.dtype = dtype;
    this.usage = usage;
    this.label = label;
    // Undefined contents are NaN, so that reading them is seen.
    this.values = new Float64Array(rows * cols).fill(dtype === "u32" ? 0xdeadbeef : NaN);
  }
  get rowsPerShard(): number {
    return this.rows;
  }
  get bytes(): number {
    return this.rows * this.cols * dtypeBytes[this.dtype];
  }
}

export class ReferenceDevice implements Device {
  readonly kind = "cpu";
  readonly description = "float64 reference";
  readonly readInterval = 1;
  readonly precision = "f32";
  private inUse = 0;
  private peak = 0;
  private readonly live = new Set<Storage>();

  constructor() {
    countTensors(this);
  }

  allocate(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string): Storage {
    const storage = new ReferenceStorage(rows, cols, dtype, usage, label);
    this.live.add(storage);
    this.inUse += storage.bytes;
    this.peak = Math.max(this.peak, this.inUse);
    return storage;
  }

  release(storage: Storage): void {
    if (!this.live.delete(storage)) throw new Error(`"${storage.label}" released twice`);
    this.inUse -= storage.bytes;
  }

  write(storage: Storage, data: HostArray, firstRow = 0): void {
    this.poke(storage, toFloatsOrIds(data, storage.dtype), firstRow);
  }

  read(storage: Storage, firstRow = 0, rows = storage.rows - firstRow): Promise<HostArray> {
    return Promise.resolve(
      toElements(Array.from(this.peek(storage).subarray(firstRow * storage.cols, (firstRow + rows) * storage.cols)), storage.dtype).slice(),
    );
  }

  /** The float64 values themselves. */
  peek(storage: Storage): Float64Array {
    return this.checked(storage).values;
  }

  /** Writes float64 values, unrounded where the storage is f32. */
  poke(storage: Storage, values: ArrayLike<number>, firstRow = 0): void {
    this.checked(storage).values.set(
      storage.dtype === "f32" || storage.dtype === "u32" ? values : Array.from(values, (x) => roundTo(x, storage.dtype)),
      firstRow * storage.cols,
    );
  }

  run<K extends KernelName>(
    kernel: K,
    dims: KernelDims<K>,
    inputs: readonly (Storage | null)[],
    outputs: readonly (Storage | null)[],
  ): void {
    const row = kernels[kernel];
    if (inputs.length !== row.inputs.length || outputs.length !== row.outputs.length)
      throw new Error(
        `${kernel}: ${inputs.length} inputs and ${outputs.length} outputs; expected ${row.inputs.length} and ${row.outputs.length}`,
      );
    for (const name of row.dims)
      if (typeof (dims as Record<string, number>)[name] !== "number") throw new Error(`${kernel}: dim ${name} is missing`);
    outputs.forEach((output, i) => {
      if (output !== null && inputs.includes(output)) throw new Error(`${kernel}: output ${row.outputs[i]} aliases an input`);
    });
    const see = (storage: Storage | null): ReferenceStorage | null => (storage === null ? null : this.checked(storage));
    const into = outputs.map(see);
    referenceKernels[kernel](dims, inputs.map(see), into);
    for (const storage of into)
      if (storage !== null && (storage.dtype === "f16" || storage.dtype === "bf16"))
        storage.values.forEach((x, i) => {
          storage.values[i] = roundTo(x, storage.dtype);
        });
  }

  synchronize(): Promise<void> {
    return Promise.resolve();
  }

  memory(): MemoryReport {
    return { inUse: this.inUse, peak: this.peak, reserved: this.inUse };
  }

  resetPeak(): void {
    this.peak = this.inUse;
  }

  destroy(): Promise<void> {
    this.live.clear();
    return Promise.resolve();
  }

  private checked(storage: Storage): ReferenceStorage {
    if (!this.live.has(storage)) throw new Error(`"${storage.label}" used after it was released`);
    return storage as ReferenceStorage;
  }
}

function toFloatsOrIds(data: HostArray, dtype: Dtype): ArrayLike<number> {
  return dtype === "u32" ? data : toFloats(data, dtype);
}
