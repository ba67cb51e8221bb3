// Sums in pairs of f32 (value, rest). They need `zero: u32`, which is 0, in Params

// x, where no compiler can see through: many take (a + b) - a for b
fn sealed(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) | p.zero); }

// (value, rest) of a + b: the rest is what rounding took (Knuth's two-sum)
fn add_pairs(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let s = sealed(a.x + b.x);
  let c = sealed(s - a.x);
  return vec2<f32>(s, (a.x - (s - c)) + (b.x - c) + (a.y + b.y));
}

// the sum of a pair; once the value is infinite or NaN, its rest says nothing
fn value_of(a: vec2<f32>) -> f32 {
  return select(a.x + a.y, a.x, (bitcast<u32>(a.x) & 0x7fffffffu) >= 0x7f800000u);
}
