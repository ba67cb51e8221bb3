// weighted_nll, first stage: dLogProb[n] = -scale weights[n], and the sums of weights[n] * logProb[n] and of weights[n]
//
// Shapes    logProb, weights, dLogProb [1, N]   sums: 2 pairs (value, rest) per chunk
// Dispatch  one workgroup per chunk of CHUNK tokens, 4 an invocation
// Numerics  sums in pairs of f32, with the rest of each product where fma is fused
// Limits    a token of weight 0 gets a gradient of 0 and adds nothing, whatever its log-probability

#include lib/pairs

struct Params { tokens: u32, zero: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> log_prob: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> d_log_prob: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(4) var<uniform> p: Params;

const CHUNK: u32 = 256u;
var<workgroup> parts: array<vec2<f32>, 128>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk * CHUNK >= p.tokens) { return; }
  var loss = vec2<f32>(0.0);
  var weight = vec2<f32>(0.0);
  for (var k = 0u; k < CHUNK / 64u; k++) {
    let n = chunk * CHUNK + 64u * k + t;
    if (n >= p.tokens) { break; }
    let w = weights[n];
    if ((bitcast<u32>(w) & 0x7fffffffu) == 0u) { d_log_prob[n] = 0.0; continue; }
    d_log_prob[n] = -p.scale * w;
    let product = sealed(w * log_prob[n]);
    loss = add_pairs(loss, vec2<f32>(product, fma(w, log_prob[n], -product)));
    weight = add_pairs(weight, vec2<f32>(w, 0.0));
  }
  parts[t] = loss;
  parts[64u + t] = weight;
  workgroupBarrier();
  if (t >= 2u) { return; }
  var sum = parts[t * 64u];
  for (var k = 1u; k < 64u; k++) { sum = add_pairs(sum, parts[t * 64u + k]); }
  sums[2u * chunk + t] = sum;
}
