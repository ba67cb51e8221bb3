/** What the storages of every device have in common: a shape, rows split over shards, and whose they are. */
import { DeviceError } from "../util/errors.ts";
import { dtypeBytes, type Dtype, type Storage, type Usage } from "./device.ts";

export type StorageShape = Pick<Storage, "rows" | "cols" | "dtype" | "usage" | "label">;

/** How rows lie, and how many a shard holds. */
interface Layout {
  readonly maxShardBytes: number;
  /** Elements from one row to the next: `cols` unless told. */
  readonly stride?: number;
  /** Fewest rows of a shard, whatever `maxShardBytes`, where there are several. Default 1. */
  readonly leastRows?: number;
}

export abstract class ShardedStorage implements Storage {
  readonly rows: number;
  readonly cols: number;
  readonly dtype: Dtype;
  readonly usage: Usage;
  readonly label: string;
  readonly stride: number;
  readonly rowsPerShard: number;
  /** A device takes no other's. */
  readonly owner: object;
  released = false;

  /** @throws DeviceError for a size that is none. */
  constructor({ rows, cols, dtype, usage, label }: StorageShape, owner: object, { maxShardBytes, stride = cols, leastRows = 1 }: Layout) {
    for (const [name, value] of Object.entries({ rows, cols })) {
      if (!Number.isSafeInteger(value) || value < 1 || value > 0x7fffffff)
        throw new DeviceError({
          where: `allocate ${label}`,
          what: `${name} is wrong`,
          expected: "an integer from 1 to 2^31 - 1",
          got: String(value),
        });
    }
    this.rows = rows;
    this.cols = cols;
    this.dtype = dtype;
    this.usage = usage;
    this.label = label;
    this.owner = owner;
    this.stride = stride;
    const most = 2 ** Math.floor(Math.log2(Math.max(1, maxShardBytes / this.rowBytes)));
    this.rowsPerShard = rows * this.rowBytes <= maxShardBytes ? rows : Math.min(rows, Math.max(most, leastRows));
  }

  /** Bytes from one row to the next. */
  get rowBytes(): number {
    return this.stride * dtypeBytes[this.dtype];
  }
  get bytes(): number {
    return this.rows * this.cols * dtypeBytes[this.dtype];
  }
  get shards(): number {
    return Math.ceil(this.rows / this.rowsPerShard);
  }
  /** Bytes of one shard with its padding; the last may be shorter. */
  shardBytes(shard: number): number {
    return Math.min(this.rowsPerShard, this.rows - shard * this.rowsPerShard) * this.rowBytes;
  }
}

/** A storage as the device of `owner` knows it. @throws DeviceError where it is another's, or has been released. */
export function expectOwn<S extends ShardedStorage>(storage: Storage, kind: new (...args: never[]) => S, owner: object, where: string): S {
  if (!(storage instanceof kind) || storage.owner !== owner)
    throw new DeviceError({ where, what: `${storage.label} belongs to another device` });
  if (storage.released) throw new DeviceError({ where, what: `${storage.label} has been released` });
  return storage;
}
