// adamw_8bit: `adamw` with moments that are stored in 8 bits: 256 elements of a row share a scale, the largest magnitude among them
//
// Source    Dettmers et al. 2021, arXiv:2110.02861, sections 1.3 and 2: block-wise dynamic quantisation
//           rounding at random: Gupta et al. 2015, arXiv:1502.02551   Philox4x32-10: Salmon et al. 2011
// Shapes    grad, param [N, C] f32   m, v [N, ceil(C / 4)] u32, the code of column c in byte c mod 4 (lowest first)
//           scales [N, 2 ceil(C / 256)]: block b's of m at 2b, of v at 2b + 1   tables [3, 256] of src/optim/dynamic-map.ts
//           clip [1, 2] of clip_scale
// Formula   m = scale * signed[code], v = scale * unsigned[code]. A new magnitude x = |m| / scale or v / scale is at the place
//           max(last line, min(other lines)) among its numbers; floor(place + u) is the code's, u in (0, 1) random.
// Random    element (n, c) has word c mod 4 of philox(key, (c / 4, n, 0, 0)): u = (its low half + 1/2) / 65536 for m, its high half for v
// Dispatch  one workgroup of 64 per block, four elements an invocation; the rows of a dispatch start at `row`
// Numerics  f32; constants are combined in f64 on the host: keep = 1 - lr weightDecay, rate = -lr / correction1, root = 1 / sqrt(correction2).
//           The moments that this step uses are not yet rounded. A v that is not 0 never has the code of 0: a step divides by its root.
//           A block whose largest magnitude is below 2^-120 is stored as zeros: its inverse has no place in f32
// Limits    a clip[1] of NaN leaves param, m, v and scales as they were

#include lib/philox

struct Params {
  blocks: u32, row_blocks: u32, cols: u32, row_units: u32, row_words: u32, row_scales: u32, // of all rows; of one, its padding included
  grad_start: u32, param_start: u32, m_start: u32, v_start: u32, scales_start: u32, // in units of 4 floats, in words, in floats
  row: u32, key0: u32, key1: u32,
  beta1: f32, rest1: f32, beta2: f32, rest2: f32, keep: f32, rate: f32, root: f32, eps: f32,
}

@group(0) @binding(0) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<u32>;
@group(0) @binding(3) var<storage, read_write> v: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<f32>;
@group(0) @binding(5) var<storage, read> tables: array<f32>;
@group(0) @binding(6) var<storage, read> clip: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const THREADS: u32 = 64u;
const LINES: u32 = 15u;
const SIGNED: u32 = 0u;
const UNSIGNED: u32 = 256u;
const SIGNED_LINES: u32 = 512u;
const UNSIGNED_LINES: u32 = 544u;
const LEAST_SCALE: f32 = 7.52316384526264e-37; // 2^-120

// largest magnitudes of m and v, by invocation
var<workgroup> largest: array<vec2<f32>, THREADS>;

/** Philox4x32-10 of the counter (unit, row, 0, 0). */
/** The numbers that the bytes of a word stand for. */
fn numbers(table: u32, codes: u32) -> vec4<f32> {
  return vec4(
    tables[table + (codes & 255u)], tables[table + ((codes >> 8u) & 255u)],
    tables[table + ((codes >> 16u) & 255u)], tables[table + (codes >> 24u)],
  );
}

/** floor(place of x + u) among the numbers of a map, u by 16 random bits. */
fn place(lines: u32, x: vec4<f32>, random: vec4<u32>) -> vec4<u32> {
  var y = fma(vec4(tables[lines]), x, vec4(tables[lines + 1u]));
  for (var i = 1u; i < LINES; i++) { y = min(y, fma(vec4(tables[lines + 2u * i]), x, vec4(tables[lines + 2u * i + 1u]))); }
  y = max(y, fma(vec4(tables[lines + 2u * LINES]), x, vec4(tables[lines + 2u * LINES + 1u])));
  return vec4<u32>(y + fma(vec4<f32>(random), vec4(1.52587890625e-5), vec4(7.62939453125e-6)));
}

fn pack(codes: vec4<u32>) -> u32 { return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u); }

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let number = wg.y * grid.x + wg.x;
  let factor = clip[1];
  if (number >= p.blocks || (factor & 0x7fffffffu) > 0x7f800000u) { return; }
  let row = number / p.row_blocks;
  let block = number - row * p.row_blocks;
  let unit = block * THREADS + t;
  let column = vec4(4u * unit) + vec4(0u, 1u, 2u, 3u);
  let here = column.x < p.cols;
  let scale_at = p.scales_start + row * p.row_scales + 2u * block;
  let word = row * p.row_words + unit;
  var mi = vec4(0.0);
  var vi = vec4(0.0);
  if (here) {
    let at = row * p.row_units + unit;
    let g = grad[p.grad_start + at] * bitcast<f32>(factor);
    mi = fma(vec4<f32>(p.rest1), g, p.beta1 * (scales[scale_at] * numbers(SIGNED, m[p.m_start + word])));
    vi = fma(vec4<f32>(p.rest2), g * g, p.beta2 * (scales[scale_at + 1u] * numbers(UNSIGNED, v[p.v_start + word])));
    let step = mi / fma(sqrt(vi), vec4<f32>(p.root), vec4<f32>(p.eps));
    param[p.param_start + at] = fma(vec4<f32>(p.rate), step, p.keep * param[p.param_start + at]);
    // what lies behind a row is anything
    let inside = column < vec4(p.cols);
    mi = select(vec4(0.0), mi, inside);
    vi = select(vec4(0.0), vi, inside);
  }
  let size = abs(mi);
  largest[t] = vec2(max(max(size.x, size.y), max(size.z, size.w)), max(max(vi.x, vi.y), max(vi.z, vi.w)));
  storageBarrier(); // all have read the scales
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
    if (t < half) { largest[t] = max(largest[t], largest[t + half]); }
    workgroupBarrier();
  }
  let scale = select(vec2(0.0), largest[0], largest[0] >= vec2(LEAST_SCALE));
  if (t == 0u) {
    scales[scale_at] = scale.x;
    scales[scale_at + 1u] = scale.y;
  }
  if (!here) { return; }
  let inverse = select(vec2(0.0), 1.0 / scale, scale > vec2(0.0));
  let random = philox(vec2(p.key0, p.key1), vec4(unit, p.row + row, 0u, 0u));
  // there is no code for -1
  let k = place(SIGNED_LINES, size * inverse.x, random & vec4(0xffffu));
  let negative = mi < vec4(0.0);
  m[p.m_start + word] = pack(select(127u + min(k, vec4(128u)), 127u - min(k, vec4(127u)), negative));
  let code = min(place(UNSIGNED_LINES, vi * inverse.y, random >> vec4(16u)), vec4(255u));
  v[p.v_start + word] = pack(max(code, select(vec4(0u), vec4(1u), vi > vec4(0.0))));
}
