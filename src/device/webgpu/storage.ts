/** A storage of the WebGPU device: padded rows in one buffer per shard. */
import { DeviceError } from "../../util/errors.ts";
import { dtypeBytes, type Dtype } from "../device.ts";
import { ShardedStorage, type StorageShape } from "../sharded-storage.ts";
import type { BufferPool, PooledBuffer } from "./buffer-pool.ts";
import type { GpuStorage } from "./kernel.ts";

/** Sums over rows are taken in chunks of so many, which a shard must not cut where a binding holds them. */
const chunkRows = 256;

/** Elements from one row to the next. */
export function strideOf(cols: number, dtype: Dtype): number {
  const unit = 16 / dtypeBytes[dtype];
  return Math.ceil(cols / unit) * unit;
}

/** A repacked copy, valid while the storage has the version it was made of. */
interface Derived {
  readonly buffer: PooledBuffer;
  version: number;
}

export class WebGpuStorage extends ShardedStorage implements GpuStorage {
  readonly buffers: PooledBuffer[] = [];
  readonly derived = new Map<string, Derived>();
  /** A copy that is kept for the next calls. */
  recent: PooledBuffer | null = null;
  /** Changes whenever the contents do. */
  version = 0;

  /** @throws DeviceError for a size that is none, and where a row is larger than a binding. */
  constructor(shape: StorageShape, owner: object, maxShardBytes: number, maxBinding: number) {
    const { cols, dtype, label } = shape;
    const stride = strideOf(cols, dtype);
    const rowBytes = stride * dtypeBytes[dtype];
    const fit = 2 ** Math.floor(Math.log2(Math.max(1, maxBinding / rowBytes)));
    super(shape, owner, { maxShardBytes, stride, leastRows: Math.min(chunkRows, fit) });
    if (rowBytes > maxBinding)
      throw new DeviceError({
        where: `allocate ${label}`,
        what: "one row does not fit a binding of this adapter",
        expected: `at most ${maxBinding} bytes`,
        got: `${rowBytes} (${cols} ${dtype})`,
      });
  }

  /** Takes a buffer for each shard. @param what names it in messages @param serial the recording under way */
  take(pool: BufferPool, what: string, serial: number): void {
    for (let shard = 0; shard < this.shards; shard++)
      this.buffers.push(pool.take(this.shardBytes(shard), { kind: "storage", label: what }, serial, this.usage === "parameter"));
  }

  /** Gives all its memory back. */
  free(pool: BufferPool): void {
    for (const buffer of this.buffers) pool.give(buffer);
    for (const { buffer } of this.derived.values()) pool.give(buffer);
    this.derived.clear();
    if (this.recent !== null) pool.give(this.recent);
    this.recent = null;
  }
}
