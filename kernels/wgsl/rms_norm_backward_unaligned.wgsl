// rms_norm_backward for groups of a width that is no multiple of 4: as rms_norm_backward, column by column
//
// Shapes    x, dy, dx [N, groups * C] f32   weight [1, C] any float dtype   rstd [N, groups]   shares: 4 ceil(C / 4) f32 per chunk
// Prologue  WEIGHT_DTYPE: 0 f32, 1 f16, 2 bf16; DWEIGHT: whether shares are wanted
// Dispatch  one workgroup per chunk of `chunk_segments` segments, one after the other
// Numerics  f32; an invocation has every 64th column, its sums are added in order
struct Params {
  segments: u32, groups: u32, chunks: u32, first_chunk: u32, chunk_segments: u32, // of this run
  x_row: u32, rstd_row: u32, dy_row: u32, dx_row: u32, stride: u32, rstd_stride: u32, width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read> rstd: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> shares: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

var<workgroup> sums: array<f32, 64>;

fn weight_at(c: u32) -> f32 {
  if (WEIGHT_DTYPE == 0u) { return bitcast<f32>(weight[c]); }
  let word = weight[c / 2u] >> (16u * (c & 1u));
  if (WEIGHT_DTYPE == 1u) { return unpack2x16float(word).x; }
  return bitcast<f32>(word << 16u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk >= p.chunks) { return; }
  let start = chunk * p.chunk_segments;
  let end = min(start + p.chunk_segments, p.segments);
  let share = (p.first_chunk + chunk) * ((p.width + 3u) / 4u) * 4u;
  if (DWEIGHT) {
    for (var c = t; c < p.width; c += 64u) { shares[share + c] = 0.0; }
  }
  for (var segment = start; segment < end; segment++) {
    let n = segment / p.groups;
    let g = segment - n * p.groups;
    let from_x = (p.x_row + n) * p.stride + g * p.width;
    let from_dy = (p.dy_row + n) * p.stride + g * p.width;
    let to = (p.dx_row + n) * p.stride + g * p.width;
    let r = rstd[(p.rstd_row + n) * p.rstd_stride + g];
    var own = 0.0;
    for (var c = t; c < p.width; c += 64u) {
      own = fma(dy[from_dy + c] * weight_at(c), x[from_x + c], own);
      if (DWEIGHT) { shares[share + c] = fma(x[from_x + c] * r, dy[from_dy + c], shares[share + c]); }
    }
    sums[t] = own;
    workgroupBarrier();
    var sum = 0.0;
    for (var k = 0u; k < 64u; k++) { sum += sums[k]; }
    workgroupBarrier();
    let k = -(sum * r * r / f32(p.width)); // -rstd mean(u x^)
    for (var c = t; c < p.width; c += 64u) { dx[to + c] = fma(k, x[from_x + c], dy[from_dy + c] * weight_at(c)) * r; }
  }
}
