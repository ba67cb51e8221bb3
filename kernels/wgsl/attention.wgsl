// attention: causal attention of tiles of queries with grouped heads: out[n,h] = sum_{j <= n} softmax_j(scale q[n,h] . k[j,h/G]) v[j,h/G]
//
// Formula   per block of 64 keys from position 0: m_b = max_j s, p = 2^((s - m_b) log2 e), l_b = sum_j p, o_b = sum_j p[j] v[j]. The first
//           block is taken as it is; then m' = max(m, m_b), a = 2^((m - m') log2 e), c = 2^((m_b - m') log2 e),
//           l = l a + l_b c, o = o a + o_b c. At the end out = o / l, lse = m + ln l
// Source    Dao et al. 2022, arXiv:2205.14135; Milakov & Gimelshein 2018, arXiv:1805.02867; grouped queries: Ainslie et al. 2023, arXiv:2305.13245
// Shapes    q, out [N, H*D]   offsets [B+1]   packed: k, v [N, K*D], lse [N, H]   PAGED: k [blocks, K*D*64], v [blocks, K*64*D] of
//           KV_DTYPE (0 f32, 1 f16, 2 bf16), positions [N], table [B, maxBlocks]. A tile is `tile` tokens of a sequence times the `group`
//           query heads of one key/value head, at most 64 rows (token, head)
// Saves     lse = ln sum_j e^s, read again by attention_backward; not written when PAGED
// Dispatch  256 threads a tile: thread (ty, tx) scores rows ty + 16i against keys tx + 16j and sums columns 4tx.. and 64 + 4tx.. of out.
//           Slot offsets[b] / tile + b and following are the tiles of sequence b, so that slots <= N / tile + B and no list is made
// Numerics  f32. A score is one fma chain over d; an output of a block one fma chain over its visible keys in order; l_b the tree
//           below, by key: ((j, j+16), (j+32, j+48)), then neighbours. A row's bits depend on its own q and keys only: attention_paged
//           computes the same sequence of operations. A score that is NaN or infinite makes its row's l, and so its output, NaN
// Limits    D a multiple of 4, at most 128; group at most 64; workgroup memory 14.6 KB
//
// Prologue  const WIDE: bool (D above 64), PAGED: bool, KV_DTYPE: u32

#include lib/sequence_at

const LOG2E: f32 = 1.4426950408889634;
const LOWEST: f32 = -1e38;
const PITCH: u32 = 5u;           // vec4s from one row of a chunk of 16 columns to the next
const KEYS_AT: u32 = 64u * PITCH;

struct Params {
  slots: u32,
  sequences: u32,
  group: u32,
  groups: u32,         // groups of query heads: H / group
  groups_per_head: u32, // groups that share a key/value head
  tile: u32,
  q_stride: u32,       // strides in vec4s, of caches in vec4<u32>s
  k_stride: u32,
  v_stride: u32,
  out_stride: u32,
  lse_stride: u32,     // in elements
  table_stride: u32,
  quads: u32,          // D / 4
  sixteen: u32,        // 16, unknown to the compiler, which might else unroll loops and take seconds to do so
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

var<workgroup> stage: array<vec4<f32>, 640>;   // 16 columns of 64 queries and 64 keys; then sums; then 16 rows of v
var<workgroup> weights: array<vec4<f32>, 272>; // maxima; then p of 16 keys: [key * 17 + ty] holds rows ty, ty + 16, ty + 32, ty + 48

fn widen_low(w: vec4<u32>) -> vec4<f32> {
  if (KV_DTYPE == 1u) { return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)); }
  return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}

