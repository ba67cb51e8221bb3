/** Copies whole blocks of the cache: a sequence that shares a half-filled block gets its own before it writes. */
import { runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectShape } from "./check.ts";

/**
 * pairs [n, 2] u32 of (from, to), caches [blocks, width], in place. No block may be both source and target of one call.
 * @throws ShapeError
 */
export function kvCopy(pairs: Tensor, kCache: Tensor, vCache: Tensor): void {
  expectShape("kv_copy", "pairs", pairs, [pairs.rows, 2], "u32");
  expectShape("kv_copy", "vCache", vCache, kCache.shape);
  runKernel("kv_copy", {}, [pairs], [kCache, vCache]);
}
