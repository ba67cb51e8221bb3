// attention_backward_key: dv[j] = sum_i p[i,j] dout[i], dk[j] = scale sum_i ds[i,j] q[i], with p = e^(s - lse), ds = p (dout . v - delta),
// for blocks of 64 keys
//
// Source    Dao et al. 2022, arXiv:2205.14135, algorithm 4; weights are recomputed from lse
// Shapes    q, dout [N, H*D]   k, v, dk, dv [N, K*D]   offsets [B+1]   stats [N * H] of (lse, delta)
// Dispatch  256 threads a block of keys of one key/value head; slot offsets[b] / 64 + b and following are the blocks of sequence b. The rows
//           (token, query head of the group) that see the block come in tiles of 64. Thread (ty, tx) has p and ds of keys ty + 16i, rows
//           tx + 16j, and sums columns 4tx.. and 64 + 4tx.. of dk and dv
// Numerics  f32. Scores and dout . v: one fma chain over d; dk, dv: one chain over the rows, tokens in order, heads in order within them, with
//           weight 0 where a row does not see a key
// Limits    D a multiple of 4, at most 128; workgroup memory 14.6 KB
//
// Prologue  const WIDE: bool (D above 64)

#include lib/sequence_at

const LOG2E: f32 = 1.4426950408889634;
const PITCH: u32 = 5u; // vec4s from one row of a chunk of 16 columns to the next
const ROWS_AT: u32 = 64u * PITCH;

struct Params {
  slots: u32,
  sequences: u32,
  heads: u32,
  group: u32, // query heads of a key/value head
  kv_heads: u32,
  q_stride: u32, // in vec4s
  k_stride: u32,
  v_stride: u32,
  dout_stride: u32,
  dk_stride: u32,
  dv_stride: u32,
  quads: u32, // D / 4
  sixteen: u32, // 16, unknown to the compiler, which might else unroll loops and take seconds to do so
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

var<workgroup> stage: array<vec4<f32>, 640>;   // 16 columns of 64 keys and 64 rows; then 16 rows of dout or q
var<workgroup> weights: array<vec4<f32>, 272>; // p or ds of 16 rows: [row * 17 + ty] holds keys ty, ty + 16, ty + 32, ty + 48

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let item = wg.y * grid.x + wg.x;
  let slot = item % p.slots;
  let head = item / p.slots;
  if (head >= p.kv_heads) { return; }
  let sequence = sequence_at(slot, 64u);
  let start = offsets[sequence];
  let end = offsets[sequence + 1u];
  let index = slot - (start / 64u + sequence);
  if (index >= (end - start + 63u) / 64u) { return; }
  let first = start + index * 64u; // token of the first key, and the first token that sees one
  let keys = min(64u, end - first);
  let rows = (end - first) * p.group;

  let tx = t % 16u;
  let ty = t / 16u;
  let key = vec4<u32>(ty, ty + 16u, ty + 32u, ty + 48u);
  let chunks = (p.quads + 3u) / 4u;
  let load_key = first + min(t / 4u, keys - 1u);
  let k_at = load_key * p.k_stride + head * p.quads;
  let v_at = load_key * p.v_stride + head * p.quads;
  let column1 = min(tx, p.quads - 1u);
  let column2 = min(tx + 16u, p.quads - 1u);

  var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>(); // dk, columns 4tx..
  var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>(); // dk, columns 64 + 4tx..
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>(); // dv
  var d0 = vec4<f32>(); var d1 = vec4<f32>(); var d2 = vec4<f32>(); var d3 = vec4<f32>();

