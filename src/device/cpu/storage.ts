/** A storage of the CPU device: where its shards lie in the WASM memory, and how its descriptor (kernels/wasm/lib/call.ts) is laid out. */
import type { Dtype } from "../device.ts";
import { ShardedStorage } from "../sharded-storage.ts";

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

/** Where a descriptor lies, the table of its shards if that is not inline, and the addresses of these as far as they are known. */
export interface Placement {
  readonly descriptor: number;
  readonly table: number;
  readonly addresses: readonly number[];
}

export class CpuStorage extends ShardedStorage {
  /** Address of the descriptor, and of the shards' table if it is not inline. */
  descriptor = 0;
  table = 0;
  readonly addresses: number[] = [];
  /** Panels for b as stored [N, K] (transB), and as stored [K, N]. */
  readonly panels: [Panels | undefined, Panels | undefined] = [undefined, undefined];

  /** Writes a descriptor, its own unless told, and the table of addresses. */
  describe(words: Uint32Array, { descriptor, table, addresses }: Placement = this): void {
    const at = descriptor / 4;
    const single = this.shards === 1;
    words[at] = table === 0 ? descriptor + 32 : table;
    words[at + 1] = single ? 31 : Math.log2(this.rowsPerShard);
    words[at + 2] = single ? 0x7fffffff : this.rowsPerShard - 1;
    words[at + 3] = this.rowBytes;
    words[at + 4] = this.rows;
    words[at + 5] = this.cols;
    words[at + 6] = dtypeCode[this.dtype];
    words[at + 7] = 0;
    const first = (words[at] ?? 0) / 4;
    for (let shard = 0; shard < addresses.length; shard++) words[first + shard] = addresses[shard] ?? 0;
  }

  /** Anything may have been written: repacked copies are out of date. */
  written(): void {
    for (const panels of this.panels) if (panels !== undefined) panels.ready = false;
  }
}
