// sample: one id per decode row, by inverse CDF over softmax(logits / temperature) in id order, after top-k and top-p
//
// Source    top-p: Holtzman et al. 2020, arXiv:1904.09751
// Shapes    logits [R, V]   settings [R, 4]: temperature, topK, topP, unused   keys u32 [R, 5]   positions u32 [1, R]   ids u32, logProb [1, R]
// Formula   u = (philox(keys[0..1], (keys[2..4], position))[0] >>> 8) 2^-24; the smallest id whose running sum of kept weights exceeds
//           (u + 2^-25) of their total. The half step keeps u = 0 from picking an id 0 of no probability to speak of.
//           top-k keeps the k largest logits; top-p keeps, of those, the fewest largest whose share of their weights is at least topP.
//           Equal logits are kept by lower id. temperature 0: the lowest id of the largest logit.
// Items     one row
// Numerics  log-probability by lib/log_softmax.ts, over all V, as log_prob gives it. Weights are f32, their sums f64 over blocks of 256
//           ids; weights below e^-87 of the largest are 0. Thresholds are exact: a radix select on the bits of the logits.
// Limits    V at most 500,000 where top-k or top-p is on. A row of position 0xffffffff is left alone. NaN logits are never picked, unless
//           all are
import { tensor, rowsOf, colsOf, rowPtr } from "./lib/call";
import { exp4 } from "./lib/math";
import { rowStats, lseOf, logProbOf, STATS_BYTES } from "./lib/log_softmax";
import { loadTail, storeTail } from "./lib/span";
import { philoxWord0 } from "./lib/philox";

const NONE: u32 = 0xffffffff;
const BLOCK: i32 = 256;
const BINS: i32 = 2048;

export function sample_items(args: usize, phase: i32): i32 { return phase == 0 ? rowsOf(tensor(args, 0, 0)) : -1; }

export function sample_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const V = colsOf(tensor(args, 0, 0)), logits = rowPtr(tensor(args, 0, 0), item), settings = rowPtr(tensor(args, 0, 1), item), keys = rowPtr(tensor(args, 0, 2), item);
  const word = <usize>item << 2, position = load<u32>(rowPtr(tensor(args, 0, 3), 0) + word);
  if (position == NONE) return;
  const temperature = load<f32>(settings), topK = load<f32>(settings, 4), topP = load<f32>(settings, 8);
  const inverse: f32 = temperature > 0 ? <f32>1 / temperature : 1, stats = scratch, work = scratch + 4 * STATS_BYTES;
  rowStats(logits, V, inverse, stats);
  let id = 0;
  if (temperature > 0) {
    const random = philoxWord0(load<u32>(keys), load<u32>(keys, 4), load<u32>(keys, 8), load<u32>(keys, 12), load<u32>(keys, 16), position);
    const u = (<f64>(random >>> 8) + 0.5) * 5.9604644775390625e-8, m = load<f32>(stats);
    const k = topK >= 1 && topK < <f32>V ? <i32>topK : V;
    id = k == V && !(topP < 1) ? draw(logits, V, inverse, m, u, work) : drawKept(logits, V, inverse, m, u, k, <f64>topP, work);
  }
  if (!(temperature > 0) || id < 0) id = greatest(logits, V);
  store<u32>(rowPtr(tensor(args, 0, 4), 0) + word, <u32>id);
  store<f32>(rowPtr(tensor(args, 0, 5), 0) + word, logProbOf(load<f32>(logits + (<usize>id << 2)), inverse, lseOf(stats)));
}

// The lowest id of the largest logit.
function greatest(logits: usize, V: i32): i32 {
  let top = f32x4.splat(-Infinity), v = 0, best: f32 = -Infinity;
  for (; v + 4 <= V; v += 4) top = f32x4.pmax(top, v128.load(logits + (<usize>v << 2)));
  for (let i = 0; i < 4; i++) { const x = i == 0 ? f32x4.extract_lane(top, 0) : i == 1 ? f32x4.extract_lane(top, 1) : i == 2 ? f32x4.extract_lane(top, 2) : f32x4.extract_lane(top, 3); if (x > best) best = x; }
  for (; v < V; v++) { const x = load<f32>(logits + (<usize>v << 2)); if (x > best) best = x; }
  for (v = 0; v < V; v++) if (load<f32>(logits + (<usize>v << 2)) == best) return v;
  return 0;
}

// e^(z - m), 0 where that is below e^-87 or not a number
// @ts-ignore: decorator
@inline function weights(z: v128, inverse: v128, m: v128): v128 {
  const x = f32x4.sub(f32x4.mul(z, inverse), m);
  return v128.and(exp4(x), f32x4.ge(x, f32x4.splat(-87)));
}
// Weights of n <= BLOCK ids, stored at `to`; their sum in f64, in 4 lanes by id modulo 4.
function blockWeights(logits: usize, n: i32, inverse: f32, m: f32, to: usize): f64 {
  const iv = f32x4.splat(inverse), mv = f32x4.splat(m);
  let low = f64x2.splat(0), high = low, v = 0;
  for (; v + 4 <= n; v += 4) {
    const w = weights(v128.load(logits), iv, mv);
    v128.store(to, w);
    low = f64x2.add(low, f64x2.promote_low_f32x4(w));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(w, w, 2, 3, 2, 3)));
    logits += 16; to += 16;
  }
  if (v < n) {
    const tail = n - v;
    storeTail(to, weights(loadTail(logits, tail), iv, mv), tail);
    const w = loadTail(to, tail);
    low = f64x2.add(low, f64x2.promote_low_f32x4(w));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(w, w, 2, 3, 2, 3)));
  }
  low = f64x2.add(low, high);
  return f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1);
}

