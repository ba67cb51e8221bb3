// The inner routine of attention, one for training, prefill and decode: a tile of query rows against one block of 64 keys.
//
// Formula   s[i,j] = sum_d q[i,d] kT[d,j] (q already scaled);  m' = max(m, max_j s);  p = e^(s - m');  c = e^(m - m')
//           l' = l c + sum_j p;  o' = o c + sum_j p[j] v[j];  after the last block out = o / l, lse = m + ln l
// Source    Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135
// Layout    A tile's rows lie STRIDE bytes apart (room for 128 floats): q, s (scores, then p) and o. kT is D rows of 64 keys, 256 bytes
//           apart; v has rows `ldv` bytes apart. Per row: m, l, and n = how many keys of this block it sees.
// Numerics  Each score is one chain over d, each output one chain over the keys 0..n-1 of the block, blocks in order from position 0,
//           and l is summed in 4 lanes by key modulo 4: nothing a row computes depends on the other rows of its tile, nor on how many
//           there are (promise 2). Keys at n and beyond may be computed with but reach no result, whatever their bits.
//           A NaN or infinite score makes the row's l NaN, and with it the output.
// Limits    D a multiple of 4, at most 128
import { madd, hsum, hmax, exp4, exp1 } from "./math";
import { nativeBlock, inMemory, nativeAttend } from "./native";
import { loadTail, storeTail } from "./span";

export const KEYS: i32 = 64;
export const STRIDE: usize = 512;
export const KT_STRIDE: usize = 256;

// c[rows x cols] (+)= a[rows x K] b[K x cols], K in order. These four shapes run at full speed under V8; ten and more accumulators, or
// eight in one row, run at half.
function tile4x8(K: i32, a: usize, b: usize, ldb: usize, c: usize, fresh: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00;
  if (!fresh) {
    c00 = v128.load(c); c01 = v128.load(c, 16); c10 = v128.load(c, 512); c11 = v128.load(c, 528);
    c20 = v128.load(c, 1024); c21 = v128.load(c, 1040); c30 = v128.load(c, 1536); c31 = v128.load(c, 1552);
  }
  for (const end = a + (<usize>K << 2); a < end; a += 4) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 512); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    { const t = v128.load32_splat(a, 1024); c20 = madd(t, b0, c20); c21 = madd(t, b1, c21); }
    { const t = v128.load32_splat(a, 1536); c30 = madd(t, b0, c30); c31 = madd(t, b1, c31); }
    b += ldb;
  }
  v128.store(c, c00); v128.store(c, c01, 16); v128.store(c, c10, 512); v128.store(c, c11, 528);
  v128.store(c, c20, 1024); v128.store(c, c21, 1040); v128.store(c, c30, 1536); v128.store(c, c31, 1552);
}
function tile2x8(K: i32, a: usize, b: usize, ldb: usize, c: usize, fresh: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00;
  if (!fresh) { c00 = v128.load(c); c01 = v128.load(c, 16); c10 = v128.load(c, 512); c11 = v128.load(c, 528); }
  for (const end = a + (<usize>K << 2); a < end; a += 4) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 512); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    b += ldb;
  }
  v128.store(c, c00); v128.store(c, c01, 16); v128.store(c, c10, 512); v128.store(c, c11, 528);
}
function tile2x16(K: i32, a: usize, b: usize, ldb: usize, c: usize, fresh: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c02 = c00, c03 = c00, c10 = c00, c11 = c00, c12 = c00, c13 = c00;
  if (!fresh) {
    c00 = v128.load(c); c01 = v128.load(c, 16); c02 = v128.load(c, 32); c03 = v128.load(c, 48);
    c10 = v128.load(c, 512); c11 = v128.load(c, 528); c12 = v128.load(c, 544); c13 = v128.load(c, 560);
  }
  for (const end = a + (<usize>K << 2); a < end; a += 4) {
    const t = v128.load32_splat(a), u = v128.load32_splat(a, 512);
    { const x = v128.load(b); c00 = madd(t, x, c00); c10 = madd(u, x, c10); }
    { const x = v128.load(b, 16); c01 = madd(t, x, c01); c11 = madd(u, x, c11); }
    { const x = v128.load(b, 32); c02 = madd(t, x, c02); c12 = madd(u, x, c12); }
    { const x = v128.load(b, 48); c03 = madd(t, x, c03); c13 = madd(u, x, c13); }
    b += ldb;
  }
  v128.store(c, c00); v128.store(c, c01, 16); v128.store(c, c02, 32); v128.store(c, c03, 48);
  v128.store(c, c10, 512); v128.store(c, c11, 528); v128.store(c, c12, 544); v128.store(c, c13, 560);
}
function tile1x8(K: i32, a: usize, b: usize, ldb: usize, c: usize, fresh: bool): void {
  let c0 = f32x4.splat(0), c1 = c0;
  if (!fresh) { c0 = v128.load(c); c1 = v128.load(c, 16); }
  for (const end = a + (<usize>K << 2); a < end; a += 4) {
    const t = v128.load32_splat(a);
    c0 = madd(t, v128.load(b), c0); c1 = madd(t, v128.load(b, 16), c1);
    b += ldb;
  }
  v128.store(c, c0); v128.store(c, c1, 16);
}
function tile1x16(K: i32, a: usize, b: usize, ldb: usize, c: usize, fresh: bool): void {
  let c0 = f32x4.splat(0), c1 = c0, c2 = c0, c3 = c0;
  if (!fresh) { c0 = v128.load(c); c1 = v128.load(c, 16); c2 = v128.load(c, 32); c3 = v128.load(c, 48); }
  for (const end = a + (<usize>K << 2); a < end; a += 4) {
    const t = v128.load32_splat(a);
    c0 = madd(t, v128.load(b), c0); c1 = madd(t, v128.load(b, 16), c1); c2 = madd(t, v128.load(b, 32), c2); c3 = madd(t, v128.load(b, 48), c3);
    b += ldb;
  }
  v128.store(c, c0); v128.store(c, c1, 16); v128.store(c, c2, 32); v128.store(c, c3, 48);
}

