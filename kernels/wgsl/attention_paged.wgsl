// attention_paged: attention of single tokens against the cache, one block of 64 keys at a time: partial results for attention_paged_merge
//
// Formula   per token, query head and block: m = max_j s, p = 2^((s - m) log2 e), l = sum_j p, o = sum_j p[j] v[j], as in attention.wgsl
// Source    Dao et al. 2023, flash-decoding (a split over keys); Kwon et al. 2023, arXiv:2309.06180 (paged cache)
// Shapes    q [N, H*D]   positions [N]   offsets [B+1]   table [B, maxBlocks]   k [blocks, K*D*64], v [blocks, K*64*D] of KV_DTYPE (0 f32,
//           1 f16, 2 bf16)   sums [items, maxBlocks, ROWS, D]   norms [items, maxBlocks, ROWS] of (m, l). An item is a token and ROWS query
//           heads of one key/value head, which share its loads
// Dispatch  128 threads: four groups of 32 threads, each with blocks of its own; `splits` workgroups an item, so that a few long sequences
//           fill a GPU. A thread scores 2 keys for all rows, then weighs, then sums 4 columns. Blocks outside this shard of the cache
//           (firstBlock, blocks) are left to another dispatch
// Numerics  f32, the operations of attention.wgsl in the same order: a score is one fma chain over d, an output one over the keys that the
//           token sees, l the same tree
// Limits    D a multiple of 4, at most 128; ROWS at most 8; workgroup memory 13.4 KB
//
// Prologue  const ROWS: u32, EACH: u32 (ROWS / parts, rounded up), KV_DTYPE: u32, alias PAIR = u32 (16 bit) or vec2<u32> (f32): two elements

#include lib/sequence_at

const LOG2E: f32 = 1.4426950408889634;
const LOWEST: f32 = -1e38;

struct Params {
  items: u32,
  first_item: u32,
  splits: u32,
  sequences: u32,
  tokens: u32,
  groups: u32,          // groups of query heads: H / ROWS
  groups_per_head: u32, // groups that share a key/value head
  q_stride: u32,        // in vec4s
  k_stride: u32,        // in pairs
  v_stride: u32,        // in pairs of u32s
  table_stride: u32,
  max_blocks: u32,
  first_block: u32,
  blocks: u32,
  quads: u32,           // D / 4
  parts: u32,           // for the sums, a group's threads form so many parts, each with all columns: part i takes rows i, i + parts ...
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> table: array<u32>;
@group(0) @binding(4) var<storage, read> k: array<PAIR>;
@group(0) @binding(5) var<storage, read> v: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> norms: array<vec2<f32>>;
@group(0) @binding(8) var<uniform> p: Params;

var<workgroup> queries: array<vec4<f32>, ROWS * 32u>;
var<workgroup> weights: array<vec2<f32>, 4u * ROWS * 32u>; // scores, then p, of 64 keys: [group][row][key / 2]
var<workgroup> tops: array<f32, 128>;
var<workgroup> totals: array<f32, 128>;

fn keys_at(at: u32) -> vec2<f32> {
  let w = vec2<u32>(k[at]);
  if (KV_DTYPE == 0u) { return bitcast<vec2<f32>>(w); }
  if (KV_DTYPE == 1u) { return unpack2x16float(w.x); }
  return bitcast<vec2<f32>>(vec2<u32>(w.x << 16u, w.x & 0xffff0000u));
}

fn values_at(quad: u32) -> vec4<f32> {
  if (KV_DTYPE == 0u) { return bitcast<vec4<f32>>(vec4<u32>(v[2u * quad], v[2u * quad + 1u])); }
  let w = v[quad];
  if (KV_DTYPE == 1u) { return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)); }
  return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}

// s += q . k over four d, in order
fn add4(s: vec2<f32>, x: vec4<f32>, k0: vec2<f32>, k1: vec2<f32>, k2: vec2<f32>, k3: vec2<f32>) -> vec2<f32> {
  return fma(vec2<f32>(x.w), k3, fma(vec2<f32>(x.z), k2, fma(vec2<f32>(x.y), k1, fma(vec2<f32>(x.x), k0, s))));
}

