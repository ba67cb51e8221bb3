// value_loss, last stage: stats += the sums of all chunks
//
// Shapes    sums: SLOTS pairs (value, rest) per chunk, as value_loss writes them   stats [1, 3]
// Stats     += 0 scale / 2 times slot 0   1 tokens held by clip   2 tokens
// Dispatch  one workgroup; invocation (strip, slot) takes every STRIPS-th chunk, in order
// Numerics  pairs, rounded once with the old value. The order depends on N only

#include lib/pairs

struct Params { chunks: u32, zero: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

const SLOTS: u32 = 3u;
const STRIPS: u32 = 21u;
var<workgroup> parts: array<vec2<f32>, 63>; // STRIPS x SLOTS

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) t: u32) {
  var sum = vec2<f32>(0.0);
  if (t < STRIPS * SLOTS) {
    for (var c = t / SLOTS; c < p.chunks; c += STRIPS) { sum = add_pairs(sum, sums[c * SLOTS + t % SLOTS]); }
    parts[t] = sum;
  }
  workgroupBarrier();
  if (t >= SLOTS) { return; }
  for (var k = 1u; k < STRIPS; k++) { sum = add_pairs(sum, parts[k * SLOTS + t]); }
  if (t == 0u) { sum = vec2<f32>(p.scale * (0.5 * value_of(sum)), 0.0); }
  stats[t] = value_of(add_pairs(vec2<f32>(stats[t], 0.0), sum));
}
