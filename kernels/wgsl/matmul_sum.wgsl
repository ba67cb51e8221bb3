// matmul_sum: c[r, n] = (((old c[r, n] if accumulate, else 0) + part[0, r, n]) + part[1, r, n]) + ... + bias[n]
//
// Shapes    part [parts, rows, N] f32, rows of `part_stride` quads, `plane` quads from one part to the next; c [rows, N] f32; bias [1, N].
//           Products that were computed together have their columns side by side in part, and a c and a bias each
// Prologue  MEMBERS: products that were computed together, 1 to 3
// Used by   matmul, for chunks of K that other workgroups summed; column_sum, for chunks of rows
// Dispatch  one invocation per quad of c, one c after the other, folded
// Numerics  parts are added in order. The last quad of a row may hold padding, from undefined values; it is stored into padding.

#include lib/bias_quad

struct Params {
  parts: u32, part_stride: u32, plane: u32, accumulate: u32, // strides and starts in quads
#repeat g MEMBERS
  quads_${g}: u32, row_quads_${g}: u32, part_start_${g}: u32, c_start_${g}: u32, c_stride_${g}: u32, // quads of c in all, and of one row
  bias_start_${g}: u32, bias_dtype_${g}: u32, // bias_start in elements; bias_dtype 3: none
#end
}

@group(0) @binding(0) var<storage, read> part: array<vec4<f32>>;
#repeat g MEMBERS
@group(0) @binding(${1 + g}) var<storage, read> bias${g}: array<u32>;
#end
#repeat g MEMBERS
@group(0) @binding(${1 + MEMBERS + g}) var<storage, read_write> c${g}: array<vec4<f32>>;
#end
@group(0) @binding(${1 + 2 * MEMBERS}) var<uniform> p: Params;

fn parts_of(first: u32, old: vec4<f32>) -> vec4<f32> {
  var total = old;
  var at = first;
  for (var s = 0u; s < p.parts; s++) {
    total += part[at];
    at += p.plane;
  }
  return total;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  var i = (wg.y * grid.x + wg.x) * 64u + t;
#repeat g MEMBERS
  if (i < p.quads_${g}) {
    let row = i / p.row_quads_${g};
    let q = i - row * p.row_quads_${g};
    let at = p.c_start_${g} + row * p.c_stride_${g} + q;
    var total = vec4<f32>(0.0);
    if (p.accumulate != 0u) { total = c${g}[at]; }
    total = parts_of(p.part_start_${g} + row * p.part_stride + q, total);
    if (p.bias_dtype_${g} != 3u) { total += bias_quad_${g}(4u * q); }
    c${g}[at] = total;
    return;
  }
  i -= p.quads_${g};
#end
}
