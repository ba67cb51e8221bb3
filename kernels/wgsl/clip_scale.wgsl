// clip_scale: result = [norm, scale]: norm = sqrt(sum of acc's first `count`) / gradScale,
//             scale = min(1, maxNorm / (norm + 1e-6)) / gradScale; 1 / gradScale where maxNorm is 0
//
// Source    Pascanu et al. 2013, arXiv:1211.5063; the 1e-6 is PyTorch's clip_grad_norm_
// Shapes    acc [1, slots]   result [1, 2]
// Dispatch  one workgroup
// Numerics  sums in pairs of f32 (value, rest); the square root is corrected once; inverse = 1 / gradScale, a power of two, so that products
//           with it are exact. A norm that is not finite makes both NaN, which adamw takes as "leave everything as it was"
// Limits    a sum of squares beyond 3.4e38, a norm of 1.8e19, counts as not finite

#include lib/pairs

struct Params { count: u32, nan: u32, zero: u32, max_norm: f32, inverse: f32 }

@group(0) @binding(0) var<storage, read> acc: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) t: u32) {
  var sum = vec2<f32>(0.0);
  for (var i = t; i < p.count; i += 256u) { sum = add_pairs(sum, vec2<f32>(acc[i], 0.0)); }
  sums[t] = sum;
  workgroupBarrier();
  if (t < 16u) {
    for (var k = 1u; k < 16u; k++) { sum = add_pairs(sum, sums[t + 16u * k]); }
    sums[t] = sum;
  }
  workgroupBarrier();
  if (t != 0u) { return; }
  for (var k = 1u; k < 16u; k++) { sum = add_pairs(sum, sums[k]); }
  if ((bitcast<u32>(sum.x) & 0x7fffffffu) >= 0x7f800000u) {
    result[0] = bitcast<f32>(p.nan);
    result[1] = bitcast<f32>(p.nan);
    return;
  }
  var norm = sqrt(sum.x);
  if (norm > 0.0) { norm += (fma(-norm, norm, sum.x) + sum.y) / (2.0 * norm); }
  norm *= p.inverse;
  result[0] = norm;
  result[1] = select(min(1.0, p.max_norm / (norm + 1e-6)), 1.0, p.max_norm == 0.0) * p.inverse;
}
