// Weights of logits in the draw: integers of 64 bits, low word first, whose sums have no order

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// The nearest integer to e^(logit inverse - m) 2^44, where e^x is that of log_softmax. 0 for NaN and below e^-31.
fn weight(logit: f32, inverse: f32, m: f32) -> vec2<u32> {
  let x = fma(logit, inverse, -m);
  if ((bitcast<u32>(logit) & 0x7f800000u) == 0x7f800000u || x < -31.0) { return vec2(0u); }
  let n = round(x * 1.4426950408889634);
  let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, x));
  var y = fma(1.9875691500e-4, r, 1.3981999507e-3);
  y = fma(y, r, 8.3334519073e-3);
  y = fma(y, r, 4.1665795894e-2);
  y = fma(y, r, 1.6666665459e-1);
  y = fma(y, r, 5.0000001201e-1);
  y = fma(y, r * r, r) + 1.0;
  let bits = bitcast<u32>(y);
  let mantissa = (bits & 0x007fffffu) | 0x00800000u;
  let shift = i32(bits >> 23u) + i32(n) - 106;
  if (shift > 0) { return vec2(mantissa << u32(shift), mantissa >> u32(32 - shift)); }
  if (shift == 0) { return vec2(mantissa, 0u); }
  return vec2((mantissa + (1u << u32(-shift - 1))) >> u32(-shift), 0u);
}
