/** A storage of the WebGPU device: padded rows in one buffer per shard. */
import { DeviceError } from "../../util/errors.ts";
import { dtypeBytes, type Dtype, type Storage, type Usage } from "../device.ts";
import type { GpuBuffer, GpuStorage } from "./kernel.ts";

/** Fewest rows of a shard where they fit: sums over rows are taken in chunks of so many, which a shard must not cut. */
const leastRows = 256;

/** Elements from one row to the next. */
export function strideOf(cols: number, dtype: Dtype): number {
  const unit = 16 / dtypeBytes[dtype];
  return Math.ceil(cols / unit) * unit;
}

/** Rows of a shard: all, or the largest power of two whose bytes are within `maxShardBytes` (raised to 256 rows where a binding holds them). */
function rowsPerShardOf(rows: number, rowBytes: number, maxShardBytes: number, maxBinding: number): number {
  if (rows * rowBytes <= maxShardBytes) return rows;
  const most = 2 ** Math.floor(Math.log2(Math.max(1, maxShardBytes / rowBytes)));
  const fits = 2 ** Math.floor(Math.log2(Math.max(1, maxBinding / rowBytes)));
  return Math.min(rows, Math.max(most, Math.min(leastRows, fits)));
}

type StorageShape = Pick<Storage, "rows" | "cols" | "dtype" | "usage" | "label">;

/** A repacked copy, valid while the storage has the version it was made of. */
interface Derived {
  readonly buffer: GpuBuffer;
  version: number;
}

export class WebGpuStorage implements GpuStorage {
  readonly rows: number;
  readonly cols: number;
  readonly dtype: Dtype;
  readonly usage: Usage;
  readonly label: string;
  readonly stride: number;
  readonly rowsPerShard: number;
  readonly buffers: GpuBuffer[] = [];
  readonly derived = new Map<string, Derived>();
  /** Whose it is: a device takes no other's. */
  readonly owner: object;
  /** Changes whenever the contents do. */
  version = 0;
  released = false;

  /** @throws DeviceError where a row is larger than a binding. */
  constructor({ rows, cols, dtype, usage, label }: StorageShape, owner: object, maxShardBytes: number, maxBinding: number) {
    this.rows = rows;
    this.cols = cols;
    this.dtype = dtype;
    this.usage = usage;
    this.label = label;
    this.owner = owner;
    this.stride = strideOf(cols, dtype);
    this.rowsPerShard = rowsPerShardOf(rows, this.rowBytes, maxShardBytes, maxBinding);
    if (this.rowBytes > maxBinding)
      throw new DeviceError({
        where: `allocate ${label}`,
        what: "one row does not fit a binding of this adapter",
        expected: `at most ${maxBinding} bytes`,
        got: `${this.rowBytes} (${cols} ${dtype})`,
      });
  }

  /** Bytes from one row to the next. */
  get rowBytes(): number {
    return this.stride * dtypeBytes[this.dtype];
  }
  get bytes(): number {
    return this.rows * this.cols * dtypeBytes[this.dtype];
  }
  get shards(): number {
    return this.rows === 0 ? 1 : Math.ceil(this.rows / this.rowsPerShard);
  }
  /** Bytes of one shard with its padding; the last may be shorter. */
  shardBytes(shard: number): number {
    return Math.min(this.rowsPerShard, this.rows - shard * this.rowsPerShard) * this.rowBytes;
  }
}
