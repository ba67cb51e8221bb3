// adamw_bf16: `adamw` with moments that are stored as bf16, rounded up or down at random, so that on average nothing is lost
//
// Source    Loshchilov & Hutter 2019, arXiv:1711.05101   rounding at random: Gupta et al. 2015, arXiv:1502.02551
//           Philox4x32-10: Salmon et al. 2011
// Shapes    grad, param [N, C] f32   m, v [N, C] bf16, two in a u32   clip [1, 2] of clip_scale
// Random    element (n, c) has word c mod 4 of philox(key, (c / 4, n, 0, 0)): its low half for m, its high half for v, of which (word half) /
//           65536 of a step between two neighbours is added before the bits below are cut off
// Dispatch  one invocation per 8 elements of a row; the rows of a dispatch start at `row`
// Numerics  f32; constants are combined in f64 on the host: keep = 1 - lr weightDecay, rate = -lr / correction1, root = 1 / sqrt(correction2).
//           The moments that this step uses are not yet rounded. A moment is rounded up with a probability of exactly what would be cut off
// Limits    a clip[1] of NaN leaves param, m and v as they were

#include lib/philox

struct Params {
  items: u32, row_items: u32, row_units: u32, grad_start: u32, param_start: u32, m_start: u32, v_start: u32, // starts in 16 bytes
  row: u32, key0: u32, key1: u32,
  beta1: f32, rest1: f32, beta2: f32, rest2: f32, keep: f32, rate: f32, root: f32, eps: f32,
}

@group(0) @binding(0) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> clip: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

/** Philox4x32-10 of the counter (unit, row, 0, 0). */
fn widen(w: vec2<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(vec4(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u)); }

// bf16 of x, with 16 random bits in each lane
fn narrow(x: vec4<f32>, random: vec4<u32>) -> vec2<u32> {
  let h = (bitcast<vec4<u32>>(x) + random) >> vec4(16u);
  return vec2(h.x | (h.y << 16u), h.z | (h.w << 16u));
}

/** One step of four elements, whose moments are old.xy and old.zw: their new ones. */
fn update(unit: u32, row: u32, old: vec4<u32>, factor: f32) -> vec4<u32> {
  let at = row * p.row_units + unit;
  let g = grad[p.grad_start + at] * factor;
  let mi = fma(vec4<f32>(p.rest1), g, p.beta1 * widen(old.xy));
  let vi = fma(vec4<f32>(p.rest2), g * g, p.beta2 * widen(old.zw));
  let step = mi / fma(sqrt(vi), vec4<f32>(p.root), vec4<f32>(p.eps));
  param[p.param_start + at] = fma(vec4<f32>(p.rate), step, p.keep * param[p.param_start + at]);
  let random = philox(vec2(p.key0, p.key1), vec4(unit, p.row + row, 0u, 0u));
  return vec4(narrow(mi, random & vec4(0xffffu)), narrow(vi, random >> vec4(16u)));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  let factor = clip[1];
  if (i >= p.items || (factor & 0x7fffffffu) > 0x7f800000u) { return; }
  let row = i / p.row_items;
  let octet = i - row * p.row_items;
  var mi = m[p.m_start + i];
  var vi = v[p.v_start + i];
  let low = update(2u * octet, row, vec4(mi.xy, vi.xy), bitcast<f32>(factor));
  mi = vec4(low.xy, mi.zw);
  vi = vec4(low.zw, vi.zw);
  if (2u * octet + 1u < p.row_units) {
    let high = update(2u * octet + 1u, row, vec4(mi.zw, vi.zw), bitcast<f32>(factor));
    mi = vec4(mi.xy, high.xy);
    vi = vec4(vi.xy, high.zw);
  }
  m[p.m_start + i] = mi;
  v[p.v_start + i] = vi;
}
