// add_rms_norm: h = a + b,   y[n,c] = h[n,c] * rstd[n] * weight[c],   rstd[n] = 1 / sqrt(mean_c(h^2) + eps): the bits of add and rms_norm
//
// Shapes    a, b, h, y [N, C] f32   weight [1, C] any float dtype   rstd [N, 1]
// Saves     h, rstd
// Prologue  THREADS, PER, WEIGHT_DTYPE as in rms_norm
// Dispatch  256 / THREADS rows a workgroup
// Numerics  the operations of rms_norm in the same order

#include lib/norm_weight
#include lib/segment_sum

struct Params { rows: u32, width: u32, a_row: u32, b_row: u32, h_row: u32, y_row: u32, rstd_row: u32, row_units: u32, rstd_stride: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> h: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let n = (wg.y * grid.x + wg.x) * (256u / THREADS) + t / THREADS;
  let lane = t % THREADS;
  let live = n < p.rows;

  let units = (p.width + 3u) / 4u;
  let tail = p.width % 4u; // columns in the last unit, if fewer than 4

  var row: array<vec4<f32>, PER>;
  var squares = vec4<f32>(0.0);
  for (var j = 0u; j < PER; j++) {
    let unit = lane + j * THREADS;
    var v = vec4<f32>(0.0);
    if (live && unit < units) {
      v = a[(p.a_row + n) * p.row_units + unit] + b[(p.b_row + n) * p.row_units + unit];
      h[(p.h_row + n) * p.row_units + unit] = v;
    }
    if (tail != 0u && unit == units - 1u) { v = select(vec4<f32>(0.0), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(tail)); }
    row[j] = v;
    squares = fma(v, v, squares);
  }
  let sum = segment_sum((squares.x + squares.y) + (squares.z + squares.w), t);
  let r = 1.0 / sqrt(sum / f32(p.width) + p.eps);
  if (!live) { return; }
  if (lane == 0u) { rstd[(p.rstd_row + n) * p.rstd_stride] = r; }
  for (var j = 0u; j < PER; j++) {
    let unit = lane + j * THREADS;
    if (unit < units) { y[(p.y_row + n) * p.row_units + unit] = row[j] * r * weight_at(unit); }
  }
}
