// attention_matrix: what attention.wgsl and, if SPLIT, attention_paged.wgsl compute, by subgroup matrices: f16 operands, f32 sums
//
// Formula   as in attention.wgsl: per block of 64 keys from position 0 m_b = max_j s, p = 2^((s - m_b) log2 e), l_b = sum_j p,
//           o_b = sum_j p[j] v[j]; blocks are merged in order. p enters l_b as it is, o_b rounded to f16. SPLIT leaves (m_b, l_b) and o_b of
//           each block to attention_paged_merge
// Source    Dao et al. 2022, arXiv:2205.14135; 2023, flash-decoding; Milakov & Gimelshein 2018, arXiv:1805.02867
// Shapes    q, out [N, H*D]   offsets [B+1]   packed: k, v [N, K*D], lse [N, H]   PAGED: k [blocks, K*D*64], v [blocks, K*64*D] of
//           KV_DTYPE (0 f32, 1 f16, 2 bf16), positions [N], table [B, maxBlocks]. A tile is `tile` tokens of a sequence times the `group`
//           query heads of one key/value head, at most BM rows (token, head). SPLIT: one token, sums [items, maxBlocks, group, D], norms
//           [items, maxBlocks, group] of (m, l)
// Saves     lse = ln sum_j e^s, read again by attention_backward; not written when PAGED
// Prologue  TILE_M, TILE_N, TILE_K: the adapter's shape; SG: size of subgroups; BM: rows of a tile, TILE_M for each subgroup; WN: 1; D;
//           PAGED; KV_DTYPE; SPLIT. ROLLED: for software adapters, whose compilers take minutes over what is written out
// Dispatch  BM / TILE_M * SG threads a tile, which are found as in attention.wgsl; SPLIT: `splits` workgroups an item, each with blocks of its own
// Numerics  q, k, v and p are rounded to f16, to nearest even. A score, scaled in f32, and an output of a block are chains of the matrix
//           unit over d and over the keys; l_b is a tree by key whose shape SG / TILE_M decides. Tiles, splits and other rows change no bit of a row.
//           A score that is NaN or infinite, or a key it sees whose v is none in f16, makes a row's l, and so its output, NaN; keys that a
//           row does not see reach no sum, whatever their bits
// Limits    D a multiple of 8, at most 128. No subgroup arithmetic here: a driver crashes on a module that has both

#include lib/attention_matrix
#include lib/sequence_at

const LOWEST: f32 = -1e38;

struct Params {
  slots: u32, sequences: u32, group: u32, groups: u32, groups_per_head: u32, tile: u32, // groups: H / group; groups_per_head share a k and v
  q_stride: u32, out_stride: u32, k_stride: u32, v_stride: u32, // in quads; in octets
  lse_stride: u32, table_stride: u32, // in elements
  width_k: u32, width_n: u32, score_k: u32, score_n: u32, // WIDTH and 64 in matrices: unknown to the compiler, for ROLLED
#if SPLIT
  items: u32, first_item: u32, splits: u32, max_blocks: u32, first_block: u32, blocks: u32,
#end
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
#if SPLIT
@group(0) @binding(7) var<storage, read_write> norms: array<vec2<f32>>;
#else
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;
#end
@group(0) @binding(8) var<uniform> p: Params;

const OUT_QUADS = (QUADS + LANES - 1u) / LANES; // quads of columns of a thread

const CACHED_LD = 9u; // octets of a row of 64 positions of a cached k, and one of padding
const STAGE = max(64u * LD, WIDTH * CACHED_LD); // q of the tile, then k or v of 64 keys
const SIZE = max(STAGE + BM * SCORE_LD, BM * OUT_LD);
var<workgroup> memory: array<vec4<u32>, SIZE>;
var<workgroup> shared_by_row: array<f32, T>;
var<workgroup> bad_keys: array<atomic<u32>, 2>; // a bit for each key whose v is no number in f16

fn octet_f32(low: vec4<u32>, high: vec4<u32>) -> vec4<u32> { return halves(bitcast<vec4<f32>>(low), bitcast<vec4<f32>>(high)); }
fn octet_bf16(w: vec4<u32>) -> vec4<u32> {
  let low = vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u);
  return octet_f32(low, vec4<u32>(w.z << 16u, w.z & 0xffff0000u, w.w << 16u, w.w & 0xffff0000u));
}
// Octets of a storage of KV_DTYPE, in f16
fn octet_k(at: u32) -> vec4<u32> {
#if KV_DTYPE == 0
  return octet_f32(k[2u * at], k[2u * at + 1u]);
#else
#if KV_DTYPE == 1
  return k[at];
#else
  return octet_bf16(k[at]);
#end
#end
}
fn octet_v(at: u32) -> vec4<u32> {
#if KV_DTYPE == 0
  return octet_f32(v[2u * at], v[2u * at + 1u]);
#else
#if KV_DTYPE == 1
  return v[at];
#else
  return octet_bf16(v[at]);
#end
#end
}

