// matmul: c[M, N] (= or +=) op(a)[M, K] op(b)[K, N] + bias[N], in f32 on any adapter
//
// Shapes    a [M, K], or [K, M] if TRANS_A; b [K, N], or [N, K] if TRANS_B; bias [1, N]; c [M, N] f32
// Prologue  A_DTYPE, B_DTYPE: 0 f32, 1 f16, 2 bf16. ROUND: operands are rounded to f16 as they are staged.
//           BM x BN: tile of a workgroup; TM x 4: results of an invocation; BK: depth staged at once, divides 256.
//           ROLLED: for software adapters, whose compilers take seconds: the deepest loop is kept from being unrolled, and one
//           module serves all dtypes
//           SPLIT: chunk sums go to c as [chunks, M, N] instead, for matmul_sum
// Dispatch  x, y: tiles, folded, from first_tile on; z: slices of `slice` chunks. BM / TM * BN / 4 invocations
// Order     (((old c or 0) + chunk 0) + chunk 1) + ... + bias; a chunk is 256 of K, summed from 0 in order by fma. Neither tile, split nor M changes it.
// Numerics  f32 throughout. What lies beyond K is staged as 0; rows and columns beyond M and N are computed from others and not
//           stored, but for the padding of c's last quad.
// Limits    starts and strides count quads of 4 elements; (BM + BN) * (BK + 4) * 4 bytes of workgroup memory

#include lib/bias_quad

struct Params {
  M: u32, N: u32, K: u32, tiles_m: u32, tiles_n: u32, slice: u32,
  first_tile: u32, end_tile: u32, // of this dispatch
  a_start: u32, a_stride: u32, b_start: u32, b_stride: u32, // in quads
  c_start: u32, c_stride: u32, plane: u32,                  // in quads; plane: from one chunk's sums to the next one's
  bias_start_0: u32, bias_dtype_0: u32, accumulate: u32,    // bias_start in elements; bias_dtype 3: none
  quads: u32, a_dtype: u32, b_dtype: u32,                   // BK / 4, A_DTYPE and B_DTYPE for ROLLED
}

@group(0) @binding(0) var<storage, read> a: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> bias0: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> p: Params;

const MEMBERS = 1u;
const CHUNK = 256u;
const GROUP = 8u; // tiles of M that share what they read of b while it is in the cache
const TX = BN / 4u;
const TY = BM / TM;
const T = TX * TY;
const BKQ = BK / 4u;
const LD = BKQ + 1u; // odd, so that 8 rows lie in different banks
// Quads that an invocation stages: of rows along K, or blocks of 4 along K by 4 across it
const A_REGS = select((BM * BKQ + T - 1u) / T, 4u * ((BM * BKQ / 4u + T - 1u) / T), TRANS_A);
const B_REGS = select((BN * BKQ + T - 1u) / T, 4u * ((BN * BKQ / 4u + T - 1u) / T), !TRANS_B);

// Rows of op(a) and columns of op(b), in quads along K; column 4 x + j lies at j * TX + x, so that neighbours read neighbours
var<workgroup> tile_a: array<vec4<f32>, BM * LD>;
var<workgroup> tile_b: array<vec4<f32>, BN * LD>;

// The f16 nearest to each element, ties to even. Below 2^-14, adding 0.5 rounds at 2^-24.
fn round_f16(v: vec4<f32>) -> vec4<f32> {
  let x = bitcast<vec4<u32>>(v);
  let m = x & vec4<u32>(0x7fffffffu);
  let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(min(m, vec4<u32>(0x38800000u))) + 0.5) - vec4<u32>(0x3f000000u);
  var r = (m + ((m >> vec4<u32>(13u)) & vec4<u32>(1u)) + vec4<u32>(0xfffu)) & vec4<u32>(0xffffe000u);
  r = select(r, vec4<u32>(0x7f800000u), m > vec4<u32>(0x477fefffu));
  r = select(r, m, m > vec4<u32>(0x7f800000u));
  r = select(r, bitcast<vec4<u32>>(vec4<f32>(small) * 5.9604644775390625e-8), m < vec4<u32>(0x38800000u));
  return bitcast<vec4<f32>>(r | (x & vec4<u32>(0x80000000u)));
}

