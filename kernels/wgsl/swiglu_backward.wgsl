// swiglu_backward: dup = dy g s,   dgate = dy up s (1 + g (1 - s)),   s = 1 / (1 + e^-g)
//
// Source    Shazeer 2020, arXiv:2002.05202
// Shapes    gate, up, dy, dgate, dup [N, F] f32
// Dispatch  one invocation per 4 elements
// Numerics  as swiglu
struct Params { units: u32, gate_start: u32, up_start: u32, dy_start: u32, dgate_start: u32, dup_start: u32 }

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dgate: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dup: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.units) { return; }
  let g = gate[p.gate_start + i];
  let d = dy[p.dy_start + i];
  let s = 1.0 / (1.0 + exp(clamp(-g, vec4<f32>(-87.3), vec4<f32>(88.3))));
  dup[p.dup_start + i] = d * (g * s);
  dgate[p.dgate_start + i] = d * up[p.up_start + i] * (s * fma(g, 1.0 - s, vec4<f32>(1.0)));
}