// 16 columns of keys: what thread t loads. Packed: columns 4(t % 4).. of key t / 4. Cached: four rows d of 4 (f32) or 8 (16 bit) positions.
struct Fetch { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn fetch_keys(base: u32, quad: u32, t: u32) -> Fetch {
  var f: Fetch;
  if (!PAGED) {
    f.a = k[base + min(quad + t % 4u, p.quads - 1u)];
    return f;
  }
  let lanes = select(8u, 16u, KV_DTYPE == 0u); // vec4<u32>s of a row of 64 positions
  if (t < 4u * lanes) {
    let at = base + 4u * min(quad + t / lanes, p.quads - 1u) * lanes + t % lanes;
    f.a = k[at]; f.b = k[at + lanes]; f.c = k[at + 2u * lanes]; f.d = k[at + 3u * lanes];
  }
  return f;
}

fn store_keys(f: Fetch, t: u32) {
  if (!PAGED) {
    stage[KEYS_AT + (t / 4u) * PITCH + t % 4u] = bitcast<vec4<f32>>(f.a);
    return;
  }
  if (KV_DTYPE == 0u) {
    if (t < 64u) {
      let a = bitcast<vec4<f32>>(f.a); let b = bitcast<vec4<f32>>(f.b); let c = bitcast<vec4<f32>>(f.c); let d = bitcast<vec4<f32>>(f.d);
      let at = KEYS_AT + (t % 16u) * 4u * PITCH + t / 16u;
      stage[at] = vec4<f32>(a.x, b.x, c.x, d.x);
      stage[at + PITCH] = vec4<f32>(a.y, b.y, c.y, d.y);
      stage[at + 2u * PITCH] = vec4<f32>(a.z, b.z, c.z, d.z);
      stage[at + 3u * PITCH] = vec4<f32>(a.w, b.w, c.w, d.w);
    }
    return;
  }
  if (t < 32u) {
    let at = KEYS_AT + (t % 8u) * 8u * PITCH + t / 8u;
    let a = widen_low(f.a); let b = widen_low(f.b); let c = widen_low(f.c); let d = widen_low(f.d);
    stage[at] = vec4<f32>(a.x, b.x, c.x, d.x);
    stage[at + PITCH] = vec4<f32>(a.y, b.y, c.y, d.y);
    stage[at + 2u * PITCH] = vec4<f32>(a.z, b.z, c.z, d.z);
    stage[at + 3u * PITCH] = vec4<f32>(a.w, b.w, c.w, d.w);
    let e = widen_low(f.a.zwzw); let g = widen_low(f.b.zwzw); let h = widen_low(f.c.zwzw); let i = widen_low(f.d.zwzw);
    stage[at + 4u * PITCH] = vec4<f32>(e.x, g.x, h.x, i.x);
    stage[at + 5u * PITCH] = vec4<f32>(e.y, g.y, h.y, i.y);
    stage[at + 6u * PITCH] = vec4<f32>(e.z, g.z, h.z, i.z);
    stage[at + 7u * PITCH] = vec4<f32>(e.w, g.w, h.w, i.w);
  }
}

// 16 rows of v: thread t loads columns t % 16 and 16 + t % 16 (in quads) of row t / 16, or 8 cached elements of 16 bits.
struct Values { a: vec4<u32>, b: vec4<u32> }

fn fetch_values(base: u32, row: u32, last: u32, t: u32) -> Values {
  var f: Values;
  if (PAGED && KV_DTYPE != 0u) {
    if (t < 8u * p.quads) { f.a = v[base + row * p.quads / 2u + t]; }
    return f;
  }
  let at = base + select(min(row + t / 16u, last), row + t / 16u, PAGED) * select(p.v_stride, p.quads, PAGED);
  if (t % 16u < p.quads) { f.a = v[at + t % 16u]; }
  if (WIDE && 16u + t % 16u < p.quads) { f.b = v[at + 16u + t % 16u]; }
  return f;
}

fn store_values(f: Values, t: u32) {
  if (PAGED && KV_DTYPE != 0u) {
    if (t < 8u * p.quads) {
      stage[2u * t] = widen_low(f.a);
      stage[2u * t + 1u] = widen_low(f.a.zwzw);
    }
    return;
  }
  let at = (t / 16u) * p.quads + t % 16u;
  if (t % 16u < p.quads) { stage[at] = bitcast<vec4<f32>>(f.a); }
  if (WIDE && 16u + t % 16u < p.quads) { stage[at + 16u] = bitcast<vec4<f32>>(f.b); }
}

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
  // later tiles see more keys and go first
  let first = start + (tiles - 1u - index) * p.tile;
  let tokens = min(end, first + p.tile) - first;
  let rows = tokens * p.group;
  let head = part / p.groups_per_head;

  let tx = t % 16u;
  let ty = t / 16u;
  // rows beyond the tile repeat its last one and are not written
  let row = min(vec4<u32>(ty, ty + 16u, ty + 32u, ty + 48u), vec4<u32>(rows - 1u));
  let token = first + row / p.group;
  var seen = token - start + 1u; // keys that each row sees: the first so many
  var least = first - start + 1u;
  var most = least + tokens - 1u;
  if (PAGED) {
    // 0xffffffff marks a row that sees none
    seen = vec4<u32>(positions[token.x], positions[token.y], positions[token.z], positions[token.w]) + 1u;
    least = 0xffffffffu;
    most = 0u;
    for (var n = first; n < first + tokens; n++) {
      least = min(least, positions[n] + 1u);
      most = max(most, positions[n] + 1u);
    }
  }
  let load_row = min(t / 4u, rows - 1u);
  let q_at = (first + load_row / p.group) * p.q_stride + (part * p.group + load_row % p.group) * p.quads;

