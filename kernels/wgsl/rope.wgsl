// rope: y[d] = x[d] cos - x[d + D/2] sin,  y[d + D/2] = x[d + D/2] cos + x[d] sin,  for d < D/2 of every head, at the token's position;
//       a sign of -1 turns back, which is the backward pass
//
// Source    Su et al. 2021, arXiv:2104.09864, in the half-split layout of Hugging Face's Llama and Qwen
// Shapes    x, y [N, heads * D]   positions u32 [1, N]   table [maxPositions, D]: D/2 cosines, then D/2 sines
// Prologue  Lane: vec4<f32> where D is a multiple of 8, else f32. All counts, starts and strides are in lanes
// Dispatch  one invocation per lane of half a head
// Numerics  a cos is rounded once with the product of the sines, which is rounded before
// Limits    D even; a token whose position is 0xffffffff, or beyond the table, is left alone
struct Params {
  items: u32, half: u32, heads: u32, first_token: u32, x_start: u32, y_start: u32, stride: u32, table_stride: u32, positions: u32, sign: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Lane>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<Lane>;
@group(0) @binding(3) var<storage, read_write> y: array<Lane>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items) { return; }
  let pair = i / p.half; // token and head
  let d = i - pair * p.half;
  let n = pair / p.heads;
  let position = positions[p.first_token + n];
  if (position >= p.positions) { return; }
  let at = n * p.stride + (pair - n * p.heads) * 2u * p.half + d;
  let c = table[position * p.table_stride + d];
  let s = table[position * p.table_stride + p.half + d] * p.sign;
  let a = x[p.x_start + at];
  let b = x[p.x_start + at + p.half];
  y[p.y_start + at] = fma(a, c, -(b * s));
  y[p.y_start + at + p.half] = fma(b, c, a * s);
}
