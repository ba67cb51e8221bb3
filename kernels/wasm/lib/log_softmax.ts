// Statistics of one row of logits z = logit * invTemperature, with one order of summation for every kernel that needs them (log_prob,
// log_prob_backward, sample): columns in blocks of STAT_BLOCK; a block is reduced from scratch, blocks are merged in column order by the
// online-softmax formula. A kernel that never holds a whole row gets the same bits as one that does.
//
// Stats (16 bytes)   0 m = max z   4 s = sum e^(z - m)   8 t = sum e^(z - m) (z - m)   12 unused
//   lse = m + ln s       entropy = lse - sum p z = ln s - t / s       log-probability of an id = z - lse
import { madd, hsum, hmax, exp1, exp4 } from "./math";

export const STAT_BLOCK: i32 = 512;
export const STATS_BYTES: usize = 16;

// e^x of a non-positive x that may be -infinity
// @ts-ignore: decorator
@inline function weight4(x: v128): v128 {
  return v128.and(exp4(x), f32x4.ge(x, f32x4.splat(-87.3)));
}

/** Reduces one block of at most STAT_BLOCK columns into `stats`. Logits may be -Infinity; a NaN or +Infinity makes lse and entropy NaN. */
export function blockStats(logits: usize, columns: i32, invTemperature: f32, stats: usize): void {
  const scale = f32x4.splat(invTemperature);
  const end4 = logits + (<usize>(columns & ~3) << 2);
  const end = logits + (<usize>columns << 2);
  let m: f32 = -Infinity;
  let p = logits;
  if (p < end4) {
    let top = f32x4.mul(v128.load(p), scale);
    for (p += 16; p < end4; p += 16) top = f32x4.max(top, f32x4.mul(v128.load(p), scale)); // unlike pmax, keeps a NaN
    m = hmax(top);
  }
  for (; p < end; p += 4) m = max(m, load<f32>(p) * invTemperature);
  if (m == -Infinity) {
    store<f32>(stats, m, 0); store<f32>(stats, 0, 4); store<f32>(stats, 0, 8);
    return;
  }
  const shift = f32x4.splat(m);
  let s4 = f32x4.splat(0);
  let t4 = f32x4.splat(0);
  for (p = logits; p < end4; p += 16) {
    const x = f32x4.sub(f32x4.mul(v128.load(p), scale), shift);
    const e = weight4(x);
    s4 = f32x4.add(s4, e);
    // a weight of 0 silences an x of -infinity
    t4 = madd(e, f32x4.pmax(f32x4.splat(-88), x), t4);
  }
  let s = hsum(s4);
  let t = hsum(t4);
  for (; p < end; p += 4) {
    const x = load<f32>(p) * invTemperature - m;
    if (x < -87.3) continue;
    const e = exp1(x);
    s += e;
    t += e * x;
  }
  store<f32>(stats, m, 0); store<f32>(stats, s, 4); store<f32>(stats, t, 8);
}

// @ts-ignore: decorator
@inline export function emptyStats(stats: usize): void {
  store<f32>(stats, -Infinity, 0); store<f32>(stats, 0, 4); store<f32>(stats, 0, 8);
}

/** Merges the stats of the next block into those of all blocks before it. */
export function mergeStats(into: usize, block: usize): void {
  const mB = load<f32>(block), sB = load<f32>(block, 4), tB = load<f32>(block, 8);
  if (mB == -Infinity) return;
  const mA = load<f32>(into), sA = load<f32>(into, 4), tA = load<f32>(into, 8);
  if (mA != mA) return;
  if (mA == -Infinity || mB != mB) {
    store<f32>(into, mB, 0); store<f32>(into, sB, 4); store<f32>(into, tB, 8);
    return;
  }
  // the side with the lower maximum is moved to the higher one: e^(z - m') (z - m') = f e^(z - m) ((z - m) + (m - m'))
  const d = mA - mB;
  const f: f32 = abs(d) > 87.3 ? 0 : exp1(-abs(d));
  if (d < 0) {
    store<f32>(into, mB, 0); store<f32>(into, sA * f + sB, 4); store<f32>(into, f == 0 ? tB : f * (tA + sA * d) + tB, 8);
  } else {
    store<f32>(into, sA + sB * f, 4); store<f32>(into, f == 0 ? tA : tA + f * (tB - sB * d), 8);
  }
}

/** Stats of a whole row of V logits. `stats` is 2 x STATS_BYTES: the second half is work space. */
export function rowStats(logits: usize, V: i32, invTemperature: f32, stats: usize): void {
  emptyStats(stats);
  for (let v = 0; v < V; v += STAT_BLOCK) {
    blockStats(logits + (<usize>v << 2), min(STAT_BLOCK, V - v), invTemperature, stats + STATS_BYTES);
    mergeStats(stats, stats + STATS_BYTES);
  }
}

// @ts-ignore: decorator
@inline export function lseOf(stats: usize): f32 { return load<f32>(stats) + NativeMathf.log(load<f32>(stats, 4)); }
// @ts-ignore: decorator
@inline export function entropyOf(stats: usize): f32 { return NativeMathf.log(load<f32>(stats, 4)) - load<f32>(stats, 8) / load<f32>(stats, 4); }
/** Log-probability of the id whose logit (before temperature) is `logit`. */
// @ts-ignore: decorator
@inline export function logProbOf(logit: f32, invTemperature: f32, lse: f32): f32 { return logit * invTemperature - lse; }
