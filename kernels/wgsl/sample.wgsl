// sample: one id per decode row, by inverse CDF over softmax(logits / temperature) in id order, after top-k and top-p
//
// Source    top-p: Holtzman et al. 2020, arXiv:1904.09751   Philox4x32-10: Salmon et al. 2011
// Shapes    logits [R, V]   settings [R, 4]: temperature, topK, topP, unused   keys [R, 5]   positions, ids, logProb: vectors, of which rows
//           first.. belong to these logits   stats [R], as log_softmax_merge leaves them   sums [R, ceil(V / 1024)], as sample_weights does
// Formula   w = philox(keys[0..1], (keys[2..4], position))[0] >>> 8; the smallest id whose running sum of kept weights exceeds
//           (w + 1/2) 2^-24 of their total. top-k keeps the k largest logits; top-p keeps, of those, the fewest largest whose share of their
//           weights is at least topP, and one at least. Equal logits are kept by lower id. temperature 0: the lowest id of the largest logit.
// Dispatch  one workgroup per row. All ids: it reads the sums and 1024 logits. top-k, top-p: up to 9 passes over the row each.
// Numerics  weights are integers (sample_weights), so sums, shares and thresholds are exact in any order; thresholds are found by a radix
//           select on (bits of the logit, id). Log-probability: one fma on the row's statistics, over all V, as log_prob gives it.
// Limits    V at most 2^19. A row of position 0xffffffff is left alone. NaN logits are never picked, unless all are

#include lib/philox
#include lib/weight

