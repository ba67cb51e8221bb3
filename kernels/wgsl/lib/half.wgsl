// f16 and bf16 as bits, the same on every adapter: hardware may flush subnormals, and some converts otherwise

// Patterns of the f16 nearest to f32 bits, ties to even. Below 2^-14, adding 0.5 makes the hardware round at 2^-24.
fn to_f16(x: vec4<u32>) -> vec4<u32> {
  let a = x & vec4<u32>(0x7fffffffu);
  let normal = (a + ((a >> vec4<u32>(13u)) & vec4<u32>(1u)) + vec4<u32>(0xc8000fffu)) >> vec4<u32>(13u);
  let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(min(a, vec4<u32>(0x38800000u))) + 0.5) - vec4<u32>(0x3f000000u);
  var h = select(normal, small, a < vec4<u32>(0x38800000u));
  h = select(h, vec4<u32>(0x7c00u), a > vec4<u32>(0x477fefffu));
  h = select(h, vec4<u32>(0x7e00u), a > vec4<u32>(0x7f800000u));
  return h | ((x >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
}

// Patterns of the bf16 nearest to f32 bits, ties to even; NaN stays NaN
fn to_bf16(x: vec4<u32>) -> vec4<u32> {
  let rounded = (x + ((x >> vec4<u32>(16u)) & vec4<u32>(1u)) + vec4<u32>(0x7fffu)) >> vec4<u32>(16u);
  let nan = (x & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  return select(rounded, (x >> vec4<u32>(16u)) | vec4<u32>(0x40u), nan);
}

// f32 bits of f16 patterns; a subnormal is its mantissa times 2^-24.
fn from_f16(h: vec4<u32>) -> vec4<u32> {
  let a = (h & vec4<u32>(0x7fffu)) << vec4<u32>(13u);
  var x = a + vec4<u32>(0x38000000u);
  x = select(x, bitcast<vec4<u32>>(vec4<f32>(h & vec4<u32>(0x3ffu)) * 5.9604644775390625e-8), a < vec4<u32>(0x00800000u));
  x = select(x, a | vec4<u32>(0x7f800000u), a > vec4<u32>(0x0f7fffffu));
  return x | ((h & vec4<u32>(0x8000u)) << vec4<u32>(16u));
}
