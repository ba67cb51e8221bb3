// attention_backward_query: dq[i] = scale sum_j ds[i,j] k[j], with p = e^(s - lse), ds = p (dout . v - delta), for tiles of queries
//
// Source    Dao et al. 2022, arXiv:2205.14135, algorithm 4; weights are recomputed from lse
// Shapes    q, dout, dq [N, H*D]   k, v [N, K*D]   offsets [B+1]   stats [N * H] of (lse, delta). A tile is `tile` tokens of a sequence times
//           the `group` query heads of one key/value head, at most 64 rows (token, head)
// Dispatch  256 threads a tile, tiles found as in attention.wgsl. Thread (ty, tx) has s and dout . v of rows ty + 16i, keys tx + 16j, and
//           sums columns 4tx.. and 64 + 4tx.. of dq
// Numerics  f32. Scores and dout . v: one fma chain over d; dq: one chain over the keys from 0, with weight 0 for those that are not seen
// Limits    D a multiple of 4, at most 128; group at most 64; workgroup memory 14.6 KB
//
// Prologue  const WIDE: bool (D above 64)

#include lib/sequence_at

const LOG2E: f32 = 1.4426950408889634;
const PITCH: u32 = 5u; // vec4s from one row of a chunk of 16 columns to the next
const KEYS_AT: u32 = 64u * PITCH;

struct Params {
  slots: u32,
  sequences: u32,
  heads: u32,
  group: u32,
  groups: u32,
  groups_per_head: u32,
  tile: u32,
  q_stride: u32, // in vec4s
  k_stride: u32,
  v_stride: u32,
  dout_stride: u32,
  dq_stride: u32,
  quads: u32,  // D / 4
  sixteen: u32, // 16, unknown to the compiler, which might else unroll loops and take seconds to do so
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

var<workgroup> stage: array<vec4<f32>, 640>;   // 16 columns of 64 rows and 64 keys; then 16 rows of k
var<workgroup> weights: array<vec4<f32>, 272>; // ds of 16 keys: [key * 17 + ty] holds rows ty, ty + 16, ty + 32, ty + 48

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let item = wg.y * grid.x + wg.x;
  let slot = item % p.slots;
  let part = item / p.slots;
  if (part >= p.groups) { return; }
  let sequence = sequence_at(slot, p.tile);
  let start = offsets[sequence];
  let end = offsets[sequence + 1u];
  let tiles = (end - start + p.tile - 1u) / p.tile;
  let index = slot - (start / p.tile + sequence);
  if (index >= tiles) { return; }
  let first = start + (tiles - 1u - index) * p.tile;
  let tokens = min(end, first + p.tile) - first;
  let rows = tokens * p.group;
  let head = part / p.groups_per_head;

  let tx = t % 16u;
  let ty = t / 16u;
  // rows beyond the tile repeat its last one and are not written
  let row = min(vec4<u32>(ty, ty + 16u, ty + 32u, ty + 48u), vec4<u32>(rows - 1u));
  let token = first + row / p.group;
  let query = part * p.group + row % p.group;
  let seen = token - start + 1u;
  let most = first - start + tokens; // keys that the last token sees
  let stat = token * p.heads + query;
  let stat0 = stats[stat.x]; let stat1 = stats[stat.y]; let stat2 = stats[stat.z]; let stat3 = stats[stat.w];
  let shift = vec4<f32>(stat0.x, stat1.x, stat2.x, stat3.x);
  let delta = vec4<f32>(stat0.y, stat1.y, stat2.y, stat3.y);

  let chunks = (p.quads + 3u) / 4u;
  let load_row = min(t / 4u, rows - 1u);
  let load_token = first + load_row / p.group;
  let load_query = (part * p.group + load_row % p.group) * p.quads;
  let q_at = load_token * p.q_stride + load_query;
  let dout_at = load_token * p.dout_stride + load_query;

  var o0 = vec4<f32>(); var o1 = vec4<f32>(); var o2 = vec4<f32>(); var o3 = vec4<f32>();
  var u0 = vec4<f32>(); var u1 = vec4<f32>(); var u2 = vec4<f32>(); var u3 = vec4<f32>();