/** How many of `left` rows the next tile takes: 4, 2 or 1. */
// @ts-ignore: decorator
@inline export function tileRows(left: i32): i32 { return left >= 4 ? 4 : left >= 2 ? 2 : 1; }

/**
 * c[rows x cols] (+)= a[rows x K] b[K x cols], each element one chain over K in order. a and c have rows STRIDE apart, b `ldb` apart;
 * rows is 4, 2 or 1; cols is rounded up to 8, and what lies there is computed with and written too.
 */
export function multiply(rows: i32, K: i32, a: usize, b: usize, ldb: usize, c: usize, cols: i32, fresh: bool): void {
  const end = c + (<usize>((cols + 7) & ~7) << 2);
  if (rows == 4) for (; c < end; c += 32) { tile4x8(K, a, b, ldb, c, fresh); b += 32; }
  else if (rows == 2) {
    for (; c + 64 <= end; c += 64) { tile2x16(K, a, b, ldb, c, fresh); b += 64; }
    for (; c < end; c += 32) { tile2x8(K, a, b, ldb, c, fresh); b += 32; }
  } else {
    for (; c + 64 <= end; c += 64) { tile1x16(K, a, b, ldb, c, fresh); b += 64; }
    for (; c < end; c += 32) { tile1x8(K, a, b, ldb, c, fresh); b += 32; }
  }
}

// Scores to weights for one row that sees n >= 1 keys; m, l and o move to the new maximum.
function softmaxRow(n: i32, D: i32, s: usize, o: usize, m: usize, l: usize): void {
  const whole = s + (<usize>(n & ~3) << 2), tail = n & 3;
  let top = f32x4.splat(-Infinity);
  for (let p = s; p < whole; p += 16) top = f32x4.pmax(top, v128.load(p));
  let best = hmax(top);
  for (let j = 0; j < tail; j++) best = max(best, load<f32>(whole + (<usize>j << 2)));
  const old = load<f32>(m), next = max(old, best), shift = f32x4.splat(next);
  let sum = f32x4.splat(0), check = sum;
  for (let p = s; p < whole; p += 16) {
    const x = f32x4.sub(v128.load(p), shift), e = exp4(x);
    check = f32x4.add(check, x);
    sum = f32x4.add(sum, e);
    v128.store(p, e);
  }
  if (tail) {
    const lanes = tail == 1 ? i32x4(-1, 0, 0, 0) : tail == 2 ? i32x4(-1, -1, 0, 0) : i32x4(-1, -1, -1, 0);
    const x = v128.and(f32x4.sub(loadTail(whole, tail), shift), lanes), e = v128.and(exp4(x), lanes);
    check = f32x4.add(check, x);
    sum = f32x4.add(sum, e);
    storeTail(whole, e, tail);
  }
  let weight = load<f32>(l);
  if (next != old && weight != 0) {
    const c = exp1(old - next), cv = f32x4.splat(c);
    weight *= c;
    for (let p = o; p < o + (<usize>D << 2); p += 16) v128.store(p, f32x4.mul(v128.load(p), cv));
  }
  const bad = hsum(check); // 0 after the subtraction, or NaN
  store<f32>(m, next);
  store<f32>(l, weight + hsum(sum) + (bad - bad));
}

