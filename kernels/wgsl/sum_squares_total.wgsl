// sum_squares, second stage: acc[slot] = sum of the chunks' pairs
//
// Shapes    chunks: pairs (value, rest)   acc [1, slots]
// Dispatch  one workgroup; an invocation takes every 256th chunk, in order
// Numerics  pairs of f32, rounded once. The order depends on the number of chunks only
struct Params { chunks: u32, slot: u32, zero: u32 }

@group(0) @binding(0) var<storage, read> chunks: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> acc: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> sums: array<vec2<f32>, 256>;

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

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) t: u32) {
  var sum = vec2<f32>(0.0);
  for (var i = t; i < p.chunks; i += 256u) { sum = add_pairs(sum, chunks[i]); }
  sums[t] = sum;
  workgroupBarrier();
  if (t < 16u) {
    for (var k = 1u; k < 16u; k++) { sum = add_pairs(sum, sums[t + 16u * k]); }
    sums[t] = sum;
  }
  workgroupBarrier();
  if (t != 0u) { return; }
  for (var k = 1u; k < 16u; k++) { sum = add_pairs(sum, sums[k]); }
  acc[p.slot] = value_of(sum);
}
