/** A storage of the CPU device: where its shards lie in the WASM memory, and how its descriptor (kernels/wasm/lib/call.ts) is laid out. */
import { dtypeBytes, type Dtype, type Storage, type Usage } from "../device.ts";

export const DESCRIPTOR_BYTES = 64;
/** Shards whose addresses fit behind the descriptor's eight words; more need a table of their own. */
export const INLINE_SHARDS = 8;
const dtypeCode: Readonly<Record<Dtype, number>> = { f32: 0, f16: 1, bf16: 2, u32: 3 };

/** A repacked copy for the matrix product, one per orientation; stale until it is packed again after a write. */
export interface Panels {
  readonly address: number;
  readonly bytes: number;
  ready: boolean;
}

export class CpuStorage implements Storage {
  readonly rows: number;
  readonly cols: number;
  readonly dtype: Dtype;
  readonly usage: Usage;
  readonly label: string;
  readonly rowsPerShard: number;
  /** Address of the descriptor, and of the shards' table if it is not inline. */
  descriptor = 0;
  table = 0;
  addresses: number[] = [];
  released = false;
  /** Panels for b as stored [N, K] (transB), and as stored [K, N]. */
  readonly panels: [Panels | undefined, Panels | undefined] = [undefined, undefined];

  constructor(rows: number, cols: number, dtype: Dtype, usage: Usage, label: string, maxShardBytes: number) {
    this.rows = rows;
    this.cols = cols;
    this.dtype = dtype;
    this.usage = usage;
    this.label = label;
    const most = Math.max(1, 2 ** Math.floor(Math.log2(Math.max(1, maxShardBytes / this.rowBytes))));
    this.rowsPerShard = rows <= most || rows * this.rowBytes <= maxShardBytes ? rows : most;
  }

  get rowBytes(): number {
    return this.cols * dtypeBytes[this.dtype];
  }
  get bytes(): number {
    return this.rows * this.rowBytes;
  }
  get shards(): number {
    return Math.ceil(this.rows / this.rowsPerShard);
  }
  /** Bytes of one shard; the last may be shorter. */
  shardBytes(shard: number): number {
    return Math.min(this.rowsPerShard, this.rows - shard * this.rowsPerShard) * this.rowBytes;
  }

  /** Writes the descriptor and the table of addresses; where these mean nothing (`hollow`), the descriptor only. */
  describe(words: Uint32Array, hollow = false): void {
    const at = this.descriptor / 4;
    const single = this.shards === 1;
    words[at] = this.table === 0 ? this.descriptor + 32 : this.table;
    words[at + 1] = single ? 31 : Math.log2(this.rowsPerShard);
    words[at + 2] = single ? 0x7fffffff : this.rowsPerShard - 1;
    words[at + 3] = this.rowBytes;
    words[at + 4] = this.rows;
    words[at + 5] = this.cols;
    words[at + 6] = dtypeCode[this.dtype];
    words[at + 7] = 0;
    if (!hollow) words.set(this.addresses, (words[at] ?? 0) / 4);
  }

  /** Anything may have been written: repacked copies are out of date. */
  written(): void {
    for (const panels of this.panels) if (panels !== undefined) panels.ready = false;
  }
}