// 64 keys from octet `at` on: packed rows `stride` octets apart, the last one repeated; of the cache D rows of 64 positions
fn stage_keys(at: u32, stride: u32, last: u32, t: u32) {
#if PAGED
  for (var e = t; e < WIDTH * 8u; e += T) {
    var octet = vec4<u32>(0u);
    if (e < D * 8u) { octet = octet_k(at + e); }
    memory[e / 8u * CACHED_LD + e % 8u] = octet;
  }
#else
  for (var e = t; e < 64u * (WIDTH / 8u); e += T) {
    let key = e / (WIDTH / 8u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS) { octet = octet_k(at + min(key, last) * stride + column); }
    memory[key * LD + column] = octet;
  }
#end
}

// v of 64 keys, 0 behind the last one and where it is no number
fn stage_values(at: u32, stride: u32, last: u32, t: u32) {
  for (var e = t; e < 64u * (WIDTH / 8u); e += T) {
    let key = e / (WIDTH / 8u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS && key <= last) {
      octet = octet_v(at + key * stride + column);
      if (not_finite(octet)) {
        atomicOr(&bad_keys[key / 32u], 1u << (key % 32u));
        octet = vec4<u32>(0u);
      }
    }
    memory[key * LD + column] = octet;
  }
}

// Of the staged keys columns i of keys j, as they are multiplied by queries
fn keys_at(i: u32, j: u32) -> Right {
#if PAGED
  return subgroupMatrixLoad<Right, row_major>(&memory, i * TILE_K * CACHED_LD + j * TILE_N / 8u, CACHED_LD);
#else
  return turned_at(i, j);
#end
}

@compute @workgroup_size(T)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) t: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let index = wg.y * grid.x + wg.x;
#if SPLIT
  if (index >= p.items * p.splits) { return; }
  let item = index / p.splits;
  let split = index % p.splits;
  let first = (p.first_item + item) / p.groups;
  let part = (p.first_item + item) % p.groups;
  if (positions[first] == 0xffffffffu || first >= offsets[p.sequences]) { return; }
  let sequence = sequence_of(first);
  let start = offsets[sequence];
  let tokens = 1u;
#else
  let slot = index % p.slots;
  let part = index / p.slots;
  if (part >= p.groups) { return; }
  let sequence = sequence_at(slot, p.tile);
  let start = offsets[sequence];
  let end = offsets[sequence + 1u];
  let tiles = (end - start + p.tile - 1u) / p.tile;
  let number = slot - (start / p.tile + sequence);
  if (number >= tiles) { return; }
  // later tiles see more keys and go first
  let first = start + (tiles - 1u - number) * p.tile;
  let tokens = min(end, first + p.tile) - first;
#end
  let rows = tokens * p.group;
  let head = part / p.groups_per_head;
  let own = t / LANES; // this thread's row, of which it has every LANES-th quad of columns
  let lane = t % LANES;
  let sm = subgroup / WN * TILE_M;
  let sn = subgroup % WN;
  // rows beyond the tile repeat its last one and are not written
  let row = min(own, rows - 1u);
  let token = first + row / p.group;
#if PAGED
  let seen = positions[token] + 1u; // 0 where a row sees none
  var most = 0u;
  for (var n = first; n < first + tokens; n++) { most = max(most, positions[n] + 1u); }
#else
  let seen = token - start + 1u;
  let most = first + tokens - start;
#end

  // queries stay in matrices
  for (var e = t; e < BM * (WIDTH / 8u); e += T) {
    let query = min(e / (WIDTH / 8u), rows - 1u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS) {
      let at = (first + query / p.group) * p.q_stride + (part * p.group + query % p.group) * QUADS + 2u * column;
      octet = halves(q[at], q[at + 1u]);
    }
    memory[e / (WIDTH / 8u) * LD + column] = octet;
  }
  workgroupBarrier();
#include lib/matrix_left LEFT=queries

  var m = LOWEST;
  var l = 0.0;
#repeat i OUT_QUADS
  var o_${i} = vec4<f32>();
#end

