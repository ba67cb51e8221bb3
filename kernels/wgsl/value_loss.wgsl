// value_loss, first stage: with c = clamp(value, old - clip, old + clip), a = value - return and b = c - return, per token of weight w != 0:
//   loss = max(a^2, b^2) / 2,   dValue = scale w a, and 0 where b^2 is the larger: c is a constant there.   clip 0: b = a
// value_loss_stats adds the sums to the stats.
//
// Source    Schulman et al. 2017, arXiv:1707.06347; the clipped form is that of OpenAI's baselines, ppo2
// Shapes    value, d_value [N, 1], rows of value_stride and d_value_stride   old, return, weight [1, N]
//           sums: SLOTS pairs (value, rest) per chunk of CHUNK tokens: 0 w max(a^2, b^2)   1 tokens whose b^2 is the larger   2 tokens
// Dispatch  one workgroup per chunk, 4 tokens an invocation
// Numerics  f32 a token, sums in pairs. |a| and |b| are compared, not their squares. NaN at a token that counts reaches the sums and its
//           gradient, of `old` only where clip is not 0: the tests for it look at bits, since clamp and comparisons may drop it
// Limits    a token of weight 0 gets a gradient of 0 and adds to no sum, whatever its other values

#include lib/pairs

struct Params { tokens: u32, zero: u32, value_stride: u32, d_value_stride: u32, clip: f32, scale: f32 }

@group(0) @binding(0) var<storage, read> value: array<f32>;
@group(0) @binding(1) var<storage, read> old_value: array<f32>;
@group(0) @binding(2) var<storage, read> returns: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_value: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(6) var<uniform> p: Params;

const CHUNK: u32 = 256u;
const SLOTS: u32 = 3u;
var<workgroup> parts: array<vec2<f32>, 192>; // SLOTS x 64

fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk * CHUNK >= p.tokens) { return; }
  var own: array<vec2<f32>, SLOTS>;
  for (var k = 0u; k < CHUNK / 64u; k++) {
    let n = chunk * CHUNK + 64u * k + t;
    if (n >= p.tokens) { break; }
    let w = weight[n];
    if ((bitcast<u32>(w) & 0x7fffffffu) == 0u) { d_value[n * p.d_value_stride] = 0.0; continue; }

    let v = value[n * p.value_stride];
    let a = v - returns[n];
    var b = a;
    if (p.clip != 0.0) {
      let old = old_value[n];
      b = select(clamp(v, old - p.clip, old + p.clip) - returns[n], old, is_nan(old));
    }
    let broken = is_nan(b);
    let clipped = abs(b) > abs(a) && !broken && !is_nan(a);
    let error = select(a, b, clipped || broken);
    d_value[n * p.d_value_stride] = p.scale * (w * select(error, 0.0, clipped));

    own[0] = add_pairs(own[0], vec2<f32>(w * (error * error), 0.0));
    own[1].x += select(0.0, 1.0, clipped);
    own[2].x += 1.0;
  }
  for (var s = 0u; s < SLOTS; s++) { parts[s * 64u + t] = own[s]; }
  workgroupBarrier();
  if (t >= SLOTS) { return; }
  var sum = parts[t * 64u];
  for (var k = 1u; k < 64u; k++) { sum = add_pairs(sum, parts[t * 64u + k]); }
  sums[chunk * SLOTS + t] = sum;
}
