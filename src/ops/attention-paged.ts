/** Attention against the block cache, for prefill and decode. Not differentiable: training uses `attention`, which gives the same bits. */
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDivisor, expectMatrix, headWidth } from "./check.ts";
import { expectPaged, type PagedPlaces } from "./kv-write.ts";

export interface AttentionPagedOptions {
  readonly heads: number;
  readonly kvHeads: number;
  /** Factor on q k^T; 1 / sqrt(D) unless told. */
  readonly scale?: number;
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
  expectPaged("attention_paged", places, q.rows, kvHeads * D, kCache, vCache);
  const out = empty(q.device, q.shape, { label: "attention_paged" });
  const dims = { heads, kvHeads, scale: options.scale ?? 1 / Math.sqrt(D) };
  runKernel("attention_paged", dims, [q, positions, offsets, blockTable, kCache, vCache], [out]);
  return out;
}
