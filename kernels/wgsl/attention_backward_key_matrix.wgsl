// attention_backward_key_matrix: what attention_backward_key.wgsl computes, by subgroup matrices: f16 operands, f32 sums
//   dv[j] = sum_i p[i,j] dout[i], dk[j] = scale sum_i ds[i,j] q[i], with p = e^(s - lse), ds = p (dout . v - delta), for blocks of BM keys
//
// Source    Dao et al. 2022, arXiv:2205.14135, algorithm 4; weights are recomputed from lse
// Shapes    q, dout [N, H*D]   k, v, dk, dv [N, K*D]   offsets [B+1]   stats [N * H] of (lse, delta)
// Prologue  TILE_M, TILE_N, TILE_K: the adapter's shape; SG: size of subgroups; BM: keys of a block, TILE_M for WN subgroups, which share out
//           the rows of a tile and the columns of dk and dv; D. ROLLED: for software adapters
// Dispatch  BM / TILE_M * WN * SG threads a block of keys of one key/value head; slot offsets[b] / BM + b and following are the blocks of
//           sequence b. The rows (token, query head of the group) that see the block come in tiles of 64, tokens in order, heads in order
//           within them
// Numerics  q, k, v, dout, p and ds are rounded to f16. s, scaled in f32, dout . v, dk and dv are chains of the matrix unit over all rows. A
//           row whose q or dout is none in f16 makes those keys NaN that it sees
// Limits    D a multiple of 8, at most 128. No subgroup arithmetic here: a driver crashes on a module that has both

#include lib/attention_matrix
#include lib/sequence_at

struct Params {
  slots: u32, sequences: u32, heads: u32, group: u32, kv_heads: u32, // group: query heads of a key/value head
  q_stride: u32, k_stride: u32, v_stride: u32, dout_stride: u32, dk_stride: u32, dv_stride: u32, // in quads
  width_k: u32, width_n: u32, score_k: u32, score_n: u32, // WIDTH and 64 in matrices, of N / WN: unknown to the compiler, for ROLLED
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> p: Params;

const STAGE = 64u * LD; // q or dout of 64 rows; before, k and v of the block
const SIZE = max(STAGE + BM * SCORE_LD, BM * OUT_LD);
var<workgroup> memory: array<vec4<u32>, SIZE>;
var<workgroup> row_stats: array<vec2<f32>, 64>;
var<workgroup> bad_rows: array<atomic<u32>, 2>; // a bit for each row that is no number in f16

// The token and query head of a row, as an offset in quads from its token's first
fn place_of(row: u32, first: u32, head: u32) -> vec2<u32> { return vec2<u32>(first + row / p.group, (head * p.group + row % p.group) * QUADS); }

fn keep(r: u32, column: u32, octet: vec4<u32>) {
  var kept = octet;
  if (not_finite(octet)) {
    atomicOr(&bad_rows[r / 32u], 1u << (r % 32u));
    kept = vec4<u32>(0u);
  }
  memory[r * LD + column] = kept;
}
// q of 64 rows from `tile` on, 0 behind the last
fn stage_queries(tile: u32, rows: u32, first: u32, head: u32, t: u32) {
  for (var e = t; e < 64u * (WIDTH / 8u); e += T) {
    let r = e / (WIDTH / 8u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS && tile + r < rows) {
      let place = place_of(tile + r, first, head);
      let at = place.x * p.q_stride + place.y + 2u * column;
      octet = halves(q[at], q[at + 1u]);
    }
    keep(r, column, octet);
  }
}
fn stage_gradients(tile: u32, rows: u32, first: u32, head: u32, t: u32) {
  for (var e = t; e < 64u * (WIDTH / 8u); e += T) {
    let r = e / (WIDTH / 8u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS && tile + r < rows) {
      let place = place_of(tile + r, first, head);
      let at = place.x * p.dout_stride + place.y + 2u * column;
      octet = halves(dout[at], dout[at + 1u]);
    }
    keep(r, column, octet);
  }
}

@compute @workgroup_size(T)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) t: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let index = wg.y * grid.x + wg.x;
  let slot = index % p.slots;
  let head = index / p.slots;
  if (head >= p.kv_heads) { return; }
  let sequence = sequence_at(slot, BM);
  let start = offsets[sequence];
  let end = offsets[sequence + 1u];
  let number = slot - (start / BM + sequence);
  if (number >= (end - start + BM - 1u) / BM) { return; }
  let first = start + number * BM; // token of the first key, and the first token that sees one
  let keys = min(BM, end - first);
  let rows = (end - first) * p.group;
  let own = t / LANES; // this thread's key
  let lane = t % LANES;
  let sm = subgroup / WN * TILE_M;
  let sn = subgroup % WN;

  // k and v of the block stay in matrices
  for (var e = t; e < BM * (WIDTH / 8u); e += T) {
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS) {
      let at = (first + min(e / (WIDTH / 8u), keys - 1u)) * p.k_stride + head * QUADS + 2u * column;
      octet = halves(k[at], k[at + 1u]);
    }
    memory[e / (WIDTH / 8u) * LD + column] = octet;
  }
  workgroupBarrier();
