/**
 * What a kernel of the WebGPU device is written against: storages as buffers, and one way to record dispatches.
 *
 * Layout of a storage: rows lie `stride` elements apart, cols rounded up to 16 bytes; what lies between is undefined. Rows are split
 * over shards; buffer s holds rows s * rowsPerShard and following. f16 and bf16 are packed two to a u32, low half first.
 */
import type { Storage } from "../device.ts";
import type { KernelName } from "../kernels.ts";
import type { Capabilities } from "./capabilities.ts";

/** A buffer of the pool. Dispatches bind `bound` bytes of it from `offset` on, where its contents begin. */
export interface GpuBuffer {
  readonly buffer: GPUBuffer;
  /** Unlike that of any other buffer of the device, alive or not. */
  readonly id: number;
  readonly bytes: number;
  readonly offset: number;
  readonly bound: number;
}

/** An operand of matrix products: f16, dense, zero-padded. */
export interface Packed {
  readonly buffer: GpuBuffer;
  /** Where it starts, and from one row to the next, in octets of 8 elements. */
  readonly start: number;
  readonly stride: number;
}

export interface GpuStorage extends Storage {
  /** Elements from one row to the next: cols rounded up so that a row is a multiple of 16 bytes. */
  readonly stride: number;
  /** One per shard, of whole rows of `stride`. */
  readonly buffers: readonly GpuBuffer[];
  /** Of scratch memory: what products read in its place, whose own contents are not theirs. */
  readonly packed?: Packed | undefined;
}

/** The inputs or outputs of a call none of whose is absent, to be taken apart: the first so many are there. */
export type Present = readonly [GpuStorage, GpuStorage, GpuStorage, GpuStorage, GpuStorage, GpuStorage, GpuStorage, GpuStorage];

/** One dispatch of one WGSL file. */
export interface Dispatch {
  /** Stem of the file: kernels/wgsl/<kernel>.wgsl */
  readonly kernel: string;
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
   * (of undefined contents and written back after the call where `access` is "write").
   * @throws DeviceError where the rows do not fit one binding.
   */
  whole(storage: GpuStorage, access: "read" | "write"): GpuBuffer;
  /**
   * Memory that belongs to a storage and is made again when its contents have changed: `fill` records how. For repacked parameters.
   */
  derived(storage: GpuStorage, name: string, bytes: number, fill: (into: GpuBuffer) => void): GpuBuffer;
  /**
   * A copy of an activation, kept until it changes or is released, or others have been asked for: `fill` records how it is made. Of scratch
   * memory it is made for this call only.
   */
  recent(storage: GpuStorage, bytes: number, fill: (into: GpuBuffer) => void): GpuBuffer;
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

/**
 * Rows [firstRow, firstRow + rows) of storages whose rows correspond, cut at the shards of all of them.
 * @param shifts so many rows further down lie those of each storage; none unless told
 */
export function rowRuns(
  storages: readonly GpuStorage[],
  firstRow = 0,
  rows = (storages[0]?.rows ?? 0) - firstRow,
  shifts: readonly number[] = [],
): RowRun[] {
  const runs: RowRun[] = [];
  const end = firstRow + rows;
  for (let row = firstRow; row < end;) {
    let next = end;
    const parts = storages.map(({ rowsPerShard, buffers }, i) => {
      const shift = shifts[i] ?? 0;
      const shard = Math.floor((row + shift) / rowsPerShard);
      next = Math.min(next, (shard + 1) * rowsPerShard - shift);
      return { buffer: buffers[shard]!, row: row + shift - shard * rowsPerShard };
    });
    runs.push({ row, rows: next - row, parts });
    row = next;
  }
  return runs;
}

/** Runs of rows that cut no chunk of `chunkRows`: all rows at once, in copies, where a shard of some storage would. */
export function chunkRuns(
  context: KernelContext,
  chunkRows: number,
  reads: readonly GpuStorage[],
  writes: readonly GpuStorage[] = [],
): RowRun[] {
  const storages = [...reads, ...writes];
  if (storages.every(({ shards, rowsPerShard }) => shards === 1 || rowsPerShard % chunkRows === 0)) return rowRuns(storages);
  const buffers = [...reads.map((one) => context.whole(one, "read")), ...writes.map((one) => context.whole(one, "write"))];
  return [{ row: 0, rows: storages[0]!.rows, parts: buffers.map((buffer) => ({ buffer, row: 0 })) }];
}

/** The shards of a storage, for kernels that look rows up in it: each is a dispatch, for what lies in it. */
export function shardsOf(storage: GpuStorage): { readonly buffer: GpuBuffer; readonly first: number; readonly rows: number }[] {
  return storage.buffers.map((buffer, shard) => {
    const first = shard * storage.rowsPerShard;
    return { buffer, first, rows: Math.min(storage.rowsPerShard, storage.rows - first) };
  });
}
