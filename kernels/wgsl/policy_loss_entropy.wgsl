// policy_loss, entropy stage: dEntropy[n] = -scale w entropyCoef, and the sums of entropy and of w entropy over tokens of weight w != 0
//
// Shapes    entropy, weight, d_entropy [1, N]   sums: slots 5 and 9 of policy_loss's
// Dispatch  one workgroup per chunk of CHUNK tokens, 4 an invocation
// Numerics  sums in pairs of f32 (value, rest)
// Limits    a token of weight 0 gets a gradient of 0 and adds to no sum, whatever its entropy

#include lib/pairs

struct Params { tokens: u32, zero: u32, slope: f32 } // slope = -scale entropyCoef

@group(0) @binding(0) var<storage, read> entropy: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> d_entropy: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(4) var<uniform> p: Params;

const CHUNK: u32 = 256u;
const SLOTS: u32 = 10u;
var<workgroup> parts: array<vec2<f32>, 128>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk * CHUNK >= p.tokens) { return; }
  var plain = vec2<f32>(0.0);
  var weighted = vec2<f32>(0.0);
  for (var k = 0u; k < CHUNK / 64u; k++) {
    let n = chunk * CHUNK + 64u * k + t;
    if (n >= p.tokens) { break; }
    let w = weight[n];
    if ((bitcast<u32>(w) & 0x7fffffffu) == 0u) { d_entropy[n] = 0.0; continue; }
    d_entropy[n] = p.slope * w;
    plain = add_pairs(plain, vec2<f32>(entropy[n], 0.0));
    weighted = add_pairs(weighted, vec2<f32>(w * entropy[n], 0.0));
  }
  parts[t] = plain;
  parts[64u + t] = weighted;
  workgroupBarrier();
  if (t >= 2u) { return; }
  var sum = parts[t * 64u];
  for (var k = 1u; k < 64u; k++) { sum = add_pairs(sum, parts[t * 64u + k]); }
  sums[chunk * SLOTS + select(5u, 9u, t == 1u)] = sum;
}
