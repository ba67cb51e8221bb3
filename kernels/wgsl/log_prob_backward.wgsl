// log_prob_backward: logits become their gradients, in place. With g = dLogProb, h = dEntropy, p = e^(z - lse):
//   dz[v] = (g (1[v = target] - p[v]) - h p[v] (z[v] - lse + entropy)) / temperature
//
// Shapes    logits [R, V]   the rest vectors, of which rows first.. belong to these logits; dEntropy may be absent
// Dispatch  [ceil(V / 1024), R] workgroups; an invocation takes 4 logits
// Numerics  -p (g + h entropy + h (z - lse)), plus g at the target. Products that feed a sum are explicit fma. Below e^-87 p is 0.
// Limits    a row whose g and h are 0 becomes 0, whatever its other values; otherwise NaN stays NaN

#include lib/exp_lanes

struct Params { vocabulary: u32, stride4: u32, first: u32, has_entropy: u32, temperature: f32 }

@group(0) @binding(0) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> entropies: array<f32>;
@group(0) @binding(3) var<storage, read> lses: array<f32>;
@group(0) @binding(4) var<storage, read> d_log_prob: array<f32>;
@group(0) @binding(5) var<storage, read> d_entropy: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x * 256u + lane) * 4u;
  if (column >= p.vocabulary) { return; }
  let n = p.first + group.y;
  let at = group.y * p.stride4 + column / 4u;
  let g = d_log_prob[n];
  var h = 0.0;
  if (p.has_entropy != 0u) { h = d_entropy[n]; }
  if (((bitcast<u32>(g) | bitcast<u32>(h)) & 0x7fffffffu) == 0u) {
    logits[at] = vec4(0.0);
    return;
  }
  var inverse = 1.0;
  if (p.temperature > 0.0) { inverse = 1.0 / p.temperature; }
  let distance = fma(logits[at], vec4(inverse), vec4(-lses[n]));
  let x = clamp(distance, vec4(-88.0), vec4(88.0));
  let constant = -fma(h, entropies[n], g);
  var dz = (exp_lanes(x) * fma(x, vec4(-h), vec4(constant))) * inverse;
  let hit = vec4(column, column + 1u, column + 2u, column + 3u) == vec4(targets[n]);
  dz += select(vec4(0.0), vec4(g * inverse), hit);
  // clamp and select need not keep a NaN
  let lost = (bitcast<vec4<u32>>(distance) & vec4(0x7fffffffu)) > vec4(0x7f800000u);
  logits[at] = bitcast<vec4<f32>>(select(bitcast<vec4<u32>>(dz), vec4(0x7fc00000u), lost));
}
