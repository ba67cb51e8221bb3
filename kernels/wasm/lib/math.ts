// Vector arithmetic shared by all kernels. Two builds come from this one source: mul+add, and relaxed FMA (ASC_FEATURE_RELAXED_SIMD).

// a * b + c, fused in the relaxed build
// @ts-ignore: decorator
@inline export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}
// @ts-ignore: decorator
@inline export function hsum(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}
// @ts-ignore: decorator
@inline export function hmax(v: v128): f32 {
  return max(max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)), max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)));
}
// e^x: n = round(x / ln 2), a degree-6 polynomial on [-ln2/2, ln2/2] (Cephes expf), then 2^n by the exponent. Max relative error
// 8e-8 on [-20, 20]; exactly 0 below -87.3 is not promised (the argument is clamped there), inf above 88.37 neither.
// @ts-ignore: decorator
@inline export function exp4(x0: v128): v128 {
  let x = f32x4.pmax(f32x4.splat(-87.3365447505531), f32x4.pmin(f32x4.splat(88.3762626647949), x0));
  // adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits
  const biased = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504088896341)), f32x4.splat(12582912));
  const n = f32x4.sub(biased, f32x4.splat(12582912));
  x = madd(n, f32x4.splat(-0.693359375), x);
  x = madd(n, f32x4.splat(2.12194440e-4), x);
  let p = f32x4.splat(1.9875691500e-4);
  p = madd(p, x, f32x4.splat(1.3981999507e-3));
  p = madd(p, x, f32x4.splat(8.3334519073e-3));
  p = madd(p, x, f32x4.splat(4.1665795894e-2));
  p = madd(p, x, f32x4.splat(1.6666665459e-1));
  p = madd(p, x, f32x4.splat(5.0000001201e-1));
  p = f32x4.add(madd(p, f32x4.mul(x, x), x), f32x4.splat(1));
  return i32x4.add(p, i32x4.shl(biased, 23));
}
// @ts-ignore: decorator
@inline export function exp1(x: f32): f32 { return f32x4.extract_lane(exp4(f32x4.splat(x)), 0); }
