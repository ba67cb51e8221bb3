/** Stores keys and values of new tokens in the block cache. */
import type { Tensor } from "../tensor/tensor.ts";
import { expectDivisor, expectDtype, expectMatrix, expectShape } from "./check.ts";
import type { PagedPlaces } from "./attention-paged.ts";

/** Tokens in one cache block. */
export const kvBlockTokens = 64;

/**
 * k, v [N, K*D] f32 -> caches [blocks, K*D*64] of any float type, in place, at the places given. Rows marked inactive write nothing.
 * @throws ShapeError
 */
export function kvWrite(k: Tensor, v: Tensor, places: PagedPlaces, kCache: Tensor, vCache: Tensor, kvHeads: number): void {
  const { positions, offsets, blockTable } = places;
  expectMatrix("kv_write", "k", k);
  expectShape("kv_write", "v", v, k.shape);
  expectDivisor("kv_write", "kvHeads", kvHeads, "columns of k", k.cols);
  expectShape("kv_write", "positions", positions, [k.rows]);
  expectMatrix("kv_write", "blockTable", blockTable);
  expectShape("kv_write", "offsets", offsets, [blockTable.rows + 1]);
  for (const [name, tensor] of [
    ["positions", positions],
    ["offsets", offsets],
    ["blockTable", blockTable],
  ] as const)
    expectDtype("kv_write", name, tensor, "u32");
  for (const [name, cache] of [
    ["kCache", kCache],
    ["vCache", vCache],
  ] as const)
    expectShape("kv_write", name, cache, [kCache.rows, k.cols * kvBlockTokens]);
  k.device.run(
    "kv_write",
    { kvHeads },
    [k.storage, v.storage, positions.storage, offsets.storage, blockTable.storage],
    [kCache.storage, vCache.storage],
  );
}
