/** Stores keys and values of new tokens in the block cache. */
import { runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDivisor, expectMatrix, expectShape } from "./check.ts";

/** Tokens in one cache block. */
export const kvBlockTokens = 64;

/** Which token belongs where in the cache. */
export interface PagedPlaces {
  /** [N] u32: position of each token in its sequence; 0xffffffff marks an inactive row, which reads and writes nothing. */
  readonly positions: Tensor;
  /** [B + 1] u32: tokens offsets[b] .. offsets[b+1] - 1 belong to row b of the block table. */
  readonly offsets: Tensor;
  /** [B, maxBlocks] u32: cache block of each 64 positions of sequence b. */
  readonly blockTable: Tensor;
}

/** @throws ShapeError unless the places are those of N tokens, and both caches hold rows of `width` = K*D. */
export function expectPaged(op: string, places: PagedPlaces, N: number, width: number, kCache: Tensor, vCache: Tensor): void {
  const { positions, offsets, blockTable } = places;
  expectShape(op, "positions", positions, [N], "u32");
  expectMatrix(op, "blockTable", blockTable, "u32");
  expectShape(op, "offsets", offsets, [blockTable.rows + 1], "u32");
  for (const [name, cache] of Object.entries({ kCache, vCache })) expectShape(op, name, cache, [kCache.rows, width * kvBlockTokens]);
}

/**
 * k, v [N, K*D] f32 -> caches [blocks, K*D*64] of any float type, in place, at the places given. Rows marked inactive write nothing.
 * @throws ShapeError
 */
export function kvWrite(k: Tensor, v: Tensor, places: PagedPlaces, kCache: Tensor, vCache: Tensor, kvHeads: number): void {
  const { positions, offsets, blockTable } = places;
  expectMatrix("kv_write", "k", k);
  expectShape("kv_write", "v", v, k.shape);
  expectDivisor("kv_write", "kvHeads", kvHeads, "columns of k", k.cols);
  expectPaged("kv_write", places, k.rows, k.cols, kCache, vCache);
  runKernel("kv_write", { kvHeads }, [k, v, positions, offsets, blockTable], [kCache, vCache]);
}
