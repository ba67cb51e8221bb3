// sum_squares, first stage: the sum of x^2 over each chunk of rows, or over each piece of a long row
//
// Shapes    x [N, C] f32   out: a pair (value, rest) per chunk, or acc itself where DIRECT
// Prologue  DIRECT: there is one chunk, whose sum is written to out[slot]
// Dispatch  one workgroup per chunk of `rows_per_chunk` rows, or per piece of `piece_units` where one row is more than a chunk
// Numerics  four sums an invocation, in pairs of f32 (value, rest) with the rest of each square where fma is fused. The order depends on
//           the shape only. Infinity gives infinity, NaN gives NaN

#include lib/pairs

struct Params {
  chunks: u32, first_chunk: u32, rows: u32, rows_per_chunk: u32, pieces: u32, piece_units: u32, // of this run
  x_start: u32, row_units: u32, tail: u32, slot: u32, zero: u32, // tail: columns in the last unit of a row, if fewer than 4, else 0
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> sums: array<vec2<f32>, 256>;

// x, where no compiler can see through: many take (a + b) - a for b. p.zero is 0
fn sealed4(x: vec4<f32>) -> vec4<f32> { return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) | vec4<u32>(p.zero)); }
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk >= p.chunks) { return; }
  let block = chunk / p.pieces;
  let first = (chunk - block * p.pieces) * p.piece_units; // unit in the row, or 0
  let row = block * p.rows_per_chunk;
  let units = min(p.rows - row, p.rows_per_chunk) * min(p.row_units - first, p.piece_units);
  let start = p.x_start + row * p.row_units + first;

  var value = vec4<f32>(0.0);
  var rest = vec4<f32>(0.0);
  for (var i = t; i < units; i += 256u) {
    var v = x[start + i];
    if (p.tail != 0u && (first + i) % p.row_units == p.row_units - 1u) {
      v = select(vec4<f32>(0.0), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.tail));
    }
    let square = sealed4(v * v);
    let s = sealed4(value + square);
    let c = sealed4(s - value);
    rest += (value - (s - c)) + (square - c) + fma(v, v, -square);
    value = s;
  }
  let low = add_pairs(vec2<f32>(value.x, rest.x), vec2<f32>(value.y, rest.y));
  var sum = add_pairs(low, add_pairs(vec2<f32>(value.z, rest.z), vec2<f32>(value.w, rest.w)));
  sums[t] = sum;
  workgroupBarrier();
  if (t < 16u) {
    for (var k = 1u; k < 16u; k++) { sum = add_pairs(sum, sums[t + 16u * k]); }
    sums[t] = sum;
  }
  workgroupBarrier();
  if (t != 0u) { return; }
  for (var k = 1u; k < 16u; k++) { sum = add_pairs(sum, sums[k]); }
  if (DIRECT) {
    out[p.slot] = value_of(sum);
  } else {
    out[2u * (p.first_chunk + chunk)] = sum.x;
    out[2u * (p.first_chunk + chunk) + 1u] = sum.y;
  }
}