// Inverse CDF over all ids: block sums, then the ids of one block. -1 if no weight is positive.
function draw(logits: usize, V: i32, inverse: f32, m: f32, u: f64, work: usize): i32 {
  const sums = work + (<usize>BLOCK << 2);
  let total: f64 = 0, blocks = 0;
  for (let v = 0; v < V; v += BLOCK) {
    const sum = blockWeights(logits + (<usize>v << 2), min(BLOCK, V - v), inverse, m, work);
    store<f64>(sums + (<usize>blocks << 3), sum);
    total += sum;
    blocks++;
  }
  const target = u * total;
  let before: f64 = 0, b = 0;
  for (; b < blocks - 1; b++) {
    const next = before + load<f64>(sums + (<usize>b << 3));
    if (next > target) break;
    before = next;
  }
  // a block's sum and its running sum round differently: the last positive weight of the block stands in for what is left over
  for (; b >= 0; b--) {
    const first = b * BLOCK, n = min(BLOCK, V - first);
    blockWeights(logits + (<usize>first << 2), n, inverse, m, work);
    let found = -1, sum = before;
    for (let v = 0; v < n; v++) {
      const w = <f64>load<f32>(work + (<usize>v << 2));
      if (!(w > 0)) continue;
      found = first + v;
      sum += w;
      if (sum > target) return found;
    }
    if (found >= 0) return found;
  }
  return -1;
}

// ---- top-k, top-p ----

// The bits of a float as an integer of the same order; NaN is lowest.
// @ts-ignore: decorator
@inline function orderOf(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  if (x != x) return 0;
  return bits ^ (<i32>bits < 0 ? 0xffffffff : 0x80000000);
}
// What a select found: keep every key above `keptKey`, and the first `keptTies` ids of that key.
let keptKey: u32 = 0;
let keptTies: i32 = 0;

// Finds the key at which `amount` is reached from the largest key down, over keys >= lowest, where an id amounts to 1 (byWeight false)
// or to its weight. Three passes over 11, 11 and 10 bits.
function select(logits: usize, V: i32, weight: usize, byWeight: bool, amount: f64, lowest: u32, lowestTies: i32, bins: usize): void {
  let prefix: u32 = 0, mask: u32 = 0, above: f64 = 0;
  for (let pass = 0; pass < 3; pass++) {
    const shift: u32 = pass == 0 ? 21 : pass == 1 ? 10 : 0, width: i32 = pass == 2 ? 1024 : BINS;
    memory.fill(bins, 0, <usize>BINS << 3);
    let ties = 0;
    for (let v = 0; v < V; v++) {
      const key = orderOf(load<f32>(logits + (<usize>v << 2)));
      if ((key & mask) != prefix || key < lowest) continue;
      if (key == lowest && ties++ >= lowestTies) continue;
      const bin = bins + (<usize>((key >> shift) & <u32>(width - 1)) << 3);
      store<f64>(bin, load<f64>(bin) + (byWeight ? <f64>load<f32>(weight + (<usize>v << 2)) : 1));
    }
    let bin = width - 1, seen = -1;
    for (; bin >= 0; bin--) {
      const x = load<f64>(bins + (<usize>bin << 3));
      if (x == 0) continue;
      seen = bin;
      if (above + x >= amount) break;
      above += x;
    }
    // rounding may leave the amount just out of reach: everything down to the lowest bin is kept
    if (bin < 0) { bin = max(seen, 0); above -= load<f64>(bins + (<usize>bin << 3)); }
    prefix |= <u32>bin << shift;
    mask |= <u32>(width - 1) << shift;
  }
  // all ids of one key have one weight
  let each: f64 = 1, ties = 0;
  for (let v = 0; v < V; v++) if (orderOf(load<f32>(logits + (<usize>v << 2))) == prefix) {
    ties++;
    if (byWeight) each = <f64>load<f32>(weight + (<usize>v << 2));
  }
  if (prefix == lowest) ties = min(ties, lowestTies);
  let needed: i32 = 1;
  while (needed < ties && above + each * <f64>needed < amount) needed++;
  keptKey = prefix; keptTies = needed;
}

function drawKept(logits: usize, V: i32, inverse: f32, m: f32, u: f64, topK: i32, topP: f64, work: usize): i32 {
  const bins = work, weight = work + (<usize>BINS << 3);
  for (let v = 0; v < V; v += BLOCK) blockWeights(logits + (<usize>v << 2), min(BLOCK, V - v), inverse, m, weight + (<usize>v << 2));
  keptKey = 0; keptTies = V;
  if (topK < V) select(logits, V, weight, false, <f64>topK, 0, V, bins);
  if (topP < 1) {
    const share = topP * keptWeight(logits, V, weight, Infinity);
    select(logits, V, weight, true, share, keptKey, keptTies, bins);
  }
  const total = keptWeight(logits, V, weight, Infinity);
  keptWeight(logits, V, weight, u * total);
  return reached;
}

let reached: i32 = 0;
// Sum of the kept weights in id order; `reached` becomes the id at which it first exceeds `target`, else the last of positive weight.
function keptWeight(logits: usize, V: i32, weight: usize, target: f64): f64 {
  let sum: f64 = 0, ties = 0;
  reached = -1;
  for (let v = 0; v < V; v++) {
    const key = orderOf(load<f32>(logits + (<usize>v << 2)));
    if (key < keptKey) continue;
    if (key == keptKey && ties++ >= keptTies) continue;
    const w = <f64>load<f32>(weight + (<usize>v << 2));
    if (!(w > 0)) continue;
    sum += w;
    reached = v;
    if (sum > target) return sum;
  }
  return sum;
}
