// log_softmax: statistics of blocks of 16 THREADS logits z = logit / temperature; log_softmax_merge makes those of a row of them
//              m = max z;  s = sum e^(z - m);  t = sum e^(z - m) (z - m)
//
// Source    online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867
// Shapes    logits [R, V]   temperatures: one number per row, or none and p.temperature   parts [R, blocks]: m, bits of s, t, 1 / temperature
// Prologue  THREADS: invocations, 64 or 256 by V
// Dispatch  [blocks, R] workgroups; an invocation holds 16 logits, so they are read once
// Numerics  log_prob and sample both run this pipeline, so that a log-probability has the same bits in both: the order of summation
//           depends on V only, and both take the quotient 1 / temperature from here. A temperature that is not positive counts as 1.
//           Products that feed a sum are explicit fma. e^x is a polynomial, 0 below -87.
// Limits    -infinity has no weight; a block with NaN or +infinity has an s of NaN. m is +infinity
//           where a logit is, and -3.4028234e38 where all are -infinity or NaN.

#include lib/exp_lanes

struct Params { vocabulary: u32, stride4: u32, first_row: u32, first_temperature: u32, temperature_stride: u32, temperature: f32 }

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> temperatures: array<f32>;
@group(0) @binding(2) var<storage, read_write> parts: array<vec4<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

const BLOCK: u32 = 16u * THREADS;
const LOWEST: f32 = -3.4028234e38;
const NAN_BITS: u32 = 0x7fc00000u;

var<workgroup> tops: array<f32, THREADS>;
var<workgroup> sums: array<vec2<f32>, THREADS>;
var<workgroup> unusable: atomic<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  var temperature = p.temperature;
  if (p.temperature_stride != 0u) { temperature = temperatures[p.first_temperature + row * p.temperature_stride]; }
  var inverse = 1.0;
  if (temperature > 0.0) { inverse = 1.0 / temperature; }

  // what is no finite number, or beyond V, stays at LOWEST
  var own: array<vec4<f32>, 4>;
  var top4 = vec4(LOWEST);
  var unfit = false;
  if (lane == 0u) { atomicStore(&unusable, 0u); } // before the first barrier; raised behind it
  for (var i = 0u; i < 4u; i++) {
    let column = group.x * BLOCK + (i * THREADS + lane) * 4u;
    own[i] = vec4(LOWEST);
    if (column < p.vocabulary) {
      let logit = logits[(p.first_row + row) * p.stride4 + column / 4u];
      let inside = vec4(column, column + 1u, column + 2u, column + 3u) < vec4(p.vocabulary);
      let z = logit * inverse;
      let bits = bitcast<vec4<u32>>(z);
      let finite = (bits & vec4(0x7f800000u)) != vec4(0x7f800000u);
      if (any(inside & !finite & (bits != vec4(0xff800000u)))) { unfit = true; }
      let counts = inside & finite;
      own[i] = select(vec4(LOWEST), logit, counts);
      top4 = max(top4, select(vec4(LOWEST), z, inside & (finite | (bits == vec4(0x7f800000u)))));
    }
  }
  tops[lane] = max(max(top4.x, top4.y), max(top4.z, top4.w));
  workgroupBarrier();
  if (unfit) { atomicOr(&unusable, 1u); }
  if (lane < 16u) {
    var top = tops[lane];
    for (var j = 1u; j < THREADS / 16u; j++) { top = max(top, tops[lane + 16u * j]); }
    tops[lane] = top;
  }
  workgroupBarrier();
  var m = tops[0];
  for (var j = 1u; j < 16u; j++) { m = max(m, tops[j]); }

  var s4 = vec4(0.0);
  var t4 = vec4(0.0);
  for (var i = 0u; i < 4u; i++) {
    let counts = own[i] > vec4(LOWEST);
    let x = select(vec4(-88.0), max(fma(select(vec4(0.0), own[i], counts), vec4(inverse), vec4(-m)), vec4(-88.0)), counts);
    let e = exp_lanes(x);
    s4 += e;
    t4 = fma(e, x, t4);
  }
  sums[lane] = vec2((s4.x + s4.y) + (s4.z + s4.w), (t4.x + t4.y) + (t4.z + t4.w));
  workgroupBarrier();
  if (lane < 16u) {
    var sum = sums[lane];
    for (var j = 1u; j < THREADS / 16u; j++) { sum += sums[lane + 16u * j]; }
    sums[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = sums[0];
    for (var j = 1u; j < 16u; j++) { sum += sums[j]; }
    let s = select(bitcast<u32>(sum.x), NAN_BITS, atomicLoad(&unusable) != 0u);
    parts[row * grid.x + group.x] = vec4(bitcast<u32>(m), s, bitcast<u32>(sum.y), bitcast<u32>(inverse));
  }
}