struct Params {
  rows: u32, vocabulary: u32, stride4: u32, logits_row: u32, first_setting: u32, settings_stride: u32, first_key: u32, keys_stride: u32,
  first: u32, blocks: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> settings: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> positions: array<u32>;
@group(0) @binding(4) var<storage, read> stats: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> sums: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> ids: array<u32>;
@group(0) @binding(7) var<storage, read_write> log_prob: array<u32>;
@group(0) @binding(8) var<uniform> p: Params;

const THREADS: u32 = 256u;
const NONE: u32 = 0xffffffffu;
const BINS: u32 = 512u;
// ids in one bin of the draw: what the workgroup reads at once
const BLOCK: u32 = 1024u;

// 64-bit sums: of blocks of ids while drawing, of digits while selecting
var<workgroup> bins_low: array<atomic<u32>, BINS>;
var<workgroup> bins_high: array<atomic<u32>, BINS>;
var<workgroup> scanned: array<vec2<u32>, THREADS>;
var<workgroup> scanned_by_16: array<vec2<u32>, 16>;
// what one invocation found out for all: a number of a bin or an id, and an amount
var<workgroup> found: vec4<u32>;
var<workgroup> extreme: atomic<u32>;

// ---- 64-bit integers, low word first ----

fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return vec2(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }
fn less64(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
fn equal64(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x == b.x && a.y == b.y; }
fn float64(a: vec2<u32>) -> f32 { return fma(f32(a.y), 4294967296.0, f32(a.x)); }
// a b, 96 bits
fn multiply96(a: vec2<u32>, b: u32) -> vec3<u32> {
  let high = add64(vec2(a.y * b, multiply_high(a.y, b)), vec2(multiply_high(a.x, b), 0u));
  return vec3(a.x * b, high);
}

// ---- weights and order of logits ----

// The bits of a float as an integer of the same order: NaN is lowest, both zeros are one.
fn order_of(logit: f32) -> u32 {
  let bits = bitcast<u32>(logit);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
  if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
  return bits ^ select(0x80000000u, 0xffffffffu, (bits & 0x80000000u) != 0u);
}

/** What is kept: every key above `key`, and of that key the ids up to `last`. */
struct Cut { key: u32, last: u32 }
fn keeps(cut: Cut, key: u32, id: u32) -> bool { return key > cut.key || (key == cut.key && id <= cut.last); }

/** A row of logits. */
struct Row { at: u32, inverse: f32, m: f32 }

// ---- sums of all invocations ----

fn bin(i: u32) -> vec2<u32> { return vec2(atomicLoad(&bins_low[i]), atomicLoad(&bins_high[i])); }
fn set_bin(i: u32, x: vec2<u32>) {
  atomicStore(&bins_low[i], x.x);
  atomicStore(&bins_high[i], x.y);
}
// Carries are added with the high word, so the sum is the same in any order.
fn add_to_bin(i: u32, x: vec2<u32>) {
  let before = atomicAdd(&bins_low[i], x.x);
  let high = x.y + select(0u, 1u, before + x.x < before);
  if (high != 0u) { atomicAdd(&bins_high[i], high); }
}
fn clear_bins(lane: u32) {
  for (var i = lane; i < BINS; i += THREADS) { set_bin(i, vec2(0u)); }
  workgroupBarrier();
}

struct Scan { before: vec2<u32>, total: vec2<u32> }
/** The sum of x over lower lanes, and over all. */
fn scan(lane: u32, x: vec2<u32>) -> Scan {
  scanned[lane] = x;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = scanned[lane * 16u];
    for (var j = 1u; j < 16u; j++) { sum = add64(sum, scanned[lane * 16u + j]); }
    scanned_by_16[lane] = sum;
  }
  workgroupBarrier();
  var result = Scan(vec2(0u), vec2(0u));
  for (var j = 0u; j < 16u; j++) {
    if (j == lane / 16u) { result.before = result.total; }
    result.total = add64(result.total, scanned_by_16[j]);
  }
  for (var j = lane / 16u * 16u; j < lane; j++) { result.before = add64(result.before, scanned[j]); }
  workgroupBarrier();
  return result;
}

/** The total of the bins, for all invocations. */
fn bins_total(lane: u32) -> vec2<u32> {
  let all = scan(lane, add64(bin(2u * lane), bin(2u * lane + 1u)));
  if (lane == 0u) { found = vec4(all.total, 0u, 0u); }
  return workgroupUniformLoad(&found).xy;
}

// ---- picking ----

/** The lowest id of the largest logit. */
fn greatest(row: Row, lane: u32) -> u32 {
  var best = 0u;
  var id = 0xffffffffu;
  for (var column = lane * 4u; column < p.vocabulary; column += BLOCK) {
    let logit = logits[row.at + column / 4u];
    for (var j = 0u; j < 4u; j++) {
      let key = order_of(logit[j]);
      if (column + j < p.vocabulary && (id == NONE || key > best)) { best = key; id = column + j; }
    }
  }
  if (lane == 0u) { atomicStore(&extreme, 0u); }
  workgroupBarrier();
  atomicMax(&extreme, best);
  workgroupBarrier();
  if (lane == 0u) { found = vec4(atomicLoad(&extreme), 0u, 0u, 0u); }
  let top = workgroupUniformLoad(&found).x;
  if (lane == 0u) { atomicStore(&extreme, NONE); }
  workgroupBarrier();
  if (best == top) { atomicMin(&extreme, id); }
  workgroupBarrier();
  if (lane == 0u) { found = vec4(atomicLoad(&extreme), 0u, 0u, 0u); }
  return workgroupUniformLoad(&found).x;
}

/** Sums of kept weights into the bins, one for 1024 ids. */
fn sum_blocks(row: Row, cut: Cut, lane: u32) {
  clear_bins(lane);
  for (var block = 0u; block < p.blocks; block++) {
    let column = block * BLOCK + lane * 4u;
    if (column >= p.vocabulary) { continue; }
    let logit = logits[row.at + column / 4u];
    var sum = vec2(0u);
    for (var j = 0u; j < 4u; j++) {
      if (column + j < p.vocabulary && keeps(cut, order_of(logit[j]), column + j)) { sum = add64(sum, weight(logit[j], row.inverse, row.m)); }
    }
    if ((sum.x | sum.y) != 0u) { add_to_bin(block, sum); }
  }
  workgroupBarrier();
}

/** The smallest id at which the running sum of kept weights exceeds (word + 1/2) 2^-24 of what the bins hold; NONE if they hold nothing. */
fn draw(row: Row, cut: Cut, word: u32, lane: u32) -> u32 {
  if (lane == 0u) {
    found = vec4(NONE, 0u, 0u, 0u);
    atomicStore(&extreme, 0u);
  }
  let low = bin(2u * lane);
  let high = bin(2u * lane + 1u);
  let blocks = scan(lane, add64(low, high));
  let product = multiply96(blocks.total, 2u * word + 1u);
  let goal = vec2((product.x >> 25u) | (product.y << 7u), (product.y >> 25u) | (product.z << 7u));
  let middle = add64(blocks.before, low);
  if (!less64(goal, blocks.before) && less64(goal, middle)) { found = vec4(2u * lane, sub64(goal, blocks.before), 0u); }
  else if (!less64(goal, middle) && less64(goal, add64(middle, high))) { found = vec4(2u * lane + 1u, sub64(goal, middle), 0u); }
  let block = workgroupUniformLoad(&found);
  if (block.x == NONE) { return NONE; }

  if (lane == 0u) { found = vec4(NONE, 0u, 0u, 0u); }
  let column = block.x * BLOCK + lane * 4u;
  var own = array<vec2<u32>, 4>();
  var sum = vec2(0u);
  if (column < p.vocabulary) {
    let logit = logits[row.at + column / 4u];
    for (var j = 0u; j < 4u; j++) {
      if (column + j < p.vocabulary && keeps(cut, order_of(logit[j]), column + j)) {
        own[j] = weight(logit[j], row.inverse, row.m);
        if ((own[j].x | own[j].y) != 0u) { atomicMax(&extreme, column + j + 1u); }
      }
      sum = add64(sum, own[j]);
    }
  }
  var before = scan(lane, sum).before;
  for (var j = 0u; j < 4u; j++) {
    let next = add64(before, own[j]);
    if (!less64(block.yz, before) && less64(block.yz, next)) { found = vec4(column + j, 0u, 0u, 0u); }
    before = next;
  }
  let id = workgroupUniformLoad(&found).x;
  if (id != NONE) { return id; }
  // Only where a compiler gave the sums' kernel other weights: the block's last id that weighs anything.
  if (lane == 0u) { found = vec4(atomicLoad(&extreme) - 1u, 0u, 0u, 0u); }
  return workgroupUniformLoad(&found).x;
}

// ---- top-k, top-p ----

// 24 bits that fall as the id rises: equal logits are ranked by them
const RANKS: u32 = 0x00ffffffu;

/** A lower bound on the k-th largest key, k <= 256: the least of the invocations' largest. */
fn lower_bound(row: Row, lane: u32) -> u32 {
  var best = 0u;
  for (var column = lane * 4u; column < p.vocabulary; column += BLOCK) {
    let logit = logits[row.at + column / 4u];
    for (var j = 0u; j < 4u; j++) {
      if (column + j < p.vocabulary) { best = max(best, order_of(logit[j])); }
    }
  }
  if (lane == 0u) { atomicStore(&extreme, NONE); }
  workgroupBarrier();
  atomicMin(&extreme, best);
  workgroupBarrier();
  if (lane == 0u) { found = vec4(atomicLoad(&extreme), 0u, 0u, 0u); }
  return workgroupUniformLoad(&found).x;
}

/**
 * Cuts where `amount` is reached from the largest (key, rank) down, over what `within` keeps; an id amounts to its weight, or to 1. Ids are
 * left out that cannot be reached: keys below `least_key` when counting, x = z - m below `least_x` when weighing.
 */
fn select_cut(row: Row, within: Cut, by_weight: bool, amount: vec2<u32>, least_key: u32, least_x: f32, lane: u32) -> Cut {
  var needed = amount;
  var key = 0u;
  var key_mask = 0u;
  var rank = 0u;
  var rank_mask = 0u;
  // four digits of the key, three of the rank
  for (var digit = 0u; digit < 7u; digit++) {
    let of_key = digit < 4u;
    let shift = select(6u - digit, 3u - digit, of_key) * 8u;
    clear_bins(lane);
    for (var column = lane * 4u; column < p.vocabulary; column += BLOCK) {
      let logit = logits[row.at + column / 4u];
      for (var j = 0u; j < 4u; j++) {
        let id = column + j;
        let k = order_of(logit[j]);
        let near = select(k >= least_key, fma(logit[j], row.inverse, -row.m) >= least_x, by_weight);
        if (near && id < p.vocabulary && (k & key_mask) == key && ((RANKS - id) & rank_mask) == rank && keeps(within, k, id)) {
          var x = vec2(1u, 0u);
          if (by_weight) { x = weight(logit[j], row.inverse, row.m); }
          add_to_bin(255u - ((select(RANKS - id, k, of_key) >> shift) & 255u), x);
        }
      }
    }
    workgroupBarrier();
    if (lane == 0u) { found = vec4(NONE, 0u, 0u, 0u); }
    let own = bin(lane);
    let before = scan(lane, own).before;
    if (less64(before, needed) && !less64(add64(before, own), needed)) {
      let rest = sub64(needed, before);
      var all = !by_weight && equal64(rest, own);
      if (digit == 3u && by_weight) {
        // ids of one key have one weight: are all of them needed?
        let bits = key | (255u - lane);
        let each = weight(bitcast<f32>(bits ^ select(0xffffffffu, 0x80000000u, (bits & 0x80000000u) != 0u)), row.inverse, row.m);
        all = less64(sub64(own, each), rest);
      }
      found = vec4(255u - lane, rest, u32(all));
    }
    let step = workgroupUniformLoad(&found);
    if (step.x == NONE) { return within; }
    if (of_key) { key |= step.x << shift; key_mask |= 255u << shift; }
    else { rank |= step.x << shift; rank_mask |= 255u << shift; }
    needed = step.yz;
    if (step.w != 0u) { break; }
  }
  var cut = Cut(key, RANKS - rank);
  // what was left out stays out
  if (cut.key < least_key) { cut = Cut(least_key, RANKS); }
  if (cut.key < within.key) { cut = within; }
  else if (cut.key == within.key) { cut.last = min(cut.last, within.last); }
  return cut;
}

/** Cuts to the fewest largest whose share of the weights in the bins is at least `top_p`. */
fn cut_to_share(row: Row, within: Cut, top_p: f32, lane: u32) -> Cut {
  let total = bins_total(lane);
  if ((total.x | total.y) == 0u) { return within; }
  let product = multiply96(total, u32(max(top_p, 0.0) * 4294967296.0));
  var amount = add64(product.yz, vec2(select(0u, 1u, product.x != 0u), 0u));
  if ((amount.x | amount.y) == 0u) { amount = vec2(1u, 0u); }
  // ids of so little weight that all V of them would not make up the rest
  let rest = float64(sub64(total, amount));
  var least = -3.4028234e38;
  if (rest > 0.0) { least = log(rest * 2.8421709430404007e-14 / f32(p.vocabulary)); }
  return select_cut(row, within, true, amount, 0u, least, lane);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let number = group.y * grid.x + group.x;
  if (number >= p.rows) { return; }
  let n = p.first + number;
  let position = positions[n];
  if (position == NONE) { return; }
  let setting = p.first_setting + number * p.settings_stride;
  let temperature = settings[setting];
  let top_k = settings[setting + 1u];
  let top_p = settings[setting + 2u];
  let record = stats[number];
  let row = Row((p.logits_row + number) * p.stride4, bitcast<f32>(record.w), bitcast<f32>(record.x));

  var id = NONE;
  if (temperature > 0.0 && (record.x & 0x7f800000u) != 0x7f800000u) {
    let at = p.first_key + number * p.keys_stride;
    let word = philox(vec2(keys[at], keys[at + 1u]), vec4(keys[at + 2u], keys[at + 3u], keys[at + 4u], position)).x >> 8u;
    var cut = Cut(0u, NONE);
    if (top_k >= 1.0 && top_k < f32(p.vocabulary)) {
      let k = u32(top_k);
      var least = 0u;
      if (k <= THREADS) { least = lower_bound(row, lane); }
      cut = select_cut(row, cut, false, vec2(k, 0u), least, 0.0, lane);
      sum_blocks(row, cut, lane);
    } else {
      for (var i = lane; i < BINS; i += THREADS) {
        var sum = vec2(0u);
        if (i < p.blocks) { sum = sums[number * p.blocks + i]; }
        set_bin(i, sum);
      }
      workgroupBarrier();
    }
    if (top_p < 1.0) {
      cut = cut_to_share(row, cut, top_p, lane);
      sum_blocks(row, cut, lane);
    }
    id = draw(row, cut, word, lane);
  }
  if (id == NONE) { id = greatest(row, lane); }

  if (lane == 0u) {
    ids[n] = id;
    var value = 0x7fc00000u;
    if ((record.y & 0x7fffffffu) <= 0x7f800000u) {
      value = bitcast<u32>(fma(logits[row.at + id / 4u][id % 4u], row.inverse, -bitcast<f32>(record.y)));
    }
    log_prob[n] = value;
  }
}
