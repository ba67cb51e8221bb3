// attention_backward: with p = e^(s - lse), delta = dout . out, ds = p (dout . v - delta):
//   dv[j] = sum_i p[i,j] dout[i],   dk[j] = scale sum_i ds[i,j] q[i],   dq[i] = scale sum_j ds[i,j] k[j]
//
// Source    Dao et al. 2022, arXiv:2205.14135, algorithm 4; weights are recomputed from lse, never a T x T matrix
// Shapes    q, out, dout, dq [N, H*D]   k, v, dk, dv [N, K*D]   offsets u32 [1, B+1]   lse [N, H]
// Items     phase 0: (sequence, key/value head) with everything for it, where the sequence has at most LONG tokens, or there are enough of
//           such items for the threads; else (sequence, block of 64 keys, head) for dk and dv. Phase 1: (tile of queries, head) for dq of
//           the latter, at the price of computing s and ds twice. Both ways add in one order: the same bits.
// Numerics  f32. dk, dv: one chain over the rows (token, query head of the group) from the first that sees the key; dq: one chain over
//           the keys from 0
// Limits    D a multiple of 4, at most 128; sequences of any length, 0 included
import { dim, dimI, tensor, colsOf, rowPtr } from "./lib/call";
import { madd, hsum, exp4 } from "./lib/math";
import { nativeBlock, inMemory, nativeAttendBackward } from "./lib/native";
import { threads } from "./lib/threads";
import { KEYS, STRIDE, KT_STRIDE, tileRows, multiply, scaleRow } from "./lib/attention_tile";
import { tileTokens, tileBytes, KT_BYTES, BLOCK_BYTES, loadKeys, loadBlock, loadTile } from "./lib/attention_items";

const LONG: i32 = 512;

// c[4x8] += sum_i a[i][0..3]^T b[i][0..7] over n rows of a and b; all rows STRIDE apart
function outer4x8(n: i32, a: usize, b: usize, c: usize): void {
  let c00 = v128.load(c), c01 = v128.load(c, 16), c10 = v128.load(c, 512), c11 = v128.load(c, 528);
  let c20 = v128.load(c, 1024), c21 = v128.load(c, 1040), c30 = v128.load(c, 1536), c31 = v128.load(c, 1552);
  for (const end = a + <usize>n * STRIDE; a < end; a += STRIDE) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 4); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    { const t = v128.load32_splat(a, 8); c20 = madd(t, b0, c20); c21 = madd(t, b1, c21); }
    { const t = v128.load32_splat(a, 12); c30 = madd(t, b0, c30); c31 = madd(t, b1, c31); }
    b += STRIDE;
  }
  v128.store(c, c00); v128.store(c, c01, 16); v128.store(c, c10, 512); v128.store(c, c11, 528);
  v128.store(c, c20, 1024); v128.store(c, c21, 1040); v128.store(c, c30, 1536); v128.store(c, c31, 1552);
}

// The call and the work space of one item. Every thread has its own module instance, and so its own copy.
let q: usize = 0, k: usize = 0, v: usize = 0, out: usize = 0, lse: usize = 0, dout: usize = 0, dq: usize = 0, dk: usize = 0, dv: usize = 0;
let G: i32 = 0, D: i32 = 0, head: i32 = 0, scale: f32 = 0, pitch: usize = 0, at: usize = 0;
let tileQ: usize = 0, tileDout: usize = 0, tileP: usize = 0, tileDs: usize = 0, tileDq: usize = 0, rowLse: usize = 0, rowDelta: usize = 0, rowKeys: usize = 0;
let kT: usize = 0, vT: usize = 0, kCopy: usize = 0, sumDk: usize = 0, sumDv: usize = 0, keyRows: usize = 0, keyPitch: usize = 0;

