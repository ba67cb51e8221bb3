// rope_two: rope of two tensors by the same positions: of the queries and the keys of a layer
//
// Source    Su et al. 2021, arXiv:2104.09864, in the half-split layout of Hugging Face's Llama and Qwen
// Shapes    x, y [N, heads * D]   u, v [N, heads_u * D]   positions u32 [1, N]   table [maxPositions, D]: D/2 cosines, then D/2 sines
// Prologue  Lane: vec4<f32> where D is a multiple of 8, else f32. All counts, starts and strides are in lanes
// Dispatch  one invocation per lane of half a head, of x, then of u
// Numerics  the operations of rope
// Limits    D even; a token whose position is 0xffffffff, or beyond the table, is left alone
struct Params {
  items: u32, items_u: u32, half: u32, heads: u32, heads_u: u32, first_token: u32, x_start: u32, y_start: u32, stride: u32,
  u_start: u32, v_start: u32, stride_u: u32, table_stride: u32, positions: u32, sign: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Lane>;
@group(0) @binding(1) var<storage, read> u: array<Lane>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> table: array<Lane>;
@group(0) @binding(4) var<storage, read_write> y: array<Lane>;
@group(0) @binding(5) var<storage, read_write> v: array<Lane>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  var i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items + p.items_u) { return; }
  let second = i >= p.items;
  if (second) { i -= p.items; }
  let heads = select(p.heads, p.heads_u, second);
  let pair = i / p.half; // token and head
  let d = i - pair * p.half;
  let n = pair / heads;
  let position = positions[p.first_token + n];
  if (position >= p.positions) { return; }
  let c = table[position * p.table_stride + d];
  let s = table[position * p.table_stride + p.half + d] * p.sign;
  let in_row = (pair - n * heads) * 2u * p.half + d;
  if (second) {
    let at = n * p.stride_u + in_row;
    let a = u[p.u_start + at];
    let b = u[p.u_start + at + p.half];
    v[p.v_start + at] = fma(a, c, -(b * s));
    v[p.v_start + at + p.half] = fma(b, c, a * s);
  } else {
    let at = n * p.stride + in_row;
    let a = x[p.x_start + at];
    let b = x[p.x_start + at + p.half];
    y[p.y_start + at] = fma(a, c, -(b * s));
    y[p.y_start + at + p.half] = fma(b, c, a * s);
  }
}
