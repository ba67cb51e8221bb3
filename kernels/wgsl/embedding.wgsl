// embedding: y[n] = table[ids[n]]
//
// Shapes    ids u32 [1, N]   table [V, C] any float dtype   y [N, C] f32
// Saves     ids
// Prologue  TABLE_DTYPE: 0 f32, 1 f16, 2 bf16
// Dispatch  one invocation per 16 bytes of a row of the table, for a run of y; once per shard of the table, for the ids that lie in it
// Numerics  exact
// Limits    an id of V or more reads NaN: by the dispatch whose `outside` is V (0xffffffff in all others)

#include lib/half

struct Params {
  items: u32, row_items: u32, first_id: u32, y_start: u32, y_stride: u32, // of this run; starts and strides in 16 bytes
  table_first: u32, table_rows: u32, outside: u32, nan: u32, // rows of this shard
}

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

fn widen(w: vec2<u32>) -> vec4<u32> {
  let h = vec4<u32>(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u);
  if (TABLE_DTYPE == 1u) { return from_f16(h); }
  return h << vec4<u32>(16u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let i = (wg.y * grid.x + wg.x) * 256u + t;
  if (i >= p.items) { return; }
  let n = i / p.row_items;
  let item = i - n * p.row_items;
  let id = ids[p.first_id + n];
  let local = id - p.table_first; // wraps to a large number below the shard
  let outside = p.outside != 0xffffffffu && id >= p.outside;
  if (local >= p.table_rows && !outside) { return; }

  var w = vec4<u32>(p.nan);
  if (!outside) { w = table[local * p.row_items + item]; }
  if (TABLE_DTYPE == 0u) { y[p.y_start + i] = w; return; }
  let at = p.y_start + n * p.y_stride + 2u * item;
  y[at] = select(widen(w.xy), w, outside);
  if (2u * item + 1u < p.y_stride) { y[at + 1u] = select(widen(w.zw), w, outside); }
}
