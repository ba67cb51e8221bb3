// kv_copy: moves whole cache blocks between a cache and scratch: first out of it (GATHER), then into it
//
// Source    Kwon et al. 2023, arXiv:2309.06180 (copy on write of blocks)
// Shapes    pairs [n, 2] of (from, to)   GATHER: x is a shard of the cache, y [count, words]; else the other way round
// Dispatch  a thread for four words, for pairs first .. first + count - 1. Blocks outside this shard (firstBlock, blocks) are left to another
//           dispatch
// Numerics  bits are copied
// Limits    no block is both source and target in a call
//
// Prologue  const GATHER: bool

struct Params {
  first: u32,
  count: u32,
  words: u32, // of a block, in vec4s
  pair_stride: u32,
  first_block: u32,
  blocks: u32,
}

@group(0) @binding(0) var<storage, read> pairs: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let index = (wg.y * grid.x + wg.x) * 128u + t;
  let i = index / p.words;
  if (i >= p.count) { return; }
  let word = index % p.words;
  let block = pairs[(p.first + i) * p.pair_stride + select(1u, 0u, GATHER)] - p.first_block;
  if (block >= p.blocks) { return; }
  if (GATHER) { y[i * p.words + word] = x[block * p.words + word]; }
  else { y[block * p.words + word] = x[i * p.words + word]; }
}
