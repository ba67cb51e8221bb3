// sum_squares, second stage: acc[slot] = sum of the chunks' pairs
//
// Shapes    chunks: pairs (value, rest)   acc [1, slots]
// Dispatch  one workgroup; an invocation takes every 256th chunk, in order
// Numerics  pairs of f32, rounded once. The order depends on the number of chunks only

#include lib/pairs

struct Params { chunks: u32, slot: u32, zero: u32 }

@group(0) @binding(0) var<storage, read> chunks: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> acc: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> sums: array<vec2<f32>, 256>;

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
