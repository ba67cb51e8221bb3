// add: y = a + b
//
// Shapes    a, b, y [N, C] f32
// Dispatch  one invocation per 4 elements
struct Params { units: u32, a_start: u32, b_start: u32, y_start: u32 }

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i < p.units) { y[p.y_start + i] = a[p.a_start + i] + b[p.b_start + i]; }
}
