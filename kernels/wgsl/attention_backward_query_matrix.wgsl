// attention_backward_query_matrix: what attention_backward_query.wgsl computes, by subgroup matrices: f16 operands, f32 sums
//   dq[i] = scale sum_j ds[i,j] k[j], with p = e^(s - lse), ds = p (dout . v - delta), for tiles of queries
//
// Source    Dao et al. 2022, arXiv:2205.14135, algorithm 4; weights are recomputed from lse
// Shapes    q, dout, dq [N, H*D]   k, v [N, K*D]   offsets [B+1]   stats [N * H] of (lse, delta). A tile is `tile` tokens of a sequence times
//           the `group` query heads of one key/value head, at most BM rows (token, head)
// Prologue  TILE_M, TILE_N, TILE_K: the adapter's shape; SG: size of subgroups; BM: rows of a tile, TILE_M for each subgroup; WN: 1; D.
//           ROLLED: for software adapters
// Dispatch  BM / TILE_M * SG threads a tile, tiles found as in attention.wgsl
// Numerics  q, k, v, dout and ds are rounded to f16. s, scaled in f32, dout . v and dq are chains of the matrix unit. A key that is none
//           in f16 makes those rows NaN that see it
// Limits    D a multiple of 8, at most 128. No subgroup arithmetic here: a driver crashes on a module that has both

#include lib/attention_matrix
#include lib/sequence_at

struct Params {
  slots: u32, sequences: u32, heads: u32, group: u32, groups: u32, groups_per_head: u32, tile: u32,
  q_stride: u32, k_stride: u32, v_stride: u32, dout_stride: u32, dq_stride: u32, // in quads
  width_k: u32, width_n: u32, score_k: u32, score_n: u32, // WIDTH and 64 in matrices: unknown to the compiler, for ROLLED
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> dq: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> p: Params;

const STAGE = 64u * LD; // k or v of 64 keys; before, q and dout of the tile
const SIZE = max(STAGE + BM * SCORE_LD, BM * OUT_LD);
var<workgroup> memory: array<vec4<u32>, SIZE>;
var<workgroup> bad_keys: array<atomic<u32>, 2>; // a bit for each key that is no number in f16

// Eight columns of q and of dout of a row of the tile, in f16
fn octet_q(token: u32, query: u32, column: u32) -> vec4<u32> {
  let at = token * p.q_stride + query * QUADS + 2u * column;
  return halves(q[at], q[at + 1u]);
}
fn octet_dout(token: u32, query: u32, column: u32) -> vec4<u32> {
  let at = token * p.dout_stride + query * QUADS + 2u * column;
  return halves(dout[at], dout[at + 1u]);
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
  let rows = tokens * p.group;
  let head = part / p.groups_per_head;
  let own = t / LANES;
  let lane = t % LANES;
  let sm = subgroup / WN * TILE_M;
  let sn = subgroup % WN;
  // rows beyond the tile repeat its last one and are not written
  let row = min(own, rows - 1u);
  let token = first + row / p.group;
  let query = part * p.group + row % p.group;
  let seen = token - start + 1u;
  let most = first + tokens - start;
  let stat = stats[token * p.heads + query];

  // q and dout of the tile stay in matrices
  for (var e = t; e < BM * (WIDTH / 8u); e += T) {
    let r = min(e / (WIDTH / 8u), rows - 1u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS) { octet = octet_q(first + r / p.group, part * p.group + r % p.group, column); }
    memory[e / (WIDTH / 8u) * LD + column] = octet;
  }
  workgroupBarrier();
#include lib/matrix_left LEFT=queries
  workgroupBarrier();
  for (var e = t; e < BM * (WIDTH / 8u); e += T) {
    let r = min(e / (WIDTH / 8u), rows - 1u);
    let column = e % (WIDTH / 8u);
    var octet = vec4<u32>(0u);
    if (column < OCTETS) { octet = octet_dout(first + r / p.group, part * p.group + r % p.group, column); }
    memory[e / (WIDTH / 8u) * LD + column] = octet;
  }
  workgroupBarrier();
#include lib/matrix_left LEFT=gradients
#include lib/matrix_sums SUMS=sums

  for (var key = 0u; key < most; key += 64u) {
    let last = min(64u, most - key) - 1u;
    // dout . v
    workgroupBarrier();
    if (t < 2u) { atomicStore(&bad_keys[t], 0u); }
    for (var e = t; e < 64u * (WIDTH / 8u); e += T) {
      let column = e % (WIDTH / 8u);
      var octet = vec4<u32>(0u);
      if (column < OCTETS) {
        let at = (start + key + min(e / (WIDTH / 8u), last)) * p.v_stride + head * QUADS + 2u * column;
        octet = halves(v[at], v[at + 1u]);
      }
      memory[e / (WIDTH / 8u) * LD + column] = octet;
    }
    workgroupBarrier();
#include lib/matrix_scores LEFT=gradients RIGHT=turned_at
    workgroupBarrier();
    let scores = STAGE + own * SCORE_LD;
#repeat i KEY_QUADS
    let w_${i} = bitcast<vec4<f32>>(memory[scores + lane * KEY_QUADS + ${i}u]);
#end

    // s
    for (var e = t; e < 64u * (WIDTH / 8u); e += T) {
      let from_key = e / (WIDTH / 8u);
      let column = e % (WIDTH / 8u);
      var octet = vec4<u32>(0u);
      if (column < OCTETS && from_key <= last) {
        let at = (start + key + from_key) * p.k_stride + head * QUADS + 2u * column;
        octet = halves(k[at], k[at + 1u]);
        if (not_finite(octet)) {
          atomicOr(&bad_keys[from_key / 32u], 1u << (from_key % 32u));
          octet = vec4<u32>(0u);
        }
      }
      memory[from_key * LD + column] = octet;
    }
    workgroupBarrier();
#include lib/matrix_scores LEFT=queries RIGHT=turned_at
    workgroupBarrier();
    let flags = vec2<u32>(atomicLoad(&bad_keys[0]), atomicLoad(&bad_keys[1]));
#repeat i KEY_QUADS
    let quad_${i} = 4u * (lane * KEY_QUADS + ${i}u);
    let on_${i} = vec4<u32>(0u, 1u, 2u, 3u) + (key + quad_${i}) < vec4<u32>(seen);
    let s4_${i} = bitcast<vec4<f32>>(memory[scores + lane * KEY_QUADS + ${i}u]) * p.scale;
    let four_${i} = vec4<u32>(select(flags.x, flags.y, quad_${i} >= 32u) >> (quad_${i} % 32u)) >> vec4<u32>(0u, 1u, 2u, 3u);
    let ds_${i} = bitcast<vec4<u32>>(exp2((s4_${i} - stat.x) * LOG2E) * (w_${i} - stat.y)) | ((four_${i} & vec4<u32>(1u)) * NAN_BITS);
    let own_${i} = select(vec4<f32>(), bitcast<vec4<f32>>(ds_${i}), on_${i});
#end
    workgroupBarrier();
#repeat i KEY_QUADS / 2
    memory[scores + lane * (KEY_QUADS / 2u) + ${i}u] = halves(own_${2 * i}, own_${2 * i + 1});
#end
    workgroupBarrier();
#include lib/matrix_add SUMS=sums
  }

  workgroupBarrier();
#include lib/matrix_store SUMS=sums
  workgroupBarrier();
  if (own < rows) {
    let to = token * p.dq_stride + query * QUADS;
    for (var c = lane; c < QUADS; c += LANES) { dq[to + c] = bitcast<vec4<f32>>(memory[own * OUT_LD + c]) * p.scale; }
  }
}
