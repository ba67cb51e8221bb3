// log_softmax_merge: from the statistics of a row's blocks to those of the row
//                    lse = m + ln s;  entropy = lse - sum p z = ln s - t / s
//
// Shapes    parts [R, blocks], as log_softmax leaves them   stats [R]: m, bits of lse, bits of the entropy, 1 / temperature
// Dispatch  one workgroup per row
// Numerics  a block is moved to the row's maximum: e^(z - m') (z - m') = f e^(z - m) ((z - m) + d), d = m - m', f = e^d. The order of
//           summation depends on the number of blocks only. ln is a polynomial, within 1 ulp.
// Limits    lse and entropy are NaN where a block's s is, or no logit is finite
struct Params { blocks: u32 }

@group(0) @binding(0) var<storage, read> parts: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> stats: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> p: Params;

const THREADS: u32 = 32u;
const LOWEST: f32 = -3.4028234e38;
const NAN_BITS: u32 = 0x7fc00000u;

var<workgroup> tops: array<f32, THREADS>;
var<workgroup> sums: array<vec2<f32>, THREADS>;
var<workgroup> unusable: atomic<u32>;

fn is_nan(bits: u32) -> bool { return (bits & 0x7fffffffu) > 0x7f800000u; }

// as in log_softmax
fn exp_one(x: f32) -> f32 {
  let n = round(x * 1.4426950408889634);
  let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, x));
  var y = fma(1.9875691500e-4, r, 1.3981999507e-3);
  y = fma(y, r, 8.3334519073e-3);
  y = fma(y, r, 4.1665795894e-2);
  y = fma(y, r, 1.6666665459e-1);
  y = fma(y, r, 5.0000001201e-1);
  y = fma(y, r * r, r) + 1.0;
  return bitcast<f32>(bitcast<i32>(y) + (i32(n) << 23u));
}

// ln x of a normal x > 0: the exponent times ln 2 and a polynomial on [sqrt(1/2), sqrt 2] (Cephes logf)
fn ln(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  var n = f32(i32(bits >> 23u) - 126);
  var f = bitcast<f32>((bits & 0x007fffffu) | 0x3f000000u);
  if (f < 0.70710678) { n -= 1.0; f += f; }
  f -= 1.0;
  var y = fma(7.0376836292e-2, f, -1.1514610310e-1);
  y = fma(y, f, 1.1676998740e-1);
  y = fma(y, f, -1.2420140846e-1);
  y = fma(y, f, 1.4249322787e-1);
  y = fma(y, f, -1.6668057665e-1);
  y = fma(y, f, 2.0000714765e-1);
  y = fma(y, f, -2.4999993993e-1);
  y = fma(y, f, 3.3333331174e-1);
  let square = f * f;
  y = fma(n, -2.12194440e-4, y * (f * square));
  y = fma(square, -0.5, y);
  return fma(n, 0.693359375, f + y);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * grid.x + group.x;
  var top = LOWEST;
  var unfit = false;
  if (lane == 0u) { atomicStore(&unusable, 0u); } // before the first barrier; raised behind it
  for (var b = lane; b < p.blocks; b += THREADS) {
    let part = parts[row * p.blocks + b];
    if (is_nan(part.y)) { unfit = true; }
    top = max(top, bitcast<f32>(part.x));
  }
  tops[lane] = top;
  workgroupBarrier();
  if (unfit) { atomicOr(&unusable, 1u); }
  if (lane < 4u) {
    for (var j = 1u; j < 8u; j++) { top = max(top, tops[lane + 4u * j]); }
    tops[lane] = top;
  }
  workgroupBarrier();
  var m = tops[0];
  for (var j = 1u; j < 4u; j++) { m = max(m, tops[j]); }

  var sum = vec2(0.0);
  for (var b = lane; b < p.blocks; b += THREADS) {
    let part = parts[row * p.blocks + b];
    let d = bitcast<f32>(part.x) - m;
    if (d >= -87.0 && !is_nan(part.y)) {
      let f = exp_one(d);
      let s = bitcast<f32>(part.y);
      sum = fma(vec2(s, fma(s, d, bitcast<f32>(part.z))), vec2(f), sum);
    }
  }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane < 4u) {
    for (var j = 1u; j < 8u; j++) { sum += sums[lane + 4u * j]; }
    sums[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    for (var j = 1u; j < 4u; j++) { sum += sums[j]; }
    var lse = NAN_BITS;
    var entropy = NAN_BITS;
    // s is at least 1 where any logit is finite
    if (atomicLoad(&unusable) == 0u && sum.x > 0.0) {
      let log_s = ln(sum.x);
      lse = bitcast<u32>(m + log_s);
      entropy = bitcast<u32>(log_s - sum.y / sum.x);
    }
    stats[row] = vec4(bitcast<u32>(m), lse, entropy, parts[row * p.blocks].w);
  }
}