  for (var key = 0u; key < most; key += 64u) {
    let load_key = start + min(key + t / 4u, most - 1u);
    let k_at = load_key * p.k_stride + head * p.quads;
    let v_at = load_key * p.v_stride + head * p.quads;

    // s, then dout . v; columns are fetched one chunk ahead
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var e0 = vec4<f32>(); var e1 = vec4<f32>(); var e2 = vec4<f32>(); var e3 = vec4<f32>();
    var next_a = vec4<f32>();
    var next_b = vec4<f32>();
    for (var step = 0u; step <= 2u * chunks; step++) {
      if (step > 0u) {
        workgroupBarrier();
        stage[(t / 4u) * PITCH + t % 4u] = next_a;
        stage[KEYS_AT + (t / 4u) * PITCH + t % 4u] = next_b;
        workgroupBarrier();
      }
      let second = step >= chunks;
      let column = min(4u * (step - select(0u, chunks, second)) + t % 4u, p.quads - 1u);
      if (second) {
        next_a = dout[dout_at + column];
        next_b = v[v_at + column];
      } else {
        next_a = q[q_at + column] * p.scale;
        next_b = k[k_at + column];
      }
      if (step == chunks + 1u) {
        e0 = s0; e1 = s1; e2 = s2; e3 = s3;
        s0 = vec4<f32>(); s1 = vec4<f32>(); s2 = vec4<f32>(); s3 = vec4<f32>();
      }
      let done = 4u * (step - 1u - select(0u, chunks, step > chunks));
      let width = select(min(4u, p.quads - done), 0u, step == 0u);
      for (var c = 0u; c < width; c++) {
        let a0 = stage[ty * PITCH + c];
        let a1 = stage[(ty + 16u) * PITCH + c];
        let a2 = stage[(ty + 32u) * PITCH + c];
        let a3 = stage[(ty + 48u) * PITCH + c];
        let b0 = stage[KEYS_AT + tx * PITCH + c];
        let b1 = stage[KEYS_AT + (tx + 16u) * PITCH + c];
        let b2 = stage[KEYS_AT + (tx + 32u) * PITCH + c];
        let b3 = stage[KEYS_AT + (tx + 48u) * PITCH + c];
        let x = vec4<f32>(a0.x, a1.x, a2.x, a3.x);
        s0 = fma(x, vec4<f32>(b0.x), s0); s1 = fma(x, vec4<f32>(b1.x), s1); s2 = fma(x, vec4<f32>(b2.x), s2); s3 = fma(x, vec4<f32>(b3.x), s3);
        let y = vec4<f32>(a0.y, a1.y, a2.y, a3.y);
        s0 = fma(y, vec4<f32>(b0.y), s0); s1 = fma(y, vec4<f32>(b1.y), s1); s2 = fma(y, vec4<f32>(b2.y), s2); s3 = fma(y, vec4<f32>(b3.y), s3);
        let z = vec4<f32>(a0.z, a1.z, a2.z, a3.z);
        s0 = fma(z, vec4<f32>(b0.z), s0); s1 = fma(z, vec4<f32>(b1.z), s1); s2 = fma(z, vec4<f32>(b2.z), s2); s3 = fma(z, vec4<f32>(b3.z), s3);
        let w = vec4<f32>(a0.w, a1.w, a2.w, a3.w);
        s0 = fma(w, vec4<f32>(b0.w), s0); s1 = fma(w, vec4<f32>(b1.w), s1); s2 = fma(w, vec4<f32>(b2.w), s2); s3 = fma(w, vec4<f32>(b3.w), s3);
      }
    }

    let at = vec4<u32>(key + tx);
    let ds0 = select(vec4<f32>(), exp2((e0 - shift) * LOG2E) * (s0 - delta), at < seen);
    let ds1 = select(vec4<f32>(), exp2((e1 - shift) * LOG2E) * (s1 - delta), at + 16u < seen);
    let ds2 = select(vec4<f32>(), exp2((e2 - shift) * LOG2E) * (s2 - delta), at + 32u < seen);
    let ds3 = select(vec4<f32>(), exp2((e3 - shift) * LOG2E) * (s3 - delta), at + 48u < seen);

    for (var quarter = 0u; quarter < 4u && key + 16u * quarter < most; quarter++) {
      let here = key + 16u * quarter;
      let from_k = (start + min(here + ty, most - 1u)) * p.k_stride + head * p.quads;
      let left = k[from_k + min(tx, p.quads - 1u)];
      var right = vec4<f32>();
      if (WIDE) { right = k[from_k + min(tx + 16u, p.quads - 1u)]; }
      workgroupBarrier();
      var mine = ds0;
      if (quarter == 1u) { mine = ds1; }
      if (quarter == 2u) { mine = ds2; }
      if (quarter == 3u) { mine = ds3; }
      weights[tx * 17u + ty] = mine;
      if (tx < p.quads) { stage[ty * p.quads + tx] = left; }
      if (WIDE && tx + 16u < p.quads) { stage[ty * p.quads + tx + 16u] = right; }
      workgroupBarrier();
      let column1 = min(tx, p.quads - 1u);
      let column2 = min(tx + 16u, p.quads - 1u);
      for (var j = 0u; j < min(p.sixteen, most - here); j++) {
        let w = weights[j * 17u + ty];
        let x = stage[j * p.quads + column1];
        o0 = fma(vec4<f32>(w.x), x, o0); o1 = fma(vec4<f32>(w.y), x, o1); o2 = fma(vec4<f32>(w.z), x, o2); o3 = fma(vec4<f32>(w.w), x, o3);
        if (WIDE) {
          let y = stage[j * p.quads + column2];
          u0 = fma(vec4<f32>(w.x), y, u0); u1 = fma(vec4<f32>(w.y), y, u1); u2 = fma(vec4<f32>(w.z), y, u2); u3 = fma(vec4<f32>(w.w), y, u3);
        }
      }
    }
  }

  let to = token * p.dq_stride + query * p.quads;
  if (tx < p.quads) {
    if (ty < rows) { dq[to.x + tx] = o0 * p.scale; }
    if (ty + 16u < rows) { dq[to.y + tx] = o1 * p.scale; }
    if (ty + 32u < rows) { dq[to.z + tx] = o2 * p.scale; }
    if (ty + 48u < rows) { dq[to.w + tx] = o3 * p.scale; }
  }
  if (WIDE && tx + 16u < p.quads) {
    if (ty < rows) { dq[to.x + 16u + tx] = u0 * p.scale; }
    if (ty + 16u < rows) { dq[to.y + 16u + tx] = u1 * p.scale; }
    if (ty + 32u < rows) { dq[to.z + 16u + tx] = u2 * p.scale; }
    if (ty + 48u < rows) { dq[to.w + 16u + tx] = u3 * p.scale; }
  }
}
