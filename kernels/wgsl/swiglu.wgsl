// swiglu: y = silu(gate) * up,   silu(g) = g / (1 + e^-g)
//
// Source    Shazeer 2020, arXiv:2002.05202
// Shapes    gate, up, y [N, F] f32
// Saves     gate and up
// Dispatch  one invocation per 4 elements
// Numerics  -g is clamped to [-87.3, 88.3], beyond which 1 / (1 + e^-g) is 1 or below 5e-39; NaN passes through g itself
struct Params { units: u32, gate_start: u32, up_start: u32, y_start: u32 }

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.units) { return; }
  let g = gate[p.gate_start + i];
  let e = exp(clamp(-g, vec4<f32>(-87.3), vec4<f32>(88.3)));
  y[p.y_start + i] = g / (1.0 + e) * up[p.up_start + i];
}
