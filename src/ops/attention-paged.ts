/** Attention against the block cache, for prefill and decode. Not differentiable: training uses `attention`, which gives the same bits. */
import type { Tensor } from "../tensor/tensor.ts";
import { empty } from "../tensor/tensor.ts";
import { expectDivisor, expectDtype, expectMatrix, expectShape, headWidth } from "./check.ts";
import { kvBlockTokens } from "./kv-write.ts";

export interface AttentionPagedOptions {
  readonly heads: number;
  readonly kvHeads: number;
  /** Factor on q k^T; 1 / sqrt(D) unless told. */
  readonly scale?: number;
}

/** Which token belongs where in the cache. */
export interface PagedPlaces {
  /** [N] u32: position of each token in its sequence; 0xffffffff marks an inactive row, which reads and writes nothing. */
  readonly positions: Tensor;
  /** [B + 1] u32: tokens offsets[b] .. offsets[b+1] - 1 belong to row b of the block table. */
  readonly offsets: Tensor;
  /** [B, maxBlocks] u32: cache block of each 64 positions of sequence b. */
  readonly blockTable: Tensor;
}

/**
 * q [N, H*D], caches [blocks, K*D*64] -> [N, H*D]. Token n sees positions 0 .. positions[n] of its sequence, which must have been
 * written; rows marked inactive are undefined in the result.
 * @throws ShapeError
 */
export function attentionPaged(q: Tensor, places: PagedPlaces, kCache: Tensor, vCache: Tensor, options: AttentionPagedOptions): Tensor {
  const { heads, kvHeads } = options;
  const { positions, offsets, blockTable } = places;
  expectMatrix("attention_paged", "q", q);
  expectDivisor("attention_paged", "kvHeads", kvHeads, "heads", heads);
  const D = headWidth("attention_paged", q.cols, heads);
  expectShape("attention_paged", "positions", positions, [q.rows]);
  expectMatrix("attention_paged", "blockTable", blockTable);
  expectShape("attention_paged", "offsets", offsets, [blockTable.rows + 1]);
  for (const [name, tensor] of [
    ["positions", positions],
    ["offsets", offsets],
    ["blockTable", blockTable],
  ] as const)
    expectDtype("attention_paged", name, tensor, "u32");
  for (const [name, cache] of [
    ["kCache", kCache],
    ["vCache", vCache],
  ] as const)
    expectShape("attention_paged", name, cache, [kCache.rows, kvHeads * D * kvBlockTokens]);
  const out = empty(q.device, q.shape, { label: "attention_paged" });
  q.device.run(
    "attention_paged",
    { heads, kvHeads, scale: options.scale ?? 1 / Math.sqrt(D) },
    [q.storage, positions.storage, offsets.storage, blockTable.storage, kCache.storage, vCache.storage],
    [out.storage],
  );
  return out;
}
