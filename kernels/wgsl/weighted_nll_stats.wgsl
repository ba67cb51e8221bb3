// weighted_nll, last stage: stats += (-scale sum of weight * logProb, sum of weights)
//
// Shapes    sums: 2 pairs (value, rest) per chunk   stats [1, 2]
// Dispatch  one workgroup; an invocation takes every 32nd chunk of one of the sums, in order
// Numerics  pairs, rounded once with the old value. The order depends on N only

#include lib/pairs

struct Params { chunks: u32, zero: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> parts: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) t: u32) {
  var sum = vec2<f32>(0.0);
  for (var c = t / 2u; c < p.chunks; c += 32u) { sum = add_pairs(sum, sums[2u * c + t % 2u]); }
  parts[t] = sum;
  workgroupBarrier();
  if (t >= 2u) { return; }
  for (var k = 1u; k < 32u; k++) { sum = add_pairs(sum, parts[2u * k + t]); }
  if (t == 0u) { sum = vec2<f32>(-p.scale * value_of(sum), 0.0); }
  stats[t] = value_of(add_pairs(vec2<f32>(stats[t], 0.0), sum));
}
