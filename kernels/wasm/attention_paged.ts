// kv_write:        stores k, v of tokens at their positions in a paged cache
// kv_copy:         copies whole cache blocks
// attention_paged: out[n,h] = sum_{j <= positions[n]} softmax_j(scale q[n,h] . k[j]) v[j] over the cached keys of the token's sequence
//
// Source    Kwon et al. 2023, arXiv:2309.06180 (paged cache)
// Shapes    q, out [N, H*D]   k, v [N, K*D]   positions u32 [1, N]   offsets u32 [1, B+1]: tokens offsets[b].. belong to row b of
//           blockTable u32 [B, maxBlocks]   kCache [blocks, K*D*64]: per head D rows of 64 positions   vCache [blocks, K*64*D]: per head
//           64 positions of D   pairs u32 [n, 2] of (from, to)
// Items     kv_write: TOKENS tokens; kv_copy: a pair; attention_paged: (sequence, tile of queries, key/value head)
// Numerics  lib/attention_tile.ts, whatever the tile: decode, prefill in any chunks and packed training give the same bits. f16 and bf16
//           caches are widened block by block; writing rounds to nearest, ties to even
// Limits    D a multiple of 4, at most 128. A token of position 0xffffffff is not written and gets an output of zeros. Positions never
//           written hold any bits, NaN included, and have no effect. Pairs of one call: no block is both source and target
import { dim, dimI, tensor, rowsOf, colsOf, dtypeOf, rowPtr, F32 } from "./lib/call";
import { toF32, fromF32, store4, elementBytes } from "./lib/convert";
import { KEYS, STRIDE, KT_STRIDE, attendBlock, finishRow } from "./lib/attention_tile";
import { tileTokens, countTiles, findTile, tileSequence, tileFirst, tileEnd, tileBytes, KT_BYTES, loadTile } from "./lib/attention_items";

const NONE: u32 = 0xffffffff;
const TOKENS: i32 = 32;

export function kv_write_items(args: usize, phase: i32): i32 { return phase == 0 ? (rowsOf(tensor(args, 1, 0)) + TOKENS - 1) / TOKENS : -1; }

// Whether the three tokens after one have the positions after its.
// @ts-ignore: decorator
@inline function follow(positions: usize, first: u32): bool {
  return load<u32>(positions, 4) == first + 1 && load<u32>(positions, 8) == first + 2 && load<u32>(positions, 12) == first + 3;
}

// D numbers of each of four rows of k, from byte `at` on, into D rows of positions. D is a multiple of 4.
function fourKeys(k: usize, n: i32, at: usize, D: i32, dtype: i32, to: usize): void {
  const p0 = rowPtr(k, n) + at, p1 = rowPtr(k, n + 1) + at, p2 = rowPtr(k, n + 2) + at, p3 = rowPtr(k, n + 3) + at;
  const step = <usize>KEYS * elementBytes(dtype);
  for (let d: usize = 0; d < <usize>D << 2; d += 16) {
    const r0 = v128.load(p0 + d), r1 = v128.load(p1 + d), r2 = v128.load(p2 + d), r3 = v128.load(p3 + d);
    const a0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), a1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const b0 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), b1 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    store4(dtype, to, v128.shuffle<f64>(a0, b0, 0, 2)); to += step;
    store4(dtype, to, v128.shuffle<f64>(a0, b0, 1, 3)); to += step;
    store4(dtype, to, v128.shuffle<f64>(a1, b1, 0, 2)); to += step;
    store4(dtype, to, v128.shuffle<f64>(a1, b1, 1, 3)); to += step;
  }
}

export function kv_write_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const K = dimI(args, 0), k = tensor(args, 1, 0), v = tensor(args, 1, 1), kCache = tensor(args, 1, 5), vCache = tensor(args, 1, 6);
  const positions = rowPtr(tensor(args, 1, 2), 0), offsets = rowPtr(tensor(args, 1, 3), 0), blockTable = tensor(args, 1, 4);
  const D = colsOf(k) / K, kType = dtypeOf(kCache), vType = dtypeOf(vCache), kBytes = elementBytes(kType), vBytes = elementBytes(vType);
  const B = colsOf(tensor(args, 1, 3)) - 1, end = min(min(rowsOf(k), load<i32>(offsets + (<usize>B << 2))), (item + 1) * TOKENS);
  let b = 0;
  for (let n = item * TOKENS; n < end; n++) {
    while (load<i32>(offsets + (<usize>b << 2), 4) <= n) b++;
    const position = load<u32>(positions + (<usize>n << 2));
    if (position == NONE) continue;
    const block = load<u32>(rowPtr(blockTable, b) + (<usize>(position / KEYS) << 2)), slot = <usize>(position % KEYS);
    // four tokens side by side, as in a prompt: groups of four numbers are written together
    if (slot + 4 <= <usize>KEYS && n + 4 <= min(end, load<i32>(offsets + (<usize>b << 2), 4)) && follow(positions + (<usize>n << 2), position)) {
      for (let head = 0; head < K; head++) {
        const at = <usize>(head * D) << 2;
        fourKeys(k, n, at, D, kType, rowPtr(kCache, block) + (<usize>(head * D * KEYS) + slot) * kBytes);
        for (let i = 0; i < 4; i++) fromF32(vType, rowPtr(v, n + i) + at, rowPtr(vCache, block) + (<usize>(head * KEYS + i) + slot) * <usize>D * vBytes, D);
      }
      n += 3;
      continue;
    }
    for (let head = 0; head < K; head++) {
      const at = <usize>(head * D) << 2;
      let to = rowPtr(kCache, block) + (<usize>(head * D * KEYS) + slot) * kBytes, from = rowPtr(k, n) + at;
      if (kType == F32) for (let d = 0; d < D; d++) { store<f32>(to, load<f32>(from)); from += 4; to += <usize>KEYS * 4; }
      else {
        fromF32(kType, from, scratch, D);
        for (let d = 0; d < D; d++) { store<u16>(to, load<u16>(scratch + (<usize>d << 1))); to += <usize>KEYS * 2; }
      }
      fromF32(vType, rowPtr(v, n) + at, rowPtr(vCache, block) + (<usize>(head * KEYS) + slot) * <usize>D * vBytes, D);
    }
  }
}

