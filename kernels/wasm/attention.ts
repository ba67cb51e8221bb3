// attention: packed causal attention with grouped queries: out[n,h] = sum_{j <= n} softmax_j(scale q[n,h] . k[j,h/G]) v[j,h/G], j and n in one sequence
//
// Source    Dao et al. 2022, arXiv:2205.14135; grouped queries: Ainslie et al. 2023, arXiv:2305.13245
// Shapes    q, out [N, H*D]   k, v [N, K*D]   offsets u32 [1, B+1]   lse [N, H]   G = H / K query heads share a key/value head
// Saves     lse = ln sum_j e^s, read again by attention_backward
// Items     (sequence, tile of queries, key/value head), see lib/attention_items.ts; memory does not grow with the length
// Numerics  lib/attention_tile.ts; the same bits as attention_paged for the same q, k, v
// Limits    D a multiple of 4, at most 128; sequences of any length, 0 included
import { dim, dimI, tensor, colsOf, rowPtr } from "./lib/call";
import { KEYS, STRIDE, attendBlock, finishRow } from "./lib/attention_tile";
import { tileTokens, countTiles, findTile, tileSequence, tileFirst, tileEnd, tileBytes, KT_BYTES, BLOCK_BYTES, loadKeys, loadBlock, loadTile } from "./lib/attention_items";

export function attention_items(args: usize, phase: i32): i32 {
  if (phase != 0) return -1;
  const offsets = tensor(args, 3, 3), K = dimI(args, 1);
  return countTiles(rowPtr(offsets, 0), colsOf(offsets) - 1, tileTokens(dimI(args, 0) / K)) * K;
}

export function attention_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const H = dimI(args, 0), K = dimI(args, 1), G = H / K, head = item % K;
  const q = tensor(args, 3, 0), k = tensor(args, 3, 1), v = tensor(args, 3, 2), out = tensor(args, 3, 4), lse = tensor(args, 3, 5);
  const offsets = rowPtr(tensor(args, 3, 3), 0), D = colsOf(q) / H;
  findTile(offsets, tileTokens(G), item / K);
  const start = load<i32>(offsets + (<usize>tileSequence << 2)), first = tileFirst, end = tileEnd, rows = (end - first) * G;
  const bytes = tileBytes(G), tileQ = scratch, tileS = tileQ + bytes, tileO = tileS + bytes, m = tileO + bytes, l = m + bytes, n = l + bytes;
  const kT = n + bytes, copy = kT + KT_BYTES, at = <usize>(head * D) << 2, pitch = <usize>(K * D) << 2;
  loadTile(q, first, end, G, D, head * G, <f32>dim(args, 2), tileQ);
  memory.fill(tileO, 0, <usize>rows * STRIDE);
  for (let r = 0; r < rows; r++) { store<f32>(m + (<usize>r << 2), -Infinity); store<f32>(l + (<usize>r << 2), 0); }
  for (let key = start; key < end; key += KEYS) {
    const keys = min(KEYS, end - key);
    loadKeys(k, key, keys, D, at, kT);
    const block = loadBlock(v, key, keys, D, at, pitch, copy);
    for (let r = 0; r < rows; r++) store<i32>(n + (<usize>r << 2), max(0, min(KEYS, first + r / G - key + 1)));
    attendBlock(rows, D, tileQ, tileS, tileO, m, l, n, kT, block, block == copy ? STRIDE : pitch);
  }
  for (let r = 0; r < rows; r++) {
    const token = first + r / G, h = head * G + r % G, weight = load<f32>(l + (<usize>r << 2));
    finishRow(D, tileO + <usize>r * STRIDE, weight, rowPtr(out, token) + (<usize>(h * D) << 2));
    store<f32>(rowPtr(lse, token) + (<usize>h << 2), load<f32>(m + (<usize>r << 2)) + NativeMathf.log(weight));
  }
}
