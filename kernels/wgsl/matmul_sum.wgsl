// matmul_sum: c[r, n] = (((old c[r, n] if accumulate, else 0) + part[0, r, n]) + part[1, r, n]) + ... + bias[n]
//
// Shapes    part [parts, rows, N] f32, rows of `part_stride` quads, `plane` quads from one part to the next; c [rows, N] f32; bias [1, N]
// Used by   matmul, for chunks of K that other workgroups summed; column_sum, for chunks of rows
// Dispatch  one invocation per quad of c, folded
// Numerics  parts are added in order. The last quad of a row may hold padding, from undefined values; it is stored into padding.

#include lib/bias_quad

struct Params {
  parts: u32, quads: u32, row_quads: u32, // quads of c in all, and of one row
  part_stride: u32, plane: u32, c_start: u32, c_stride: u32, // in quads
  bias_start: u32, bias_dtype: u32, accumulate: u32, // bias_start in elements; bias_dtype 3: none
}

@group(0) @binding(0) var<storage, read> part: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bias: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 64u + t;
  if (i >= p.quads) { return; }
  let row = i / p.row_quads;
  let q = i - row * p.row_quads;
  let at = p.c_start + row * p.c_stride + q;
  var total = vec4<f32>(0.0);
  if (p.accumulate != 0u) { total = c[at]; }
  var at_part = row * p.part_stride + q;
  for (var s = 0u; s < p.parts; s++) {
    total += part[at_part];
    at_part += p.plane;
  }
  if (p.bias_dtype != 3u) { total += bias_quad(4u * q); }
  c[at] = total;
}