fn widen(w: vec2<u32>, dtype: u32) -> vec4<f32> {
  if (dtype == 1u) { return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)); }
  return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
fn quad_a(i: u32) -> vec4<f32> {
  let dtype = select(A_DTYPE, p.a_dtype, ROLLED);
  var v: vec4<f32>;
  if (dtype == 0u) { v = bitcast<vec4<f32>>(vec4<u32>(a[2u * i], a[2u * i + 1u])); } else { v = widen(a[i], dtype); }
  if (ROUND && dtype != 1u) { return round_f16(v); }
  return v;
}
fn quad_b(i: u32) -> vec4<f32> {
  let dtype = select(B_DTYPE, p.b_dtype, ROLLED);
  var v: vec4<f32>;
  if (dtype == 0u) { v = bitcast<vec4<f32>>(vec4<u32>(b[2u * i], b[2u * i + 1u])); } else { v = widen(b[i], dtype); }
  if (ROUND && dtype != 1u) { return round_f16(v); }
  return v;
}
// Elements of a quad at k that lie before K
fn within(k: u32) -> vec4<bool> { return vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(p.K); }

// What an invocation stages
struct LoadedA {
#repeat i A_REGS
  r${i}: vec4<f32>,
#end
}
struct LoadedB {
#repeat i B_REGS
  r${i}: vec4<f32>,
#end
}

fn fetch_a(m0: u32, k0: u32, t: u32) -> LoadedA {
  var r: LoadedA;
#repeat i A_REGS
  {
#if TRANS_A
    let u = ${i / 4}u * T + t;
    let k = k0 + u / (BM / 4u) * 4u + ${i % 4}u;
    let column = min(m0 + u % (BM / 4u) * 4u, p.M - 1u) / 4u;
    r.r${i} = select(vec4<f32>(0.0), quad_a(p.a_start + min(k, p.K - 1u) * p.a_stride + column), k < p.K);
#else
    let u = ${i}u * T + t;
    let k = k0 + u % BKQ * 4u;
    let row = min(m0 + min(u / BKQ, BM - 1u), p.M - 1u);
    r.r${i} = select(vec4<f32>(0.0), quad_a(p.a_start + row * p.a_stride + min(k, p.K - 1u) / 4u), within(k));
#end
  }
#end
  return r;
}
fn fetch_b(n0: u32, k0: u32, t: u32) -> LoadedB {
  var r: LoadedB;
#repeat i B_REGS
  {
#if TRANS_B
    let u = ${i}u * T + t;
    let k = k0 + u % BKQ * 4u;
    let row = min(n0 + min(u / BKQ, BN - 1u), p.N - 1u);
    r.r${i} = select(vec4<f32>(0.0), quad_b(p.b_start + row * p.b_stride + min(k, p.K - 1u) / 4u), within(k));
#else
    let u = ${i / 4}u * T + t;
    let k = k0 + u / (BN / 4u) * 4u + ${i % 4}u;
    let column = min(n0 + u % (BN / 4u) * 4u, p.N - 1u) / 4u;
    r.r${i} = select(vec4<f32>(0.0), quad_b(p.b_start + min(k, p.K - 1u) * p.b_stride + column), k < p.K);
#end
  }
#end
  return r;
}
fn put_a(r: LoadedA, t: u32) {
#if TRANS_A
#repeat i A_REGS / 4
  {
    let u = ${i}u * T + t;
    if (u < BM * BKQ / 4u) {
      let rows = transpose(mat4x4<f32>(r.r${4 * i}, r.r${4 * i + 1}, r.r${4 * i + 2}, r.r${4 * i + 3}));
      let at = u % (BM / 4u) * 4u * LD + u / (BM / 4u);
      tile_a[at] = rows[0]; tile_a[at + LD] = rows[1]; tile_a[at + 2u * LD] = rows[2]; tile_a[at + 3u * LD] = rows[3];
    }
  }
#end
#else
#repeat i A_REGS
  {
    let u = ${i}u * T + t;
    if (u < BM * BKQ) { tile_a[u / BKQ * LD + u % BKQ] = r.r${i}; }
  }
#end
#end
}
fn put_b(r: LoadedB, t: u32) {
#if TRANS_B
#repeat i B_REGS
  {
    let u = ${i}u * T + t;
    if (u < BN * BKQ) { tile_b[(u / BKQ % 4u * TX + u / BKQ / 4u) * LD + u % BKQ] = r.r${i}; }
  }
#end
#else
#repeat i B_REGS / 4
  {
    let u = ${i}u * T + t;
    if (u < BN * BKQ / 4u) {
      let rows = transpose(mat4x4<f32>(r.r${4 * i}, r.r${4 * i + 1}, r.r${4 * i + 2}, r.r${4 * i + 3}));
      let at = u % TX * LD + u / TX;
      tile_b[at] = rows[0]; tile_b[at + TX * LD] = rows[1]; tile_b[at + 2u * TX * LD] = rows[2]; tile_b[at + 3u * TX * LD] = rows[3];
    }
  }
#end
#end
}