#include lib/matrix_left LEFT=keys_left
  workgroupBarrier();
  for (var e = t; e < BM * (WIDTH / 8u); e += T) {
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS) {
      let at = (first + min(e / (WIDTH / 8u), keys - 1u)) * p.v_stride + head * QUADS + 2u * column;
      octet = halves(v[at], v[at + 1u]);
    }
    memory[e / (WIDTH / 8u) * LD + column] = octet;
  }
  workgroupBarrier();
#include lib/matrix_left LEFT=values_left
#include lib/matrix_sums SUMS=dk_sums
#include lib/matrix_sums SUMS=dv_sums

  let scores = STAGE + own * SCORE_LD;
  for (var tile = 0u; tile < rows; tile += 64u) {
    // s of keys by rows
    workgroupBarrier();
    if (t < 2u) { atomicStore(&bad_rows[t], 0u); }
    workgroupBarrier();
    for (var r = t; r < 64u; r += T) {
      let some = min(tile + r, rows - 1u);
      row_stats[r] = stats[(first + some / p.group) * p.heads + head * p.group + some % p.group];
    }
    stage_queries(tile, rows, first, head, t);
    workgroupBarrier();
#include lib/matrix_scores LEFT=keys_left RIGHT=turned_at
    workgroupBarrier();
    // weights, of rows that see this thread's key
#repeat i KEY_QUADS
    let row_${i} = vec4<u32>(0u, 1u, 2u, 3u) + (tile + 4u * (lane * KEY_QUADS + ${i}u));
    let on_${i} = (vec4<u32>(own) <= row_${i} / p.group) & (row_${i} < vec4<u32>(rows)) & vec4<bool>(own < keys);
    let at_${i} = 4u * (lane * KEY_QUADS + ${i}u);
    let shift_${i} = vec4<f32>(row_stats[at_${i}].x, row_stats[at_${i} + 1u].x, row_stats[at_${i} + 2u].x, row_stats[at_${i} + 3u].x);
    let delta_${i} = vec4<f32>(row_stats[at_${i}].y, row_stats[at_${i} + 1u].y, row_stats[at_${i} + 2u].y, row_stats[at_${i} + 3u].y);
    let s4_${i} = bitcast<vec4<f32>>(memory[scores + lane * KEY_QUADS + ${i}u]) * p.scale;
    let p_${i} = select(vec4<f32>(), exp2((s4_${i} - shift_${i}) * LOG2E), on_${i});
#end

    // dout . v, and dv
    stage_gradients(tile, rows, first, head, t);
    workgroupBarrier();
#include lib/matrix_scores LEFT=values_left RIGHT=turned_at
    workgroupBarrier();
    let flags = vec2<u32>(atomicLoad(&bad_rows[0]), atomicLoad(&bad_rows[1]));
#repeat i KEY_QUADS
    let four_${i} = vec4<u32>(select(flags.x, flags.y, at_${i} >= 32u) >> (at_${i} % 32u)) >> vec4<u32>(0u, 1u, 2u, 3u);
    let nan_${i} = (four_${i} & vec4<u32>(1u)) * NAN_BITS;
    let dp_${i} = bitcast<vec4<f32>>(memory[scores + lane * KEY_QUADS + ${i}u]) - delta_${i};
    let ds_${i} = select(vec4<f32>(), bitcast<vec4<f32>>(bitcast<vec4<u32>>(p_${i} * dp_${i}) | nan_${i}), on_${i});
    let pn_${i} = select(vec4<f32>(), bitcast<vec4<f32>>(bitcast<vec4<u32>>(p_${i}) | nan_${i}), on_${i});
#end
    workgroupBarrier();
#repeat i KEY_QUADS / 2
    memory[scores + lane * (KEY_QUADS / 2u) + ${i}u] = halves(pn_${2 * i}, pn_${2 * i + 1});
#end
    workgroupBarrier();
#include lib/matrix_add SUMS=dv_sums
    workgroupBarrier();

    // dk
#repeat i KEY_QUADS / 2
    memory[scores + lane * (KEY_QUADS / 2u) + ${i}u] = halves(ds_${2 * i}, ds_${2 * i + 1});
#end
    stage_queries(tile, rows, first, head, t);
    workgroupBarrier();
#include lib/matrix_add SUMS=dk_sums
  }

  workgroupBarrier();
#include lib/matrix_store SUMS=dk_sums
  workgroupBarrier();
  if (own < keys) {
    let to = (first + own) * p.dk_stride + head * QUADS;
    for (var c = lane; c < QUADS; c += LANES) { dk[to + c] = bitcast<vec4<f32>>(memory[own * OUT_LD + c]) * p.scale; }
  }
  workgroupBarrier();
#include lib/matrix_store SUMS=dv_sums
  workgroupBarrier();
  if (own < keys) {
    let to = (first + own) * p.dv_stride + head * QUADS;
    for (var c = lane; c < QUADS; c += LANES) { dv[to + c] = bitcast<vec4<f32>>(memory[own * OUT_LD + c]); }
  }
}
