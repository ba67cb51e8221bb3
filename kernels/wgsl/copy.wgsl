// copy: y[to + i] = x[from + i] for i < rows
//
// Shapes    x [*, C], y [*, C], any dtypes
// Prologue  FROM, TO: dtype codes (0 f32, 1 f16, 2 bf16, 3 u32). Equal ones are copied as bits
// Dispatch  equal dtypes: one invocation per 16 bytes of the run; else one per 8 elements of a row
// Numerics  to nearest, ties to even, by bits: overflow to infinity, subnormals of f16 kept, NaN stays NaN
// Limits    the last invocation of a row also converts its padding, whatever lies there

#include lib/half

struct Params { items: u32, row_items: u32, x_start: u32, x_stride: u32, y_start: u32, y_stride: u32 } // starts and strides in 16 bytes

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> p: Params;

// Elements low..high of an octet: four 16-bit patterns of two words
fn patterns(w: vec2<u32>) -> vec4<u32> { return vec4<u32>(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u); }
fn words(h: vec4<u32>) -> vec2<u32> { return vec2<u32>(h.x | (h.y << 16u), h.z | (h.w << 16u)); }
fn widen(h: vec4<u32>) -> vec4<u32> { if (FROM == 1u) { return from_f16(h); } return h << vec4<u32>(16u); }
fn narrow(x: vec4<u32>) -> vec4<u32> { if (TO == 1u) { return to_f16(x); } return to_bf16(x); }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items) { return; }
  if (FROM == TO) { y[p.y_start + i] = x[p.x_start + i]; return; }

  let row = i / p.row_items;
  let octet = i - row * p.row_items;
  // an octet is one unit of a 16-bit row and two of an f32 row, whose last may have only the first
  let xi = p.x_start + row * p.x_stride + select(octet, 2u * octet, FROM == 0u);
  let yi = p.y_start + row * p.y_stride + select(octet, 2u * octet, TO == 0u);
  var low: vec4<u32>;
  var high = vec4<u32>(0u);
  if (FROM == 0u) {
    low = x[xi];
    if (2u * octet + 1u < p.x_stride) { high = x[xi + 1u]; }
  } else {
    let w = x[xi];
    low = widen(patterns(w.xy));
    high = widen(patterns(w.zw));
  }
  if (TO == 0u) {
    y[yi] = low;
    if (2u * octet + 1u < p.y_stride) { y[yi + 1u] = high; }
  } else {
    y[yi] = vec4<u32>(words(narrow(low)), words(narrow(high)));
  }
}
