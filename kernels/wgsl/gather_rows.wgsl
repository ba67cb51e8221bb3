// gather_rows: y[i] = x[indices[i]]
//
// Shapes    x [N, C], indices u32 [1, n], y [n, C]; f32
// Dispatch  one invocation per 4 elements of a run of y; once per shard of x, for the indices that lie in it
// Numerics  exact: rows move as bits
// Limits    an index of N or more gathers NaN: by the dispatch whose `outside` is N (0xffffffff in all others)
struct Params {
  items: u32, row_units: u32, first_index: u32, y_start: u32, // of this run
  x_first: u32, x_rows: u32, outside: u32, nan: u32, // rows of this shard
}

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items) { return; }
  let row = i / p.row_units;
  let index = indices[p.first_index + row];
  let local = index - p.x_first; // wraps to a large number below the shard
  if (local < p.x_rows) {
    y[p.y_start + i] = x[local * p.row_units + i - row * p.row_units];
  } else if (p.outside != 0xffffffffu && index >= p.outside) {
    y[p.y_start + i] = vec4<u32>(p.nan);
  }
}