// o += p . v over four keys, in order
fn sum4(o: vec4<f32>, at: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> vec4<f32> {
  let a = weights[at];
  let b = weights[at + 1u];
  return fma(vec4<f32>(b.y), v3, fma(vec4<f32>(b.x), v2, fma(vec4<f32>(a.y), v1, fma(vec4<f32>(a.x), v0, o))));
}

fn sum1(o: vec4<f32>, at: u32, odd: bool, x: vec4<f32>) -> vec4<f32> {
  let w = weights[at];
  return fma(vec4<f32>(select(w.x, w.y, odd)), x, o);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let index = wg.y * grid.x + wg.x;
  if (index >= p.items * p.splits) { return; }
  let item = index / p.splits;
  let split = index % p.splits;
  let n = (p.first_item + item) / p.groups;
  let part = (p.first_item + item) % p.groups;
  let seen = positions[n] + 1u; // 0xffffffff marks a row that sees none
  if (seen == 0u || n >= offsets[p.sequences]) { return; }
  // one token a sequence is the common case
  var sequence = min(n, p.sequences - 1u);
  if (offsets[sequence] > n || offsets[sequence + 1u] <= n) { sequence = sequence_of(n); }
  let head = part / p.groups_per_head;
  let group = t / 32u;
  let lane = t % 32u;
  let blocks = (seen + 63u) / 64u;
  let parts = p.parts;
  let lanes = 32u / parts;

  let q_at = n * p.q_stride + part * ROWS * p.quads;
  for (var i = t; i < ROWS * p.quads; i += 128u) { queries[i] = q[q_at + i] * p.scale; }

  let mine = group * ROWS * 32u;
  for (var round = split * 4u; round < blocks; round += p.splits * 4u) {
    let block = round + group;
    let cached = table[sequence * p.table_stride + min(block, blocks - 1u)] - p.first_block;
    let here = block < blocks && cached < p.blocks;
    let keys = min(64u, seen - min(block * 64u, seen)); // of this block
    workgroupBarrier();

    // scores of keys 2 lane and 2 lane + 1
    if (here) {
      var at = cached * p.k_stride + head * p.quads * 128u + lane;
      var s0 = vec2<f32>(); var s1 = s0; var s2 = s0; var s3 = s0; var s4 = s0; var s5 = s0; var s6 = s0; var s7 = s0;
      var n0 = keys_at(at); var n1 = keys_at(at + 32u); var n2 = keys_at(at + 64u); var n3 = keys_at(at + 96u);
      for (var quad = 0u; quad < p.quads; quad++) {
        let k0 = n0; let k1 = n1; let k2 = n2; let k3 = n3;
        if (quad + 1u < p.quads) { at += 128u; }
        n0 = keys_at(at); n1 = keys_at(at + 32u); n2 = keys_at(at + 64u); n3 = keys_at(at + 96u);
        s0 = add4(s0, queries[quad], k0, k1, k2, k3);
        if (ROWS > 1u) { s1 = add4(s1, queries[p.quads + quad], k0, k1, k2, k3); }
        if (ROWS > 2u) { s2 = add4(s2, queries[2u * p.quads + quad], k0, k1, k2, k3); }
        if (ROWS > 3u) { s3 = add4(s3, queries[3u * p.quads + quad], k0, k1, k2, k3); }
        if (ROWS > 4u) { s4 = add4(s4, queries[4u * p.quads + quad], k0, k1, k2, k3); }
        if (ROWS > 5u) { s5 = add4(s5, queries[5u * p.quads + quad], k0, k1, k2, k3); }
        if (ROWS > 6u) { s6 = add4(s6, queries[6u * p.quads + quad], k0, k1, k2, k3); }
        if (ROWS > 7u) { s7 = add4(s7, queries[7u * p.quads + quad], k0, k1, k2, k3); }
      }
      let to = mine + lane;
      weights[to] = s0;
      if (ROWS > 1u) { weights[to + 32u] = s1; }
      if (ROWS > 2u) { weights[to + 64u] = s2; }
      if (ROWS > 3u) { weights[to + 96u] = s3; }
      if (ROWS > 4u) { weights[to + 128u] = s4; }
      if (ROWS > 5u) { weights[to + 160u] = s5; }
      if (ROWS > 6u) { weights[to + 192u] = s6; }
      if (ROWS > 7u) { weights[to + 224u] = s7; }
    }
    workgroupBarrier();

    // weights: thread (row, quarter) takes keys 4 quarter .. 4 quarter + 3 of each 16
    let row = lane / 4u;
    let quarter = lane % 4u;
    let weigh = here && row < ROWS;
    let at = mine + row * 32u + quarter * 2u;
    var a = vec4<f32>(); var b = a; var c = a; var d = a;
    let key = vec4<u32>(0u, 1u, 2u, 3u) + quarter * 4u;
    let on_a = key < vec4<u32>(keys);
    let on_b = key + 16u < vec4<u32>(keys);
    let on_c = key + 32u < vec4<u32>(keys);
    let on_d = key + 48u < vec4<u32>(keys);
    if (weigh) {
      a = select(vec4<f32>(LOWEST), vec4<f32>(weights[at], weights[at + 1u]), on_a);
      b = select(vec4<f32>(LOWEST), vec4<f32>(weights[at + 8u], weights[at + 9u]), on_b);
      c = select(vec4<f32>(LOWEST), vec4<f32>(weights[at + 16u], weights[at + 17u]), on_c);
      d = select(vec4<f32>(LOWEST), vec4<f32>(weights[at + 24u], weights[at + 25u]), on_d);
      let high = max(max(a, b), max(c, d));
      tops[t] = max(max(high.x, high.y), max(high.z, high.w));
    }
    workgroupBarrier();
    var top = 0.0;
    if (weigh) {
      let first = t - quarter;
      top = max(max(tops[first], tops[first + 1u]), max(tops[first + 2u], tops[first + 3u]));
      let magnitude = vec4<u32>(0x7fffffffu);
      let bits = max(max(bitcast<vec4<u32>>(a) & magnitude, bitcast<vec4<u32>>(b) & magnitude), max(bitcast<vec4<u32>>(c) & magnitude, bitcast<vec4<u32>>(d) & magnitude));
      let worst = max(max(bits.x, bits.y), max(bits.z, bits.w));
      a = select(vec4<f32>(), exp2((a - top) * LOG2E), on_a);
      b = select(vec4<f32>(), exp2((b - top) * LOG2E), on_b);
      c = select(vec4<f32>(), exp2((c - top) * LOG2E), on_c);
      d = select(vec4<f32>(), exp2((d - top) * LOG2E), on_d);
      weights[at] = a.xy; weights[at + 1u] = a.zw;
      weights[at + 8u] = b.xy; weights[at + 9u] = b.zw;
      weights[at + 16u] = c.xy; weights[at + 17u] = c.zw;
      weights[at + 24u] = d.xy; weights[at + 25u] = d.zw;
      let sum = (a + b) + (c + d);
      totals[t] = select((sum.x + sum.y) + (sum.z + sum.w), bitcast<f32>(worst | 0x7fc00000u), worst >= 0x7f800000u);
    }
    workgroupBarrier();

    if (here) {
      let place = (item * p.max_blocks + block) * ROWS;
      if (weigh && quarter == 0u) {
        norms[place + row] = vec2<f32>(top, (totals[t] + totals[t + 1u]) + (totals[t + 2u] + totals[t + 3u]));
      }
      // sums of columns 4 column .. 4 column + 3 for rows share, share + parts ...
      let column = lane % lanes;
      let share = lane / lanes;
      if (column < p.quads) {
        var from_v = (cached * p.v_stride) / select(1u, 2u, KV_DTYPE == 0u) + head * 64u * p.quads + column;
        let w = mine + min(share, ROWS - 1u) * 32u;
        // rows beyond the last repeat it and are not written
        let w1 = mine + min(share + parts, ROWS - 1u) * 32u;
        let w2 = mine + min(share + 2u * parts, ROWS - 1u) * 32u;
        let w3 = mine + min(share + 3u * parts, ROWS - 1u) * 32u;
        let w4 = mine + min(share + 4u * parts, ROWS - 1u) * 32u;
        let w5 = mine + min(share + 5u * parts, ROWS - 1u) * 32u;
        let w6 = mine + min(share + 6u * parts, ROWS - 1u) * 32u;
        let w7 = mine + min(share + 7u * parts, ROWS - 1u) * 32u;
        var o0 = vec4<f32>(); var o1 = o0; var o2 = o0; var o3 = o0; var o4 = o0; var o5 = o0; var o6 = o0; var o7 = o0;
        var j = 0u;
        for (; j + 4u <= keys; j += 4u) {
          let v0 = values_at(from_v);
          let v1 = values_at(from_v + p.quads);
          let v2 = values_at(from_v + 2u * p.quads);
          let v3 = values_at(from_v + 3u * p.quads);
          from_v += 4u * p.quads;
          let i = j / 2u;
          o0 = sum4(o0, w + i, v0, v1, v2, v3);
          if (EACH > 1u) { o1 = sum4(o1, w1 + i, v0, v1, v2, v3); }
          if (EACH > 2u) { o2 = sum4(o2, w2 + i, v0, v1, v2, v3); }
          if (EACH > 3u) { o3 = sum4(o3, w3 + i, v0, v1, v2, v3); }
          if (EACH > 4u) { o4 = sum4(o4, w4 + i, v0, v1, v2, v3); }
          if (EACH > 5u) { o5 = sum4(o5, w5 + i, v0, v1, v2, v3); }
          if (EACH > 6u) { o6 = sum4(o6, w6 + i, v0, v1, v2, v3); }
          if (EACH > 7u) { o7 = sum4(o7, w7 + i, v0, v1, v2, v3); }
        }
        for (; j < keys; j++) {
          let x = values_at(from_v);
          from_v += p.quads;
          let i = j / 2u;
          let odd = j % 2u == 1u;
          o0 = sum1(o0, w + i, odd, x);
          if (EACH > 1u) { o1 = sum1(o1, w1 + i, odd, x); }
          if (EACH > 2u) { o2 = sum1(o2, w2 + i, odd, x); }
          if (EACH > 3u) { o3 = sum1(o3, w3 + i, odd, x); }
          if (EACH > 4u) { o4 = sum1(o4, w4 + i, odd, x); }
          if (EACH > 5u) { o5 = sum1(o5, w5 + i, odd, x); }
          if (EACH > 6u) { o6 = sum1(o6, w6 + i, odd, x); }
          if (EACH > 7u) { o7 = sum1(o7, w7 + i, odd, x); }
        }
        let to = (place + share) * p.quads + column;
        let step = parts * p.quads;
        if (share < ROWS) { sums[to] = o0; }
        if (EACH > 1u && share + parts < ROWS) { sums[to + step] = o1; }
        if (EACH > 2u && share + 2u * parts < ROWS) { sums[to + 2u * step] = o2; }
        if (EACH > 3u && share + 3u * parts < ROWS) { sums[to + 3u * step] = o3; }
        if (EACH > 4u && share + 4u * parts < ROWS) { sums[to + 4u * step] = o4; }
        if (EACH > 5u && share + 5u * parts < ROWS) { sums[to + 5u * step] = o5; }
        if (EACH > 6u && share + 6u * parts < ROWS) { sums[to + 6u * step] = o6; }
        if (EACH > 7u && share + 7u * parts < ROWS) { sums[to + 7u * step] = o7; }
      }
    }
  }
}
