// attention_paged_merge: merges the blocks that attention_paged left, in order from position 0
//
// Formula   the first block as it is; then m' = max(m, m_b), a = 2^((m - m') log2 e), c = 2^((m_b - m') log2 e), l = l a + l_b c,
//           o = o a + o_b c; out = o / l
// Shapes    out [N, H*D]   positions [N]   offsets [B+1]   sums [items, maxBlocks, ROWS, D]   norms [items, maxBlocks, ROWS] of (m, l)
// Dispatch  a thread for 4 columns of one row (token, query head)
// Numerics  f32, the operations of attention.wgsl in the same order. Rows of position 0xffffffff get zeros

const LOG2E: f32 = 1.4426950408889634;

struct Params {
  items: u32,
  first_item: u32,
  groups: u32,
  sequences: u32,
  max_blocks: u32,
  out_stride: u32, // in vec4s
  quads: u32, // D / 4
  rows: u32, // query heads of an item
}

@group(0) @binding(0) var<storage, read> positions: array<u32>;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let index = (wg.y * grid.x + wg.x) * 64u + t;
  let item = index / (p.rows * p.quads);
  if (item >= p.items) { return; }
  let row = (index / p.quads) % p.rows;
  let column = index % p.quads;
  let n = (p.first_item + item) / p.groups;
  let to = n * p.out_stride + (((p.first_item + item) % p.groups) * p.rows + row) * p.quads + column;
  let seen = positions[n] + 1u;
  if (seen == 0u || n >= offsets[p.sequences]) {
    out[to] = vec4<f32>();
    return;
  }
  let blocks = (seen + 63u) / 64u;
  var at = item * p.max_blocks * p.rows + row;
  var norm = norms[at];
  var o = sums[at * p.quads + column];
  var m = norm.x;
  var l = norm.y;
  at += select(0u, p.rows, blocks > 1u);
  norm = norms[at];
  var next = sums[at * p.quads + column];
  for (var block = 1u; block < blocks; block++) {
    let top = norm.x;
    let sum = norm.y;
    let b = next;
    // asked for one block ahead
    at += select(0u, p.rows, block + 1u < blocks);
    norm = norms[at];
    next = sums[at * p.quads + column];
    let high = max(m, top);
    let a = exp2((m - high) * LOG2E);
    let c = exp2((top - high) * LOG2E);
    m = high;
    l = fma(l, a, sum * c);
    o = fma(o, vec4<f32>(a), b * c);
  }
  let factor = select(1.0 / l, 0.0, l == 0.0);
  out[to] = o * factor;
}