function prepare(args: usize, scratch: usize): void {
  const H = dimI(args, 0), K = dimI(args, 1);
  q = tensor(args, 3, 0); k = tensor(args, 3, 1); v = tensor(args, 3, 2); out = tensor(args, 3, 4); lse = tensor(args, 3, 5); dout = tensor(args, 3, 6);
  dq = tensor(args, 3, 7); dk = tensor(args, 3, 8); dv = tensor(args, 3, 9);
  G = H / K; D = colsOf(q) / H; scale = <f32>dim(args, 2); pitch = <usize>(K * D) << 2;
  const bytes = tileBytes(G), words = (<usize>bytes / STRIDE) << 2;
  tileQ = scratch; tileDout = tileQ + bytes; tileP = tileDout + bytes; tileDs = tileP + bytes; tileDq = tileDs + bytes;
  rowLse = tileDq + bytes; rowDelta = rowLse + words; rowKeys = rowDelta + words;
  kT = (rowKeys + words + 63) & ~63; vT = kT + KT_BYTES; kCopy = vT + KT_BYTES; sumDk = kCopy + BLOCK_BYTES; sumDv = sumDk + BLOCK_BYTES;
}

function loadQueries(first: i32, end: i32): void {
  loadTile(q, first, end, G, D, head * G, scale, tileQ);
  loadTile(dout, first, end, G, D, head * G, 1, tileDout);
  for (let n = first; n < end; n++) for (let g = 0; g < G; g++) {
    const h = head * G + g, r = <usize>((n - first) * G + g);
    let p = rowPtr(out, n) + (<usize>(h * D) << 2), d = tileDout + r * STRIDE, sum = f32x4.splat(0);
    for (const stop = p + (<usize>D << 2); p < stop; p += 16) { sum = madd(v128.load(p), v128.load(d), sum); d += 16; }
    store<f32>(rowDelta + (r << 2), hsum(sum));
    store<f32>(rowLse + (r << 2), load<f32>(rowPtr(lse, n) + (<usize>h << 2)));
  }
}

function loadKeyBlock(key: i32, keys: i32): void {
  loadKeys(k, key, keys, D, at, kT);
  loadKeys(v, key, keys, D, at, vT);
  keyRows = loadBlock(k, key, keys, D, at, pitch, kCopy);
  keyPitch = keyRows == kCopy ? STRIDE : pitch;
}

// What a tile of rows adds for the key block: to dk and dv, to dq, or to all.
function addTile(rows: i32, first: i32, key: i32, keys: i32, toKeys: bool, toQueries: bool): void {
  for (let r = 0; r < rows; r++) store<i32>(rowKeys + (<usize>r << 2), max(0, min(keys, first + r / G - key + 1)));
  if (nativeBlock != 0 && addNative(rows, keys, (toKeys ? 1 : 0) | (toQueries ? 2 : 0))) return;
  weigh(rows);
  if (toKeys) addKeys(rows, keys);
  if (toQueries) addQueries(rows);
}

// The call block is that of src/device/cpu/native/attend-backward.ts. False, and nothing done, where the keys' rows do not lie in the memory; all
// else is this thread's scratch.
function addNative(rows: i32, keys: i32, parts: i32): bool {
  if (!inMemory(keyRows, <u64>(KEYS - 1) * keyPitch + (<u64>(D + 7 & ~7) << 2))) return false;
  const at = nativeBlock;
  store<i32>(at, rows, 0); store<i32>(at, D, 4); store<u32>(at, <u32>rowKeys, 8); store<i32>(at, keys, 16); store<i32>(at, parts, 20);
  store<u32>(at, <u32>tileQ, 24); store<u32>(at, <u32>tileDout, 28); store<u32>(at, <u32>tileP, 32); store<u32>(at, <u32>tileDs, 36);
  store<u32>(at, <u32>tileDq, 40); store<u32>(at, <u32>rowLse, 44); store<u32>(at, <u32>rowDelta, 48); store<u32>(at, <u32>kT, 52); store<u32>(at, <u32>vT, 56);
  store<u32>(at, <u32>sumDk, 60); store<u32>(at, <u32>sumDv, 64); store<u32>(at, <u32>keyRows, 68); store<u32>(at, <u32>keyPitch, 72);
  nativeAttendBackward(at);
  return true;
}

