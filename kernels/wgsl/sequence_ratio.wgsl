// sequence_ratio: y[n] = logProb[n] - m, m the mean of logProb - old over n's sequence: e^(logProb - y) = e^m, at each token the geometric mean of
//   its sequence's ratios
//
// Source    GSPO: Zheng et al. 2025, arXiv:2507.18071
// Shapes    logProb, old, y [1, N]   offsets [1, B+1]: tokens offsets[b] .. offsets[b+1] - 1 are sequence b
// Dispatch  one workgroup per sequence; an invocation takes every 64th token from the sequence's first on, then adds the sums of all, in order
// Numerics  differences and sums in pairs of f32 (value, rest); the division may cost 2.5 ulp of m. y is rounded once, so logProb - y gives m
//           back to half an ulp of y. Differences that are all 0 give y the bits of logProb. The order depends on the sequence's length only
// Limits    empty sequences are passed over; tokens of no sequence are not written. NaN stays in its sequence. At most 2^24 tokens a sequence

#include lib/pairs

struct Params { tokens: u32, sequences: u32, zero: u32 }

@group(0) @binding(0) var<storage, read> log_prob: array<f32>;
@group(0) @binding(1) var<storage, read> old_log_prob: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> parts: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let sequence = wg.y * grid.x + wg.x;
  if (sequence >= p.sequences) { return; }
  let start = offsets[sequence];
  let end = min(offsets[sequence + 1u], p.tokens);
  var own = vec2<f32>(0.0);
  for (var n = start + t; n < end; n += 64u) {
    own = add_pairs(own, add_pairs(vec2<f32>(log_prob[n], 0.0), vec2<f32>(-old_log_prob[n], 0.0)));
  }
  parts[t] = own;
  workgroupBarrier();
  var sum = parts[0];
  for (var k = 1u; k < 64u; k++) { sum = add_pairs(sum, parts[k]); }
  let total = value_of(sum);
  // a mean of 0 leaves all bits alone, those of numbers too small for a GPU's arithmetic as well
  if (total == 0.0) {
    for (var n = start + t; n < end; n += 64u) { y[n] = log_prob[n]; }
    return;
  }
  let mean = total / f32(end - start);
  for (var n = start + t; n < end; n += 64u) { y[n] = log_prob[n] - mean; }
}
