// adamw: with g = grad * clip[1]:   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,
//        param -= lr ((m / correction1) / (sqrt(v / correction2) + eps) + weightDecay param)
//
// Source    Loshchilov & Hutter 2019, arXiv:1711.05101
// Shapes    grad, param, m, v [N, C] f32   clip [1, 2] of clip_scale
// Dispatch  one invocation per 4 elements
// Numerics  f32; constants are combined in f64 on the host: keep = 1 - lr weightDecay, rate = -lr / correction1, root = 1 / sqrt(correction2)
// Limits    a clip[1] of NaN leaves param, m and v as they were
struct Params {
  units: u32, grad_start: u32, param_start: u32, m_start: u32, v_start: u32,
  beta1: f32, rest1: f32, beta2: f32, rest2: f32, keep: f32, rate: f32, root: f32, eps: f32,
}

@group(0) @binding(0) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> clip: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  let factor = clip[1];
  if (i >= p.units || (factor & 0x7fffffffu) > 0x7f800000u) { return; }
  let g = grad[p.grad_start + i] * bitcast<f32>(factor);
  let mi = fma(vec4<f32>(p.rest1), g, p.beta1 * m[p.m_start + i]);
  let vi = fma(vec4<f32>(p.rest2), g * g, p.beta2 * v[p.v_start + i]);
  m[p.m_start + i] = mi;
  v[p.v_start + i] = vi;
  let step = mi / fma(sqrt(vi), vec4<f32>(p.root), vec4<f32>(p.eps));
  param[p.param_start + i] = fma(vec4<f32>(p.rate), step, p.keep * param[p.param_start + i]);
}
