// Four elements of a bias of any dtype. They need bias_start and bias_dtype in Params, and bias: array<u32>

fn bias_quad(n: u32) -> vec4<f32> {
  let i = p.bias_start + n;
  if (p.bias_dtype == 0u) { return bitcast<vec4<f32>>(vec4<u32>(bias[i], bias[i + 1u], bias[i + 2u], bias[i + 3u])); }
  let x = bias[i / 2u];
  let y = bias[i / 2u + 1u];
  if (p.bias_dtype == 1u) { return vec4<f32>(unpack2x16float(x), unpack2x16float(y)); }
  return bitcast<vec4<f32>>(vec4<u32>(x << 16u, x & 0xffff0000u, y << 16u, y & 0xffff0000u));
}
