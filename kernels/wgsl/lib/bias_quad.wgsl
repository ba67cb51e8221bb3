// Four elements from column n on of the bias of a member, of any dtype. They need MEMBERS, bindings bias0, bias1 ... of array<u32>, and
// bias_start_0 (in elements), bias_dtype_0 ... in Params

#repeat g MEMBERS
fn bias_quad_${g}(n: u32) -> vec4<f32> {
  let i = p.bias_start_${g} + n;
  if (p.bias_dtype_${g} == 0u) { return bitcast<vec4<f32>>(vec4<u32>(bias${g}[i], bias${g}[i + 1u], bias${g}[i + 2u], bias${g}[i + 3u])); }
  let x = bias${g}[i / 2u];
  let y = bias${g}[i / 2u + 1u];
  if (p.bias_dtype_${g} == 1u) { return vec4<f32>(unpack2x16float(x), unpack2x16float(y)); }
  return bitcast<vec4<f32>>(vec4<u32>(x << 16u, x & 0xffff0000u, y << 16u, y & 0xffff0000u));
}
#end
