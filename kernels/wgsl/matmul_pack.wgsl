// matmul_pack: y = x rounded to f16, padded with zeros: an operand as matrix products in f16 read it
//
// Shapes    x: rows x cols of a storage of any dtype; y: rows_out x 8 * octets f16, dense
// Prologue  X_DTYPE: 0 f32, 1 f16, 2 bf16. HARDWARE: round by pack2x16float, as matmul_matrix does where it stages f32; else by bits
// Dispatch  one invocation per octet of y, folded
// Numerics  to nearest, ties to even; beyond 65504 to infinity

#include lib/half

struct Params {
  rows: u32, cols: u32, rows_out: u32, octets: u32,
  x_start: u32, x_stride: u32, // in quads
  y_start: u32,                // in octets
}

@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> p: Params;

// The quad of x that starts at column k, as four f16 in two words
fn quad(row: u32, k: u32) -> vec2<u32> {
  if (k >= p.cols) { return vec2<u32>(0u); }
  let i = p.x_start + row * p.x_stride + k / 4u;
  let inside = vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(p.cols);
  if (X_DTYPE == 1u) {
    let keep = select(vec4<u32>(0u), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), inside);
    return x[i] & vec2<u32>(keep.x | keep.y, keep.z | keep.w);
  }
  var v: vec4<u32>;
  if (X_DTYPE == 0u) {
    v = vec4<u32>(x[2u * i], x[2u * i + 1u]);
  } else {
    let w = x[i];
    v = vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u);
  }
  v = select(vec4<u32>(0u), v, inside);
  if (HARDWARE) {
    let f = bitcast<vec4<f32>>(v);
    return vec2<u32>(pack2x16float(f.xy), pack2x16float(f.zw));
  }
  let h = to_f16(v);
  return vec2<u32>(h.x | (h.y << 16u), h.z | (h.w << 16u));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.rows_out * p.octets) { return; }
  let row = i / p.octets;
  let k = (i - row * p.octets) * 8u;
  var value = vec4<u32>(0u);
  if (row < p.rows) { value = vec4<u32>(quad(row, k), quad(row, k + 4u)); }
  y[p.y_start + i] = value;
}