// p and ds of a tile of rows against the key block: zero where a row does not see a key, up to column 63.
function weigh(rows: i32): void {
  for (let i = 0; i < rows; ) {
    const step = tileRows(rows - i), offset = <usize>i * STRIDE, high = load<i32>(rowKeys + (<usize>(i + step - 1) << 2));
    if (high > 0) {
      multiply(step, D, tileQ + offset, kT, KT_STRIDE, tileP + offset, high, true);
      multiply(step, D, tileDout + offset, vT, KT_STRIDE, tileDs + offset, high, true);
    }
    for (let r = i; r < i + step; r++) {
      const word = <usize>r << 2, n = load<i32>(rowKeys + word), shift = f32x4.splat(load<f32>(rowLse + word)), delta = f32x4.splat(load<f32>(rowDelta + word));
      let p = tileP + <usize>r * STRIDE, s = tileDs + <usize>r * STRIDE, c = 0;
      for (; c + 4 <= n; c += 4) {
        const w = exp4(f32x4.sub(v128.load(p), shift));
        v128.store(p, w);
        v128.store(s, f32x4.mul(w, f32x4.sub(v128.load(s), delta)));
        p += 16; s += 16;
      }
      if (c < n) {
        const lanes = n - c == 1 ? i32x4(-1, 0, 0, 0) : n - c == 2 ? i32x4(-1, -1, 0, 0) : i32x4(-1, -1, -1, 0);
        const w = v128.and(exp4(f32x4.sub(v128.load(p), shift)), lanes);
        v128.store(p, w);
        v128.store(s, v128.and(f32x4.mul(w, f32x4.sub(v128.load(s), delta)), lanes));
        c += 4; p += 16; s += 16;
      }
      for (; c < KEYS; c += 4) { v128.store(p, f32x4.splat(0)); v128.store(s, f32x4.splat(0)); p += 16; s += 16; }
    }
    i += step;
  }
}

function addKeys(rows: i32, keys: i32): void {
  const width = <usize>((D + 7) & ~7) << 2;
  let from = 0; // the first row that sees key j
  for (let j = 0; j < keys; j += 4) {
    while (from < rows && load<i32>(rowKeys + (<usize>from << 2)) <= j) from++;
    if (from == rows) return;
    const row = <usize>from * STRIDE, column = <usize>j << 2, sum = <usize>j * STRIDE;
    for (let d: usize = 0; d < width; d += 32) outer4x8(rows - from, tileP + row + column, tileDout + row + d, sumDv + sum + d);
    for (let d: usize = 0; d < width; d += 32) outer4x8(rows - from, tileDs + row + column, tileQ + row + d, sumDk + sum + d);
  }
}

function addQueries(rows: i32): void {
  for (let i = 0; i < rows; ) {
    const step = tileRows(rows - i), offset = <usize>i * STRIDE, high = load<i32>(rowKeys + (<usize>(i + step - 1) << 2));
    if (high > 0) multiply(step, high, tileDs + offset, keyRows, keyPitch, tileDq + offset, D, false);
    i += step;
  }
}

function storeQueries(first: i32, end: i32, factor: f32): void {
  let from = tileDq;
  for (let n = first; n < end; n++) {
    let to = rowPtr(dq, n) + (<usize>(head * G * D) << 2);
    for (let g = 0; g < G; g++) { scaleRow(D, from, factor, to); from += STRIDE; to += <usize>D << 2; }
  }
}

