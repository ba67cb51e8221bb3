// rms_norm: y[n,g,c] = x[n,g,c] * rstd[n,g] * weight[c],   rstd[n,g] = 1 / sqrt(mean_c(x^2) + eps)
//
// Source    Zhang & Sennrich 2019, arXiv:1910.07467
// Shapes    x, y [N, groups * C] f32   weight [1, C] any float dtype   rstd [N, groups]
// Saves     rstd
// Prologue  THREADS invocations to a segment (n, g), a power of two up to 256; PER units of 4 columns to an invocation: both by C;
//           WEIGHT_DTYPE 0 f32, 1 f16, 2 bf16
// Dispatch  256 / THREADS segments a workgroup
// Numerics  f32; a sum has four lanes an invocation, then sixteens in order: the order depends on C only
// Limits    C a multiple of 4, or one group (rms_norm_unaligned has the rest)

#include lib/norm_weight
#include lib/segment_sum

struct Params { segments: u32, groups: u32, width: u32, x_row: u32, y_row: u32, rstd_row: u32, row_units: u32, rstd_stride: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let segment = (wg.y * grid.x + wg.x) * (256u / THREADS) + t / THREADS;
  let lane = t % THREADS;
  let live = segment < p.segments;
  let n = segment / p.groups;
  let g = segment - n * p.groups;

  let units = (p.width + 3u) / 4u;
  let tail = p.width % 4u; // columns in the last unit, if fewer than 4

  var row: array<vec4<f32>, PER>;
  var squares = vec4<f32>(0.0);
  for (var j = 0u; j < PER; j++) {
    let unit = lane + j * THREADS;
    var v = vec4<f32>(0.0);
    if (live && unit < units) { v = x[(p.x_row + n) * p.row_units + g * units + unit]; }
    if (tail != 0u && unit == units - 1u) { v = select(vec4<f32>(0.0), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(tail)); }
    row[j] = v;
    squares = fma(v, v, squares);
  }
  let sum = segment_sum((squares.x + squares.y) + (squares.z + squares.w), t);
  let r = 1.0 / sqrt(sum / f32(p.width) + p.eps);
  if (!live) { return; }
  if (lane == 0u) { rstd[(p.rstd_row + n) * p.rstd_stride + g] = r; }
  for (var j = 0u; j < PER; j++) {
    let unit = lane + j * THREADS;
    if (unit < units) { y[(p.y_row + n) * p.row_units + g * units + unit] = row[j] * r * weight_at(unit); }
  }
}