#if SPLIT
  for (var block = split; block * 64u < most; block += p.splits) {
    let key = block * 64u;
#else
  for (var key = 0u; key < most; key += 64u) {
#end
    let last = min(64u, most - key) - 1u;
#if PAGED
#if SPLIT
    let cached = table[sequence * p.table_stride + block] - p.first_block;
    if (cached >= p.blocks) { continue; }
#else
    let cached = table[sequence * p.table_stride + key / 64u];
#end
    let k_at = cached * p.k_stride + head * D * 8u;
    let v_at = cached * p.v_stride + head * 64u * OCTETS;
    let k_stride = 0u;
    let v_stride = OCTETS;
#else
    let k_stride = p.k_stride;
    let v_stride = p.v_stride;
    let k_at = (start + key) * k_stride + head * OCTETS;
    let v_at = (start + key) * v_stride + head * OCTETS;
#end
    workgroupBarrier();
    stage_keys(k_at, k_stride, last, t);
    if (t < 2u) { atomicStore(&bad_keys[t], 0u); }
    workgroupBarrier();
#include lib/matrix_scores LEFT=queries RIGHT=keys_at
    workgroupBarrier();

    // weights of this block by its own maximum
    stage_values(v_at, v_stride, last, t);
    let scores = STAGE + own * SCORE_LD;
    var worst = vec4<u32>(0u);
    var high4 = vec4<f32>(LOWEST);
#repeat i KEY_QUADS
    let at_${i} = vec4<u32>(0u, 1u, 2u, 3u) + (key + 4u * (lane * KEY_QUADS + ${i}u));
    let on_${i} = at_${i} < vec4<u32>(seen);
    let w_${i} = select(vec4<f32>(LOWEST), bitcast<vec4<f32>>(memory[scores + lane * KEY_QUADS + ${i}u]) * p.scale, on_${i});
    worst = max(worst, bitcast<vec4<u32>>(w_${i}) & vec4<u32>(0x7fffffffu));
    high4 = max(high4, w_${i});
#end
    shared_by_row[t] = max(max(high4.x, high4.y), max(high4.z, high4.w));
    workgroupBarrier();
    var top = shared_by_row[own * LANES];
#repeat i LANES - 1
    top = max(top, shared_by_row[own * LANES + ${i + 1}u]);
#end
    workgroupBarrier();
    let flags = vec2<u32>(atomicLoad(&bad_keys[0]), atomicLoad(&bad_keys[1]));
    var bad = max(max(worst.x, worst.y), max(worst.z, worst.w)) >= 0x7f800000u;
    var sum4 = vec4<f32>();
#repeat i KEY_QUADS
    let p_${i} = select(vec4<f32>(), exp2((w_${i} - top) * LOG2E), on_${i});
    sum4 += p_${i};
    {
      let quad = 4u * (lane * KEY_QUADS + ${i}u);
      let four = vec4<u32>(select(flags.x, flags.y, quad >= 32u) >> (quad % 32u)) >> vec4<u32>(0u, 1u, 2u, 3u);
      bad = bad || any(on_${i} & ((four & vec4<u32>(1u)) != vec4<u32>(0u)));
    }
#end
#repeat i KEY_QUADS / 2
    memory[scores + lane * (KEY_QUADS / 2u) + ${i}u] = halves(p_${2 * i}, p_${2 * i + 1});
#end
    shared_by_row[t] = bitcast<f32>(bitcast<u32>((sum4.x + sum4.y) + (sum4.z + sum4.w)) | select(0u, NAN_BITS, bad));
    workgroupBarrier();
    var sum = shared_by_row[own * LANES];
#repeat i LANES - 1
    sum += shared_by_row[own * LANES + ${i + 1}u];
#end

    // this block's sums of v
#include lib/matrix_sums SUMS=sums
#include lib/matrix_add SUMS=sums
    workgroupBarrier();
#include lib/matrix_store SUMS=sums
    workgroupBarrier();
#if SPLIT
    let place = (item * p.max_blocks + block) * p.group + own;
    if (own < rows) {
      if (lane == 0u) { norms[place] = vec2<f32>(top, sum); }
      for (var c = lane; c < QUADS; c += LANES) { out[place * QUADS + c] = bitcast<vec4<f32>>(memory[own * OUT_LD + c]); }
    }
#else
    // merge
    if (key == 0u) {
      m = top;
      l = sum;
#repeat i OUT_QUADS
      o_${i} = bitcast<vec4<f32>>(memory[own * OUT_LD + min(${i}u * LANES + lane, QUADS - 1u)]);
#end
    } else if (key < seen) {
      let high = max(m, top);
      let a = exp2((m - high) * LOG2E);
      let c = exp2((top - high) * LOG2E);
      m = high;
      l = fma(l, a, sum * c);
#repeat i OUT_QUADS
      o_${i} = fma(o_${i}, vec4<f32>(a), bitcast<vec4<f32>>(memory[own * OUT_LD + min(${i}u * LANES + lane, QUADS - 1u)]) * c);
#end
    }
#end
  }

#if !SPLIT
  // a row that saw no key gets zeros
  let factor = select(1.0 / l, 0.0, l == 0.0);
  let to = token * p.out_stride + (part * p.group + row % p.group) * QUADS;
  if (own < rows) {
#repeat i OUT_QUADS
    if (${i}u * LANES + lane < QUADS) { out[to + ${i}u * LANES + lane] = o_${i} * factor; }
#end
#if !PAGED
    if (lane == 0u) { lse[token * p.lse_stride + part * p.group + row % p.group] = m + log(l); }
#end
  }
#end
}