  var m = vec4<f32>(LOWEST);
  var l = vec4<f32>();
  var o0 = vec4<f32>(); var o1 = vec4<f32>(); var o2 = vec4<f32>(); var o3 = vec4<f32>();
  var u0 = vec4<f32>(); var u1 = vec4<f32>(); var u2 = vec4<f32>(); var u3 = vec4<f32>();

  for (var key = 0u; key < most; key += 64u) {
    var k_at = (start + min(key + t / 4u, most - 1u)) * p.k_stride + head * p.quads;
    var v_at = start * p.v_stride + head * p.quads;
    var v_row = key;
    if (PAGED) {
      let block = table[sequence * p.table_stride + key / 64u];
      let each = head * p.quads * select(32u, 64u, KV_DTYPE == 0u);
      k_at = block * p.k_stride + each;
      v_at = block * p.v_stride + each;
      v_row = 0u;
    }

    // scores; columns are fetched one chunk ahead
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var next_q = vec4<f32>();
    var next_k: Fetch;
    for (var quad = 0u; quad < p.quads + 4u; quad += 4u) {
      if (quad > 0u) {
        workgroupBarrier();
        stage[(t / 4u) * PITCH + t % 4u] = next_q * p.scale;
        store_keys(next_k, t);
        workgroupBarrier();
      }
      next_q = q[q_at + min(quad + t % 4u, p.quads - 1u)];
      next_k = fetch_keys(k_at, quad, t);
      let width = select(min(4u, p.quads + 4u - quad), 0u, quad == 0u);
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

    // weights of this block by its own maximum
    let at = vec4<u32>(key + tx);
    let on0 = at < seen; let on1 = at + 16u < seen; let on2 = at + 32u < seen; let on3 = at + 48u < seen;
    s0 = select(vec4<f32>(LOWEST), s0, on0);
    s1 = select(vec4<f32>(LOWEST), s1, on1);
    s2 = select(vec4<f32>(LOWEST), s2, on2);
    s3 = select(vec4<f32>(LOWEST), s3, on3);
    let magnitude = vec4<u32>(0x7fffffffu);
    let worst = max(max(bitcast<vec4<u32>>(s0) & magnitude, bitcast<vec4<u32>>(s1) & magnitude), max(bitcast<vec4<u32>>(s2) & magnitude, bitcast<vec4<u32>>(s3) & magnitude));
    weights[tx * 17u + ty] = max(max(s0, s1), max(s2, s3));
    workgroupBarrier();
    var top = weights[ty];
    for (var i = 1u; i < p.sixteen; i++) { top = max(top, weights[i * 17u + ty]); }
    s0 = select(vec4<f32>(), exp2((s0 - top) * LOG2E), on0);
    s1 = select(vec4<f32>(), exp2((s1 - top) * LOG2E), on1);
    s2 = select(vec4<f32>(), exp2((s2 - top) * LOG2E), on2);
    s3 = select(vec4<f32>(), exp2((s3 - top) * LOG2E), on3);
    stage[tx * 17u + ty] = select((s0 + s1) + (s2 + s3), bitcast<vec4<f32>>(worst | vec4<u32>(0x7fc00000u)), worst >= vec4<u32>(0x7f800000u));
    workgroupBarrier();
    var sum = vec4<f32>();
    for (var i = ty; i < 17u * p.sixteen; i += 136u) {
      let left = (stage[i] + stage[i + 17u]) + (stage[i + 34u] + stage[i + 51u]);
      let right = (stage[i + 68u] + stage[i + 85u]) + (stage[i + 102u] + stage[i + 119u]);
      sum += left + right;
    }

    // this block's sums of v, 16 keys at a time
    var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>();
    var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>();
    let column = min(tx, p.quads - 1u);
    let column2 = min(tx + 16u, p.quads - 1u);
    var next_v: Values;
    for (var quarter = 0u; quarter < 5u && key + 16u * quarter < most + 16u; quarter++) {
      if (quarter > 0u) {
        workgroupBarrier();
        var mine = s0;
        if (quarter == 2u) { mine = s1; }
        if (quarter == 3u) { mine = s2; }
        if (quarter == 4u) { mine = s3; }
        weights[tx * 17u + ty] = mine;
        store_values(next_v, t);
        workgroupBarrier();
      }
      next_v = fetch_values(v_at, v_row + min(16u * quarter, 48u), most - 1u, t);
      let here = key + 16u * quarter - 16u;
      if (quarter > 0u && here + 16u <= least) {
        for (var j = 0u; j < p.sixteen; j++) {
          let w = weights[j * 17u + ty];
          let x = stage[j * p.quads + column];
          b0 = fma(vec4<f32>(w.x), x, b0); b1 = fma(vec4<f32>(w.y), x, b1); b2 = fma(vec4<f32>(w.z), x, b2); b3 = fma(vec4<f32>(w.w), x, b3);
          if (WIDE) {
            let y = stage[j * p.quads + column2];
            c0 = fma(vec4<f32>(w.x), y, c0); c1 = fma(vec4<f32>(w.y), y, c1); c2 = fma(vec4<f32>(w.z), y, c2); c3 = fma(vec4<f32>(w.w), y, c3);
          }
        }
      } else if (quarter > 0u) {
        // keys that a row does not see reach no sum, whatever their bits
        for (var j = 0u; j < min(p.sixteen, most - here); j++) {
          let w = weights[j * 17u + ty];
          let on = vec4<u32>(here + j) < seen;
          let x = stage[j * p.quads + column];
          b0 = select(b0, fma(vec4<f32>(w.x), x, b0), on.x);
          b1 = select(b1, fma(vec4<f32>(w.y), x, b1), on.y);
          b2 = select(b2, fma(vec4<f32>(w.z), x, b2), on.z);
          b3 = select(b3, fma(vec4<f32>(w.w), x, b3), on.w);
          if (WIDE) {
            let y = stage[j * p.quads + column2];
            c0 = select(c0, fma(vec4<f32>(w.x), y, c0), on.x);
            c1 = select(c1, fma(vec4<f32>(w.y), y, c1), on.y);
            c2 = select(c2, fma(vec4<f32>(w.z), y, c2), on.z);
            c3 = select(c3, fma(vec4<f32>(w.w), y, c3), on.w);
          }
        }
      }
    }

    // merge
    if (key == 0u) {
      m = top; l = sum;
      o0 = b0; o1 = b1; o2 = b2; o3 = b3;
      u0 = c0; u1 = c1; u2 = c2; u3 = c3;
    } else {
      let on = vec4<u32>(key) < seen;
      let high = max(m, top);
      let a = exp2((m - high) * LOG2E);
      let c = exp2((top - high) * LOG2E);
      m = select(m, high, on);
      l = select(l, fma(l, a, sum * c), on);
      o0 = select(o0, fma(o0, vec4<f32>(a.x), b0 * c.x), on.x);
      o1 = select(o1, fma(o1, vec4<f32>(a.y), b1 * c.y), on.y);
      o2 = select(o2, fma(o2, vec4<f32>(a.z), b2 * c.z), on.z);
      o3 = select(o3, fma(o3, vec4<f32>(a.w), b3 * c.w), on.w);
      if (WIDE) {
        u0 = select(u0, fma(u0, vec4<f32>(a.x), c0 * c.x), on.x);
        u1 = select(u1, fma(u1, vec4<f32>(a.y), c1 * c.y), on.y);
        u2 = select(u2, fma(u2, vec4<f32>(a.z), c2 * c.z), on.z);
        u3 = select(u3, fma(u3, vec4<f32>(a.w), c3 * c.w), on.w);
      }
    }
  }

  // a row that saw no key gets zeros
  let factor = select(1.0 / l, vec4<f32>(), l == vec4<f32>());
  let to = token * p.out_stride + (part * p.group + row % p.group) * p.quads;
  if (tx < p.quads) {
    if (ty < rows) { out[to.x + tx] = o0 * factor.x; }
    if (ty + 16u < rows) { out[to.y + tx] = o1 * factor.y; }
    if (ty + 32u < rows) { out[to.z + tx] = o2 * factor.z; }
    if (ty + 48u < rows) { out[to.w + tx] = o3 * factor.w; }
  }
  if (WIDE && tx + 16u < p.quads) {
    if (ty < rows) { out[to.x + 16u + tx] = u0 * factor.x; }
    if (ty + 16u < rows) { out[to.y + 16u + tx] = u1 * factor.y; }
    if (ty + 32u < rows) { out[to.z + 16u + tx] = u2 * factor.z; }
    if (ty + 48u < rows) { out[to.w + 16u + tx] = u3 * factor.w; }
  }
  if (!PAGED && tx == 0u) {
    let all = m + log(l);
    let at = token * p.lse_stride + part * p.group + row % p.group;
    if (ty < rows) { lse[at.x] = all.x; }
    if (ty + 16u < rows) { lse[at.y] = all.y; }
    if (ty + 32u < rows) { lse[at.z] = all.z; }
    if (ty + 48u < rows) { lse[at.w] = all.w; }
  }
}
