// round: y = x rounded to a storage type and back: what a cache of that type would return
//
// Shapes    x, y [N, C] f32
// Prologue  TO: 1 f16, 2 bf16
// Dispatch  one invocation per 4 elements
// Numerics  to nearest, ties to even, by bits as `copy`; beyond 65504 (f16) to infinity

#include lib/half

struct Params { units: u32, x_start: u32, y_start: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.units) { return; }
  let v = x[p.x_start + i];
  if (TO == 1u) { y[p.y_start + i] = from_f16(to_f16(v)); } else { y[p.y_start + i] = to_bf16(v) << vec4<u32>(16u); }
}
