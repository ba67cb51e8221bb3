// Weights of a norm, of WEIGHT_DTYPE (0 f32, 1 f16, 2 bf16). They need weight: array<vec4<u32>>

// four weights from column 4 unit on
fn weight_at(unit: u32) -> vec4<f32> {
  if (WEIGHT_DTYPE == 0u) { return bitcast<vec4<f32>>(weight[unit]); }
  let words = weight[unit / 2u];
  let w = select(words.xy, words.zw, (unit & 1u) == 1u);
  if (WEIGHT_DTYPE == 1u) { return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)); }
  return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
