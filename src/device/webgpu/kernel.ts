/**
 * What a kernel of the WebGPU device is written against: storages as buffers, and one way to record dispatches.
 *
 * Layout of a storage: rows lie `stride` elements apart, cols rounded up to 16 bytes; what lies between is undefined. Rows are split
 * over shards; buffer s holds rows s * rowsPerShard and following. f16 and bf16 are packed two to a u32, low half first.
 */
import type { Storage } from "../device.ts";
import type { KernelName } from "../kernels.ts";
import type { Capabilities } from "./capabilities.ts";

/** A buffer of the pool. Dispatches bind it whole. */
export interface GpuBuffer {
  readonly buffer: GPUBuffer;
  /** Unlike that of any other buffer of the device, alive or not. */
  readonly id: number;
  readonly bytes: number;
}

export interface GpuStorage extends Storage {
  /** Elements from one row to the next: cols rounded up so that a row is a multiple of 16 bytes. */
  readonly stride: number;
  /** One per shard, of whole rows of `stride`. */
  readonly buffers: readonly GpuBuffer[];
  /** Changes whenever the contents do. */
  readonly version: number;
}

/** One dispatch of one entry point of one WGSL file. */
export interface Dispatch {
  /** Stem of the file: kernels/wgsl/<kernel>.wgsl */
  readonly kernel: string;
  /** Entry point; `main` unless told. */
  readonly entry?: string;
  /** The prologue: `const NAME: u32 = 16u;` or `const NAME: bool = true;` in front of the file. Few different ones: each is a pipeline. */
  readonly constants?: Readonly<Record<string, number | boolean>>;
  /** `alias NAME = type;` */
  readonly aliases?: Readonly<Record<string, string>>;
  /** `enable name;` */
  readonly enables?: readonly string[];
  /** @group(0) bindings 0, 1, 2 ... in order, all storage buffers, at most 8. One buffer must not be bound both to read and to write. */
  readonly buffers: readonly GpuBuffer[];
  /** The uniform `var<uniform> p: Params`, which is bound after the buffers: u32 fields first, then f32 fields; at most 60 words together. */
  readonly uints?: readonly number[];
  readonly floats?: readonly number[];
  /** Workgroups in x, y, z: at most 65535 each (see `fold`); nothing runs if one is 0. */
  readonly grid: readonly [number, number, number];
}

/** What the device gives a kernel's host side. */
export interface KernelContext {
  readonly capabilities: Capabilities;
  /** Type that operands of matrix products are rounded to. */
  readonly precision: "f32" | "f16";
  dispatch(dispatch: Dispatch): void;
  /** Memory of at least `bytes`, undefined contents, for this kernel call only. */
  scratch(bytes: number): GpuBuffer;
  /** Copies bytes (multiples of 4) between buffers that differ. */
  copy(from: GpuBuffer, fromByte: number, to: GpuBuffer, toByte: number, bytes: number): void;
  /**
   * All rows in one buffer, for kernels that do not split rows over shards: the storage's own where it has one shard, else a copy
   * (written back after the call unless `access` is "read").
   * @throws DeviceError where the rows do not fit one binding.
   */
  whole(storage: GpuStorage, access: "read" | "write" | "inout"): GpuBuffer;
  /**
   * Memory that belongs to a storage and is made again when its contents have changed: `fill` records how. For repacked parameters.
   */
  derived(storage: GpuStorage, name: string, bytes: number, fill: (into: GpuBuffer) => void): GpuBuffer;
  /** Runs another kernel of the table as part of this one; its storages may be views made by `view`. */
  call(kernel: KernelName, call: KernelCall): void;
  /** Scratch memory as a storage of one shard, for `call`. */
  scratchStorage(rows: number, cols: number, dtype?: Storage["dtype"]): GpuStorage;
}

/** One call of a row of the table of kernels, checked. */
export interface KernelCall {
  readonly dims: Readonly<Record<string, number>>;
  readonly inputs: readonly (GpuStorage | null)[];
  readonly outputs: readonly (GpuStorage | null)[];
}

/** The host side of one row of the table: from a call to dispatches. It allocates nothing that outlives the call, but `derived`. */
export type KernelHost = (context: KernelContext, call: KernelCall) => void;

export const dtypeCodes = { f32: 0, f16: 1, bf16: 2, u32: 3 } as const;

/** `groups` workgroups as a grid of two dimensions; kernels count wg.y * num_workgroups.x + wg.x and leave beyond the last. */
export function fold(groups: number): readonly [number, number, number] {
  if (groups <= 65535) return [groups, 1, 1];
  const x = Math.ceil(groups / Math.ceil(groups / 65535));
  return [x, Math.ceil(groups / x), 1];
}

/** A run of rows that lies in one shard of every storage. */
export interface RowRun {
  /** The first row, counted over all shards. */
  readonly row: number;
  readonly rows: number;
  /** Per storage: its buffer, and where the run starts in it. */
  readonly parts: readonly { readonly buffer: GpuBuffer; readonly row: number }[];
}

/** Rows [firstRow, firstRow + rows) of storages whose rows correspond, cut at the shards of all of them. */
export function rowRuns(storages: readonly GpuStorage[], firstRow = 0, rows = (storages[0]?.rows ?? 0) - firstRow): RowRun[] {
  const runs: RowRun[] = [];
  const end = firstRow + rows;
  for (let row = firstRow; row < end;) {
    let next = end;
    const parts = storages.map((storage) => {
      const shard = Math.floor(row / storage.rowsPerShard);
      next = Math.min(next, (shard + 1) * storage.rowsPerShard);
      return { buffer: storage.buffers[shard]!, row: row - shard * storage.rowsPerShard };
    });
    runs.push({ row, rows: next - row, parts });
    row = next;
  }
  return runs;
}
