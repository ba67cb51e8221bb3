// embedding_backward: dtable[ids[n]] += dy[n], in token order
//
// Shapes    ids u32 [1, N]   dy [N, C], dtable [V, C] f32
// Dispatch  one workgroup per token of a run of dy and 1024 columns (grid z). The first token of each id walks the later ones in blocks
//           of 1024 and adds up the rows of those that have its id; all other workgroups leave. Once per shard of dtable, for its ids
// Numerics  f32: ((dtable + first) + second) + ...: the bits do not depend on runs, shards or scheduling; no atomics
// Limits    an id of V or more adds to nothing
struct Params { tokens: u32, first_id: u32, dy_start: u32, row_units: u32, table_first: u32, table_rows: u32 }

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dtable: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> p: Params;

const BLOCK: u32 = 1024u; // tokens looked at together: 4 an invocation
var<workgroup> found: array<u32, 256>;
var<workgroup> masks: array<u32, 32>; // bit k of word w: token 32 w + k of the block has the id
var<workgroup> earlier: u32;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let token = wg.y * grid.x + wg.x;
  if (token >= p.tokens) { return; }
  // one load for all, since what follows has barriers
  if (t == 0u) { masks[0] = ids[p.first_id + token]; }
  let id = workgroupUniformLoad(&masks[0]);
  let local = id - p.table_first; // wraps to a large number below the shard
  if (local >= p.table_rows) { return; }

  var seen = 0u;
  for (var n = t; n < token; n += 256u) { seen |= select(0u, 1u, ids[p.first_id + n] == id); }
  found[t] = seen;
  workgroupBarrier();
  if (t < 16u) {
    for (var k = 1u; k < 16u; k++) { seen |= found[t + 16u * k]; }
    found[t] = seen;
  }
  workgroupBarrier();
  if (t == 0u) {
    for (var k = 1u; k < 16u; k++) { seen |= found[k]; }
    earlier = seen;
  }
  if (workgroupUniformLoad(&earlier) != 0u) { return; }

  let unit = wg.z * 256u + t;
  let inside = unit < p.row_units;
  let at = local * p.row_units + unit;
  var sum = vec4<f32>(0.0);
  if (inside) { sum = dtable[at]; }
  for (var block = token; block < p.tokens; block += BLOCK) {
    var nibble = 0u;
    for (var k = 0u; k < 4u; k++) {
      let n = block + 4u * t + k;
      if (n < p.tokens) { nibble |= select(0u, 1u << k, ids[p.first_id + n] == id); }
    }
    found[t] = nibble;
    workgroupBarrier();
    if (t < 32u) {
      var word = 0u;
      for (var k = 0u; k < 8u; k++) { word |= found[8u * t + k] << (4u * k); }
      masks[t] = word;
    }
    workgroupBarrier();
    if (inside) {
      for (var w = 0u; w < 32u; w++) {
        for (var rest = masks[w]; rest != 0u; rest &= rest - 1u) {
          let n = block + 32u * w + firstTrailingBit(rest);
          sum += dy[p.dy_start + n * p.row_units + unit];
        }
      }
    }
  }
  if (inside) { dtable[at] = sum; }
}
