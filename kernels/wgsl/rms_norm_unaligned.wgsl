// rms_norm for groups of a width that is no multiple of 4: as rms_norm, column by column
//
// Shapes    x, y [N, groups * C] f32   weight [1, C] any float dtype   rstd [N, groups]
// Prologue  WEIGHT_DTYPE: 0 f32, 1 f16, 2 bf16
// Dispatch  one workgroup per segment (n, g)
// Numerics  f32; an invocation sums every 64th column, those sums are added in order
struct Params {
  segments: u32, groups: u32, width: u32, x_row: u32, y_row: u32, rstd_row: u32, stride: u32, rstd_stride: u32, eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> sums: array<f32, 64>;

fn weight_at(c: u32) -> f32 {
  if (WEIGHT_DTYPE == 0u) { return bitcast<f32>(weight[c]); }
  let word = weight[c / 2u] >> (16u * (c & 1u));
  if (WEIGHT_DTYPE == 1u) { return unpack2x16float(word).x; }
  return bitcast<f32>(word << 16u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let segment = wg.y * grid.x + wg.x;
  if (segment >= p.segments) { return; }
  let n = segment / p.groups;
  let g = segment - n * p.groups;
  let source = (p.x_row + n) * p.stride + g * p.width;
  let to = (p.y_row + n) * p.stride + g * p.width;
  var own = 0.0;
  for (var c = t; c < p.width; c += 64u) { own = fma(x[source + c], x[source + c], own); }
  sums[t] = own;
  workgroupBarrier();
  var sum = 0.0;
  for (var k = 0u; k < 64u; k++) { sum += sums[k]; }
  let r = 1.0 / sqrt(sum / f32(p.width) + p.eps);
  if (t == 0u) { rstd[(p.rstd_row + n) * p.rstd_stride + g] = r; }
  for (var c = t; c < p.width; c += 64u) { y[to + c] = x[source + c] * r * weight_at(c); }
}
