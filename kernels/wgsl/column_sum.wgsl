// column_sum: part[chunk, c] = sum of x[n, c] over the 256 rows n of a chunk
//
// Shapes    x [N, C] f32, rows of `stride` quads; part [chunks, stride] quads
// Then      matmul_sum adds the chunks to y in order
// Dispatch  x: 64 quads of columns each; y: chunks from `chunk_start` on
// Order     rows of a chunk from 0 in order; it depends on N only
struct Params { N: u32, stride: u32, x_start: u32, chunk_start: u32 } // N: rows from x_start on

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> part: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> p: Params;

const CHUNK = 256u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let q = wg.x * 64u + t;
  if (q >= p.stride) { return; }
  let end = min(p.N, (wg.y + 1u) * CHUNK);
  var total = vec4<f32>(0.0);
  for (var n = wg.y * CHUNK; n < end; n++) { total += x[p.x_start + n * p.stride + q]; }
  part[(p.chunk_start + wg.y) * p.stride + q] = total;
}
