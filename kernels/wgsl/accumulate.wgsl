// accumulate: y += scale * x
//
// Shapes    x [N, C] any float dtype, y [N, C] f32
// Prologue  X_DTYPE: 0 f32, 1 f16, 2 bf16
// Dispatch  one invocation per 16 bytes of x: 4 elements of f32, 8 of the 16-bit types
// Numerics  one multiply-add an element

#include lib/half

struct Params { items: u32, row_items: u32, x_start: u32, x_stride: u32, y_start: u32, y_stride: u32, scale: f32 } // starts and strides in 16 bytes

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> p: Params;

fn widen(w: vec2<u32>) -> vec4<f32> {
  let h = vec4<u32>(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u);
  if (X_DTYPE == 1u) { return bitcast<vec4<f32>>(from_f16(h)); }
  return bitcast<vec4<f32>>(h << vec4<u32>(16u));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items) { return; }
  let scale = vec4<f32>(p.scale);
  if (X_DTYPE == 0u) {
    y[p.y_start + i] = fma(scale, bitcast<vec4<f32>>(x[p.x_start + i]), y[p.y_start + i]);
    return;
  }
  let row = i / p.row_items;
  let octet = i - row * p.row_items;
  let w = x[p.x_start + row * p.x_stride + octet];
  let at = p.y_start + row * p.y_stride + 2u * octet;
  y[at] = fma(scale, widen(w.xy), y[at]);
  if (2u * octet + 1u < p.y_stride) { y[at + 1u] = fma(scale, widen(w.zw), y[at + 1u]); }
}
