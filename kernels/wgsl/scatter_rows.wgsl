// scatter_rows: y[indices[i]] += x[i], indices distinct (the backward pass of gather_rows)
//
// Shapes    x [n, C], indices u32 [1, n], y [N, C]; f32
// Dispatch  one invocation per 4 elements of a run of x; once per shard of y, for the indices that lie in it
// Numerics  one addition an element
// Limits    an index of N or more scatters nothing
struct Params { items: u32, row_units: u32, first_index: u32, x_start: u32, y_first: u32, y_rows: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items) { return; }
  let row = i / p.row_units;
  let local = indices[p.first_index + row] - p.y_first; // wraps to a large number below the shard
  if (local >= p.y_rows) { return; }
  let at = local * p.row_units + i - row * p.row_units;
  y[at] = y[at] + x[p.x_start + i];
}