// dk and dv of one key block; with `queries`, its share of dq too, which rests unscaled in dq until its last block.
function keyBlock(start: i32, end: i32, key: i32, queries: bool): void {
  const keys = min(KEYS, end - key), tokens = tileTokens(G);
  loadKeyBlock(key, keys);
  memory.fill(sumDk, 0, BLOCK_BYTES);
  memory.fill(sumDv, 0, BLOCK_BYTES);
  for (let first = start + (key - start) / tokens * tokens; first < end; first += tokens) {
    const stop = min(end, first + tokens), rows = (stop - first) * G;
    loadQueries(first, stop);
    if (queries) {
      if (key == start) memory.fill(tileDq, 0, <usize>rows * STRIDE);
      else loadTile(dq, first, stop, G, D, head * G, 1, tileDq);
    }
    addTile(rows, first, key, keys, true, queries);
    if (!queries) continue;
    storeQueries(first, stop, stop <= key + KEYS ? scale : 1);
  }
  for (let j = 0; j < keys; j++) {
    memory.copy(rowPtr(dk, key + j) + at, sumDk + <usize>j * STRIDE, <usize>D << 2);
    memory.copy(rowPtr(dv, key + j) + at, sumDv + <usize>j * STRIDE, <usize>D << 2);
  }
}

// dq of one tile of queries
function queryTile(start: i32, first: i32, stop: i32): void {
  const rows = (stop - first) * G;
  loadQueries(first, stop);
  memory.fill(tileDq, 0, <usize>rows * STRIDE);
  for (let key = start; key < stop; key += KEYS) {
    // the whole block where the sequence has it: what rows see decides
    const keys = min(KEYS, stop - key);
    loadKeyBlock(key, keys);
    addTile(rows, first, key, keys, false, true);
  }
  storeQueries(first, stop, scale);
}

// Work items of one sequence of T tokens, per head; `whole`: with everything for it in one.
// @ts-ignore: decorator
@inline function parts(T: i32, whole: i32, phase: i32, tokens: i32): i32 {
  if (T <= whole) return phase == 0 && T > 0 ? 1 : 0;
  return phase == 0 ? (T + KEYS - 1) / KEYS : (T + tokens - 1) / tokens;
}

// Tokens up to which a sequence is one item of each head: where its work, which grows as their square, is no more than one thread's share of all.
function wholeTokens(args: usize): i32 {
  const t = tensor(args, 3, 3), offsets = rowPtr(t, 0), B = colsOf(t) - 1;
  let work: f64 = 0;
  for (let b = 0; b < B; b++) {
    const T = <f64>(load<i32>(offsets + (<usize>b << 2), 4) - load<i32>(offsets + (<usize>b << 2)));
    work += T * T;
  }
  return max(LONG, <i32>sqrt<f64>(work * dim(args, 1) / <f64>threads));
}

export function attention_backward_items(args: usize, phase: i32): i32 {
  if (phase > 1) return -1;
  const K = dimI(args, 1), t = tensor(args, 3, 3), offsets = rowPtr(t, 0), B = colsOf(t) - 1, tokens = tileTokens(dimI(args, 0) / K);
  const whole = wholeTokens(args);
  let items = 0;
  for (let b = 0; b < B; b++) items += parts(load<i32>(offsets + (<usize>b << 2), 4) - load<i32>(offsets + (<usize>b << 2)), whole, phase, tokens);
  return items * K;
}

export function attention_backward_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  prepare(args, scratch);
  const K = dimI(args, 1), tokens = tileTokens(G), whole = wholeTokens(args);
  head = item % K; at = <usize>(head * D) << 2;
  let part = item / K, offsets = rowPtr(tensor(args, 3, 3), 0);
  for (;;) {
    const n = parts(load<i32>(offsets, 4) - load<i32>(offsets), whole, phase, tokens);
    if (part < n) break;
    part -= n; offsets += 4;
  }
  const start = load<i32>(offsets), end = load<i32>(offsets, 4);
  if (end - start <= whole) for (let key = start; key < end; key += KEYS) keyBlock(start, end, key, true);
  else if (phase == 0) keyBlock(start, end, start + part * KEYS, false);
  else {
    const tile = (end - start - 1) / tokens - part; // the later a tile, the more keys it sees
    queryTile(start, start + tile * tokens, min(end, start + (tile + 1) * tokens));
  }
}