  for (var tile = 0u; tile < rows; tile += 64u) {
    // rows beyond the last repeat it with weight 0
    let row = vec4<u32>(tile + tx, tile + tx + 16u, tile + tx + 32u, tile + tx + 48u);
    let some = min(row, vec4<u32>(rows - 1u));
    let since = some / p.group; // tokens after `first`
    let stat = (first + since) * p.heads + head * p.group + some % p.group;
    let stat0 = stats[stat.x]; let stat1 = stats[stat.y]; let stat2 = stats[stat.z]; let stat3 = stats[stat.w];
    let load_row = min(tile + t / 4u, rows - 1u);
    let load_token = first + load_row / p.group;
    let load_query = (head * p.group + load_row % p.group) * p.quads;
    let q_at = load_token * p.q_stride + load_query;
    let dout_at = load_token * p.dout_stride + load_query;

    // s, then dout . v; columns are fetched one chunk ahead
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var e0 = vec4<f32>(); var e1 = vec4<f32>(); var e2 = vec4<f32>(); var e3 = vec4<f32>();
    var next_a = vec4<f32>();
    var next_b = vec4<f32>();
    for (var step = 0u; step <= 2u * chunks; step++) {
      if (step > 0u) {
        workgroupBarrier();
        stage[(t / 4u) * PITCH + t % 4u] = next_a;
        stage[ROWS_AT + (t / 4u) * PITCH + t % 4u] = next_b;
        workgroupBarrier();
      }
      let second = step >= chunks;
      let column = min(4u * (step - select(0u, chunks, second)) + t % 4u, p.quads - 1u);
      if (second) {
        next_a = v[v_at + column];
        next_b = dout[dout_at + column];
      } else {
        next_a = k[k_at + column];
        next_b = q[q_at + column] * p.scale;
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
        let b0 = stage[ROWS_AT + tx * PITCH + c];
        let b1 = stage[ROWS_AT + (tx + 16u) * PITCH + c];
        let b2 = stage[ROWS_AT + (tx + 32u) * PITCH + c];
        let b3 = stage[ROWS_AT + (tx + 48u) * PITCH + c];
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

    let on0 = (key <= vec4<u32>(since.x)) & vec4<bool>(row.x < rows);
    let on1 = (key <= vec4<u32>(since.y)) & vec4<bool>(row.y < rows);
    let on2 = (key <= vec4<u32>(since.z)) & vec4<bool>(row.z < rows);
    let on3 = (key <= vec4<u32>(since.w)) & vec4<bool>(row.w < rows);
    let p0 = select(vec4<f32>(), exp2((e0 - stat0.x) * LOG2E), on0);
    let p1 = select(vec4<f32>(), exp2((e1 - stat1.x) * LOG2E), on1);
    let p2 = select(vec4<f32>(), exp2((e2 - stat2.x) * LOG2E), on2);
    let p3 = select(vec4<f32>(), exp2((e3 - stat3.x) * LOG2E), on3);
    let ds0 = select(vec4<f32>(), p0 * (s0 - stat0.y), on0);
    let ds1 = select(vec4<f32>(), p1 * (s1 - stat1.y), on1);
    let ds2 = select(vec4<f32>(), p2 * (s2 - stat2.y), on2);
    let ds3 = select(vec4<f32>(), p3 * (s3 - stat3.y), on3);

    for (var half = 0u; half < 8u && tile + 16u * (half / 2u) < rows; half++) {
      let quarter = half / 2u;
      let each = half % 2u == 0u; // p with dout, then ds with q
      let chunk_row = min(tile + 16u * quarter + ty, rows - 1u);
      let chunk_token = first + chunk_row / p.group;
      let chunk_query = (head * p.group + chunk_row % p.group) * p.quads;
      var left = vec4<f32>();
      var right = vec4<f32>();
      if (each) {
        let at = chunk_token * p.dout_stride + chunk_query;
        left = dout[at + column1];
        if (WIDE) { right = dout[at + column2]; }
      } else {
        let at = chunk_token * p.q_stride + chunk_query;
        left = q[at + column1];
        if (WIDE) { right = q[at + column2]; }
      }
      workgroupBarrier();
      var mine = select(ds0, p0, each);
      if (quarter == 1u) { mine = select(ds1, p1, each); }
      if (quarter == 2u) { mine = select(ds2, p2, each); }
      if (quarter == 3u) { mine = select(ds3, p3, each); }
      weights[tx * 17u + ty] = mine;
      if (tx < p.quads) { stage[ty * p.quads + tx] = left; }
      if (WIDE && tx + 16u < p.quads) { stage[ty * p.quads + tx + 16u] = right; }
      workgroupBarrier();
      if (each) {
        for (var r = 0u; r < p.sixteen; r++) {
          let w = weights[r * 17u + ty];
          let x = stage[r * p.quads + column1];
          c0 = fma(vec4<f32>(w.x), x, c0); c1 = fma(vec4<f32>(w.y), x, c1); c2 = fma(vec4<f32>(w.z), x, c2); c3 = fma(vec4<f32>(w.w), x, c3);
          if (WIDE) {
            let y = stage[r * p.quads + column2];
            d0 = fma(vec4<f32>(w.x), y, d0); d1 = fma(vec4<f32>(w.y), y, d1); d2 = fma(vec4<f32>(w.z), y, d2); d3 = fma(vec4<f32>(w.w), y, d3);
          }
        }
      } else {
        for (var r = 0u; r < p.sixteen; r++) {
          let w = weights[r * 17u + ty];
          let x = stage[r * p.quads + column1];
          a0 = fma(vec4<f32>(w.x), x, a0); a1 = fma(vec4<f32>(w.y), x, a1); a2 = fma(vec4<f32>(w.z), x, a2); a3 = fma(vec4<f32>(w.w), x, a3);
          if (WIDE) {
            let y = stage[r * p.quads + column2];
            b0 = fma(vec4<f32>(w.x), y, b0); b1 = fma(vec4<f32>(w.y), y, b1); b2 = fma(vec4<f32>(w.z), y, b2); b3 = fma(vec4<f32>(w.w), y, b3);
          }
        }
      }
    }
  }

  let to_k = (first + key) * p.dk_stride + head * p.quads;
  let to_v = (first + key) * p.dv_stride + head * p.quads;
  if (tx < p.quads) {
    if (key.x < keys) { dk[to_k.x + tx] = a0 * p.scale; dv[to_v.x + tx] = c0; }
    if (key.y < keys) { dk[to_k.y + tx] = a1 * p.scale; dv[to_v.y + tx] = c1; }
    if (key.z < keys) { dk[to_k.z + tx] = a2 * p.scale; dv[to_v.z + tx] = c2; }
    if (key.w < keys) { dk[to_k.w + tx] = a3 * p.scale; dv[to_v.w + tx] = c3; }
  }
  if (WIDE && tx + 16u < p.quads) {
    if (key.x < keys) { dk[to_k.x + 16u + tx] = b0 * p.scale; dv[to_v.x + 16u + tx] = d0; }
    if (key.y < keys) { dk[to_k.y + 16u + tx] = b1 * p.scale; dv[to_v.y + 16u + tx] = d1; }
    if (key.z < keys) { dk[to_k.z + 16u + tx] = b2 * p.scale; dv[to_v.z + 16u + tx] = d2; }
    if (key.w < keys) { dk[to_k.w + 16u + tx] = b3 * p.scale; dv[to_v.w + 16u + tx] = d3; }
  }
}
