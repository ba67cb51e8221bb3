// attention_backward_delta: stats[n,h] = (lse[n,h], dout[n,h] . out[n,h]), read by attention_backward_query and attention_backward_key
//
// Source    Dao et al. 2022, arXiv:2205.14135, algorithm 4
// Shapes    out, dout [N, H*D]   lse [N, H]   stats [N * H] of pairs, without padding
// Dispatch  a thread for each (token, head)
// Numerics  f32, one fma chain over d

struct Params {
  count: u32, // N * H
  heads: u32,
  out_stride: u32, // in vec4s
  dout_stride: u32,
  lse_stride: u32,
  quads: u32, // D / 4
}

@group(0) @binding(0) var<storage, read> out: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 128u + t;
  if (i >= p.count) { return; }
  let n = i / p.heads;
  let h = i % p.heads;
  let a = n * p.out_stride + h * p.quads;
  let b = n * p.dout_stride + h * p.quads;
  var sum = 0.0;
  for (var c = 0u; c < p.quads; c++) {
    let x = out[a + c];
    let y = dout[b + c];
    sum = fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, sum))));
  }
  stats[i] = vec2<f32>(lse[n * p.lse_stride + h], sum);
}