@compute @workgroup_size(T)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let tile = p.first_tile + wg.y * grid.x + wg.x;
  if (tile >= p.end_tile) { return; }
  let group = tile / (GROUP * p.tiles_n);
  let high = min(GROUP, p.tiles_m - group * GROUP);
  let in_group = tile - group * GROUP * p.tiles_n;
  let m0 = (group * GROUP + in_group % high) * BM;
  let n0 = in_group / high * BN;
  let tx = t % TX;
  let ty = t / TX;
  // row i of this invocation is m0 + ty + i * TY; its columns are n0 + 4 tx and following
  let n = n0 + 4u * tx;
  let c_base = p.c_start + (m0 + ty) * p.c_stride + n / 4u;

#repeat i TM
  var sum_${i} = vec4<f32>();
#end
#if !SPLIT
#repeat i TM
  var total_${i} = vec4<f32>();
#end
  if (p.accumulate != 0u && n < p.N) {
#repeat i TM
    if (m0 + ty + ${i}u * TY < p.M) { total_${i} = c[c_base + ${i}u * TY * p.c_stride]; }
#end
  }
#end

  let k_first = wg.z * p.slice * CHUNK;
  let k_end = min(p.K, k_first + p.slice * CHUNK);
  let steps = (k_end - k_first + BK - 1u) / BK;
  let quads = select(BKQ, p.quads, ROLLED);
  var from_a: LoadedA;
  var from_b: LoadedB;
  // In step s the tiles at s are on their way while those at s - 1 are computed.
  for (var s = 0u; s <= steps; s++) {
    if (s > 0u) {
      workgroupBarrier();
      put_a(from_a, t);
      put_b(from_b, t);
      workgroupBarrier();
    }
    if (s < steps) {
      from_a = fetch_a(m0, k_first + s * BK, t);
      from_b = fetch_b(n0, k_first + s * BK, t);
    }
    if (s == 0u) { continue; }
    for (var q = 0u; q < quads; q++) {
      let bq = transpose(mat4x4<f32>(
        tile_b[tx * LD + q], tile_b[(tx + TX) * LD + q], tile_b[(tx + 2u * TX) * LD + q], tile_b[(tx + 3u * TX) * LD + q]));
#repeat i TM
      {
        let aq = tile_a[(ty + ${i}u * TY) * LD + q];
        sum_${i} = fma(vec4<f32>(aq.w), bq[3], fma(vec4<f32>(aq.z), bq[2], fma(vec4<f32>(aq.y), bq[1], fma(vec4<f32>(aq.x), bq[0], sum_${i}))));
      }
#end
    }
    if (s % (CHUNK / BK) != 0u && s < steps) { continue; }
#if SPLIT
    let at = c_base + (wg.z * p.slice + (s - 1u) / (CHUNK / BK)) * p.plane;
#end
#repeat i TM
#if SPLIT
    if (m0 + ty + ${i}u * TY < p.M && n < p.N) { c[at + ${i}u * TY * p.c_stride] = sum_${i}; }
#else
    total_${i} += sum_${i};
#end
    sum_${i} = vec4<f32>();
#end
  }
#if !SPLIT
  if (n >= p.N) { return; }

  var add = vec4<f32>();
  if (p.bias_dtype_0 != 3u) { add = bias_quad_0(n); }
#repeat i TM
  if (m0 + ty + ${i}u * TY < p.M) { c[c_base + ${i}u * TY * p.c_stride] = select(total_${i}, total_${i} + add, p.bias_dtype_0 != 3u); }
#end
#end
}
