// policy_loss, last stage: stats += the sums of all chunks
//
// Shapes    sums: SLOTS pairs (value, rest) per chunk, as policy_loss and policy_loss_entropy write them   stats [1, 9]
// Stats     += 0 scale (w loss - entropyCoef w entropy)   1 clipped below   2 clipped above   3 old - logProb (k1)   4 k3 to the reference
//           5 entropy   7 tokens   8 held by dualClip; 6 is the running maximum of |logProb - old|
// Dispatch  one workgroup; invocation (strip, slot) takes every STRIPS-th chunk, in order
// Numerics  pairs, rounded once with the old value. The order depends on N only

#include lib/pairs

struct Params { chunks: u32, zero: u32, scale: f32, entropy_coef: f32 }

@group(0) @binding(0) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

const SLOTS: u32 = 10u;
const STRIPS: u32 = 25u;
const LARGEST: u32 = 6u;
var<workgroup> parts: array<vec2<f32>, 250>; // STRIPS x SLOTS

fn combine(slot: u32, a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  // as integers, floats without sign are in order, with infinity and NaN above all others
  if (slot == LARGEST) { return vec2<f32>(bitcast<f32>(max(bitcast<u32>(a.x), bitcast<u32>(b.x))), 0.0); }
  return add_pairs(a, b);
}

fn total(slot: u32) -> vec2<f32> {
  var sum = parts[slot];
  for (var k = 1u; k < STRIPS; k++) { sum = combine(slot, sum, parts[k * SLOTS + slot]); }
  return sum;
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) t: u32) {
  if (t < STRIPS * SLOTS) {
    let slot = t % SLOTS;
    var sum = vec2<f32>(0.0);
    for (var c = t / SLOTS; c < p.chunks; c += STRIPS) { sum = combine(slot, sum, sums[c * SLOTS + slot]); }
    parts[t] = sum;
  }
  workgroupBarrier();
  if (t >= 9u) { return; }
  let old = stats[t];
  var sum = total(t);
  if (t == LARGEST) {
    let bits = bitcast<u32>(old);
    let nan = (bits & 0x7fffffffu) > 0x7f800000u;
    stats[t] = bitcast<f32>(max(bitcast<u32>(sum.x), select(bits & 0x7fffffffu, 0u, (bits >> 31u) == 1u && !nan)));
    return;
  }
  if (t == 0u) { sum = vec2<f32>(p.scale * (value_of(sum) - p.entropy_coef * value_of(total(9u))), 0.0); }
  stats[t] = value_of(add_pairs(vec2<f32>(old, 0.0), sum));
}