/** The fewest and the most keys that the `step` rows from r on see, packed as most * 256 + fewest. */
// @ts-ignore: decorator
@inline function keysSeen(n: usize, r: i32, step: i32): i32 {
  let low = KEYS, high = 0;
  for (let i = r; i < r + step; i++) { const x = load<i32>(n + (<usize>i << 2)); low = min(low, x); high = max(high, x); }
  return high << 8 | low;
}

// The call block is that of src/device/cpu/native/attend.ts. False, and nothing done, where an address does not lie in the memory: the
// code below then traps, as machine code would not.
function attendNative(rows: i32, D: i32, q: usize, s: usize, o: usize, m: usize, l: usize, n: usize, kT: usize, v: usize, ldv: usize): bool {
  const tile = <u64>rows * STRIDE, words = <u64>rows << 2;
  const inside = inMemory(q, tile) && inMemory(s, tile) && inMemory(o, tile) && inMemory(m, words) && inMemory(l, words) && inMemory(n, words) &&
    inMemory(kT, <u64>D * KT_STRIDE) && inMemory(v, <u64>(KEYS - 1) * ldv + (<u64>(D + 7 & ~7) << 2));
  if (!inside) return false;
  const at = nativeBlock;
  store<i32>(at, rows, 0); store<i32>(at, D, 4); store<u32>(at, <u32>n, 8); store<u32>(at, <u32>q, 20); store<u32>(at, <u32>s, 24); store<u32>(at, <u32>o, 28);
  store<u32>(at, <u32>m, 32); store<u32>(at, <u32>l, 36); store<u32>(at, <u32>kT, 40); store<u32>(at, <u32>v, 44); store<u32>(at, <u32>ldv, 48);
  nativeAttend(at);
  return true;
}

/** Merges one block of keys into `rows` rows. `n` (i32 each) says how many of its keys a row sees: 0 leaves the row as it is. */
export function attendBlock(rows: i32, D: i32, q: usize, s: usize, o: usize, m: usize, l: usize, n: usize, kT: usize, v: usize, ldv: usize): void {
  if (nativeBlock != 0 && attendNative(rows, D, q, s, o, m, l, n, kT, v, ldv)) return;
  // three sweeps, so that first kT and then v stays in the first-level cache
  for (let i = 0; i < rows; ) {
    const step = tileRows(rows - i), at = <usize>i * STRIDE, high = keysSeen(n, i, step) >> 8;
    if (high > 0) multiply(step, D, q + at, kT, KT_STRIDE, s + at, high, true);
    i += step;
  }
  for (let r = 0; r < rows; r++) {
    const x = load<i32>(n + (<usize>r << 2)), row = <usize>r * STRIDE, word = <usize>r << 2;
    if (x > 0) softmaxRow(x, D, s + row, o + row, m + word, l + word);
  }
  for (let i = 0; i < rows; ) {
    const step = tileRows(rows - i), at = <usize>i * STRIDE, low = keysSeen(n, i, step) & 255;
    // the keys that all rows of this tile see together, then each row's own
    if (low > 0) multiply(step, low, s + at, v, ldv, o + at, D, false);
    for (let r = i; r < i + step; r++) {
      const x = load<i32>(n + (<usize>r << 2)), row = <usize>r * STRIDE;
      if (x > low) multiply(1, x - low, s + row + (<usize>low << 2), v + <usize>low * ldv, ldv, o + row, D, false);
    }
    i += step;
  }
}

/** to[d, t] = rows of D floats at p0..p3, for four keys side by side: `to` has rows 256 bytes apart. */
export function transposeKeys(D: i32, p0: usize, p1: usize, p2: usize, p3: usize, to: usize): void {
  for (const end = p0 + (<usize>D << 2); p0 < end; p0 += 16) {
    const r0 = v128.load(p0), r1 = v128.load(p1), r2 = v128.load(p2), r3 = v128.load(p3);
    const a = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), b = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const c = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), e = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<f64>(a, c, 0, 2));
    v128.store(to, v128.shuffle<f64>(a, c, 1, 3), 256);
    v128.store(to, v128.shuffle<f64>(b, e, 0, 2), 512);
    v128.store(to, v128.shuffle<f64>(b, e, 1, 3), 768);
    p1 += 16; p2 += 16; p3 += 16; to += 1024;
  }
}

/** to = from * scale, D floats */
export function scaleRow(D: i32, from: usize, scale: f32, to: usize): void {
  const k = f32x4.splat(scale);
  for (const end = from + (<usize>D << 2); from < end; from += 16) { v128.store(to, f32x4.mul(v128.load(from), k)); to += 16; }
}

/** out = o / l, or zeros for a row that saw no key */
export function finishRow(D: i32, o: usize, l: f32, out: usize): void {
  scaleRow(D, o, l == 0 ? 0 : <f32>1 / l, out);
}