export function kv_copy_items(args: usize, phase: i32): i32 { return phase == 0 ? rowsOf(tensor(args, 0, 0)) : -1; }

export function kv_copy_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const pair = rowPtr(tensor(args, 0, 0), item), from = load<u32>(pair), to = load<u32>(pair, 4);
  const k = tensor(args, 0, 1), v = tensor(args, 0, 2);
  memory.copy(rowPtr(k, to), rowPtr(k, from), <usize>colsOf(k) * elementBytes(dtypeOf(k)));
  memory.copy(rowPtr(v, to), rowPtr(v, from), <usize>colsOf(v) * elementBytes(dtypeOf(v)));
}

export function attention_paged_items(args: usize, phase: i32): i32 {
  if (phase != 0) return -1;
  const offsets = tensor(args, 3, 2), K = dimI(args, 1);
  return countTiles(rowPtr(offsets, 0), colsOf(offsets) - 1, tileTokens(dimI(args, 0) / K)) * K;
}

// kT of one head of a cache block: where it lies, or its first `n` columns widened into `copy`
function cachedKeys(cache: usize, block: i32, head: i32, D: i32, n: i32, copy: usize): usize {
  const dtype = dtypeOf(cache), base = rowPtr(cache, block) + <usize>(head * D * KEYS) * elementBytes(dtype);
  if (dtype == F32) return base;
  for (let d = 0; d < D; d++) toF32(dtype, base + <usize>(d * KEYS) * elementBytes(dtype), copy + <usize>d * KT_STRIDE, n);
  return copy;
}
// v of one head of a cache block: where it lies, or its first `n` rows widened, or with padded columns, into `copy`
function cachedValues(cache: usize, block: i32, head: i32, D: i32, n: i32, copy: usize): usize {
  const dtype = dtypeOf(cache), base = rowPtr(cache, block) + <usize>(head * KEYS * D) * elementBytes(dtype);
  if (dtype == F32 && (D & 7) == 0) return base;
  for (let j = 0; j < n; j++) toF32(dtype, base + <usize>(j * D) * elementBytes(dtype), copy + <usize>j * STRIDE, D);
  return copy;
}

export function attention_paged_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const H = dimI(args, 0), K = dimI(args, 1), G = H / K, head = item % K;
  const q = tensor(args, 3, 0), positions = rowPtr(tensor(args, 3, 1), 0), offsets = rowPtr(tensor(args, 3, 2), 0), blockTable = tensor(args, 3, 3);
  const kCache = tensor(args, 3, 4), vCache = tensor(args, 3, 5), out = tensor(args, 3, 6), D = colsOf(q) / H;
  findTile(offsets, tileTokens(G), item / K);
  const first = tileFirst, end = tileEnd, rows = (end - first) * G, table = rowPtr(blockTable, tileSequence);
  const bytes = tileBytes(G), tileQ = scratch, tileS = tileQ + bytes, tileO = tileS + bytes, m = tileO + bytes, l = m + bytes, n = l + bytes;
  const kCopy = n + bytes, vCopy = kCopy + KT_BYTES;
  loadTile(q, first, end, G, D, head * G, <f32>dim(args, 2), tileQ);
  memory.fill(tileO, 0, <usize>rows * STRIDE);
  let length = 0; // keys the tile sees
  for (let r = 0; r < rows; r++) {
    const position = load<u32>(positions + (<usize>(first + r / G) << 2));
    if (position != NONE) length = max(length, <i32>position + 1);
    store<f32>(m + (<usize>r << 2), -Infinity); store<f32>(l + (<usize>r << 2), 0);
  }
  for (let key = 0; key < length; key += KEYS) {
    const block = load<u32>(table + (<usize>(key / KEYS) << 2)), keys = min(KEYS, length - key);
    const kT = cachedKeys(kCache, block, head, D, keys, kCopy), v = cachedValues(vCache, block, head, D, keys, vCopy);
    for (let r = 0; r < rows; r++) {
      const position = load<u32>(positions + (<usize>(first + r / G) << 2));
      store<i32>(n + (<usize>r << 2), position == NONE ? 0 : max(0, min(KEYS, <i32>position - key + 1)));
    }
    attendBlock(rows, D, tileQ, tileS, tileO, m, l, n, kT, v, v == vCopy ? STRIDE : <usize>D << 2);
  }
  for (let r = 0; r < rows; r++) {
    const h = head * G + r % G;
    finishRow(D, tileO + <usize>r * STRIDE, load<f32>(l + (<usize>r << 2)), rowPtr(out, first + r / G) + (<usize>(h * D) << 2));
  }
}
