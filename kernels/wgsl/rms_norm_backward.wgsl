// rms_norm_backward: with u = dy * weight and x^ = x * rstd:   dx = rstd * (u - x^ * mean_c(u x^)),   dweight[c] += sum_{n,g} dy x^
//
// Source    Zhang & Sennrich 2019, arXiv:1910.07467
// Shapes    x, dy, dx [N, groups * C] f32   weight [1, C] any float dtype   rstd [N, groups]
//           shares: 4 ceil(C / 4) f32 per chunk, its part of dweight (rms_norm_backward_weight adds them up)
// Prologue  THREADS invocations to a segment (n, g), a power of two up to 256; PER units of 4 columns to an invocation: both by C;
//           WEIGHT_DTYPE 0 f32, 1 f16, 2 bf16; DWEIGHT: whether shares are wanted
// Dispatch  one workgroup per chunk of `chunk_segments` segments, of which it takes 256 / THREADS at a time
// Numerics  f32; sums over c as in rms_norm. A share: each place in the workgroup adds up its segments in order, then the places are added
// Limits    C a multiple of 4, or one group (rms_norm_backward_unaligned has the rest)

#include lib/norm_weight
#include lib/segment_sum

struct Params {
  segments: u32, groups: u32, chunks: u32, first_chunk: u32, chunk_segments: u32, // of this run
  x_row: u32, rstd_row: u32, dy_row: u32, dx_row: u32, row_units: u32, rstd_stride: u32, width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> rstd: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> shares: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> p: Params;

const PLACES: u32 = 256u / THREADS;
var<workgroup> places: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk >= p.chunks) { return; }
  let lane = t % THREADS;
  let place = t / THREADS;
  let start = chunk * p.chunk_segments;
  let end = min(start + p.chunk_segments, p.segments);

  let units = (p.width + 3u) / 4u;
  let tail = p.width % 4u; // columns in the last unit, if fewer than 4

  var share: array<vec4<f32>, PER>;
  var xs: array<vec4<f32>, PER>;
  var us: array<vec4<f32>, PER>;
  for (var first = start; first < end; first += PLACES) {
    let segment = first + place;
    let live = segment < end;
    let n = segment / p.groups;
    let g = segment - n * p.groups;
    let at = g * units + lane;
    var r = 0.0;
    if (live) { r = rstd[(p.rstd_row + n) * p.rstd_stride + g]; }
    var dot = vec4<f32>(0.0);
    for (var j = 0u; j < PER; j++) {
      let unit = lane + j * THREADS;
      var v = vec4<f32>(0.0);
      var d = vec4<f32>(0.0);
      var u = vec4<f32>(0.0);
      if (live && unit < units) {
        v = x[(p.x_row + n) * p.row_units + at + j * THREADS];
        d = dy[(p.dy_row + n) * p.row_units + at + j * THREADS];
        u = d * weight_at(unit);
      }
      if (tail != 0u && unit == units - 1u) {
        let inside = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(tail);
        v = select(vec4<f32>(0.0), v, inside);
        d = select(vec4<f32>(0.0), d, inside);
        u = select(vec4<f32>(0.0), u, inside);
      }
      xs[j] = v;
      us[j] = u;
      dot = fma(u, v, dot);
      if (DWEIGHT) { share[j] = fma(v * r, d, share[j]); }
    }
    let sum = segment_sum((dot.x + dot.y) + (dot.z + dot.w), t);
    let k = -(sum * r * r / f32(p.width)); // -rstd mean(u x^)
    if (live) {
      for (var j = 0u; j < PER; j++) {
        if (lane + j * THREADS < units) {
          dx[(p.dx_row + n) * p.row_units + at + j * THREADS] = fma(vec4<f32>(k), xs[j], us[j]) * r;
        }
      }
    }
  }
  if (!DWEIGHT) { return; }
  for (var j = 0u; j < PER; j++) {
    places[t] = share[j];
    workgroupBarrier();
    let unit = lane + j * THREADS;
    if (place == 0u && unit < units) {
      var sum = share[j];
      for (var k = 1u; k < PLACES; k++) { sum += places[k * THREADS + t]; }
      shares[(p.first_chunk + chunk) * units + unit] = sum;
    }
    workgroupBarrier();
  }
}
