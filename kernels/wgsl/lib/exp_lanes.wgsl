// e^x by a polynomial, the same on every adapter

// For x in [-87, 88]: 2^round(x / ln 2) times a polynomial on [-ln2/2, ln2/2]; 0 below
fn exp_lanes(x: vec4<f32>) -> vec4<f32> {
  let n = round(x * 1.4426950408889634);
  let r = fma(n, vec4(2.12194440e-4), fma(n, vec4(-0.693359375), x));
  var y = fma(vec4(1.9875691500e-4), r, vec4(1.3981999507e-3));
  y = fma(y, r, vec4(8.3334519073e-3));
  y = fma(y, r, vec4(4.1665795894e-2));
  y = fma(y, r, vec4(1.6666665459e-1));
  y = fma(y, r, vec4(5.0000001201e-1));
  y = fma(y, r * r, r) + 1.0;
  let scaled = bitcast<vec4<f32>>(bitcast<vec4<i32>>(y) + (vec4<i32>(n) << vec4(23u)));
  return select(vec4(0.0), scaled, x >= vec4(-87.0));
}
