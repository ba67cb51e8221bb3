// value_loss, last stage: stats += the sums of all chunks
//
// Shapes    sums: SLOTS pairs (value, rest) per chunk, as value_loss writes them   stats [1, 3]
// Stats     += 0 scale / 2 times slot 0   1 tokens held by clip   2 tokens
// Dispatch  one workgroup; invocation (strip, slot) takes every STRIPS-th chunk, in order
// Numerics  pairs, rounded once with the old value. The order depends on N only
struct Params { chunks: u32, zero: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

const SLOTS: u32 = 3u;
const STRIPS: u32 = 21u;
var<workgroup> parts: array<vec2<f32>, 63>; // STRIPS x SLOTS

// x, where no compiler can see through: many take (a + b) - a for b. p.zero is 0
fn sealed(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) | p.zero); }

// (value, rest) of a + b: the rest is what rounding took (Knuth's two-sum)
fn add_pairs(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let s = sealed(a.x + b.x);
  let c = sealed(s - a.x);
  return vec2<f32>(s, (a.x - (s - c)) + (b.x - c) + (a.y + b.y));
}

// the sum of a pair; once the value is infinite or NaN, its rest says nothing
fn value_of(a: vec2<f32>) -> f32 {
  return select(a.x + a.y, a.x, (bitcast<u32>(a.x) & 0x7fffffffu) >= 0x7f800000u);
}

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
