// fill: y = value
//
// Shapes    y [N, C] f32 or u32, all of its memory (padding too)
// Dispatch  one invocation per 16 bytes
// Numerics  exact: the value comes as its bits, so that NaN, infinities and -0 pass
struct Params { units: u32, y_start: u32, bits: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(1) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i < p.units) { y[p.y_start + i] = vec4<u32>(p.bits); }
}
