// kv_write: stores k and v of tokens at their positions in the paged cache
//
// Source    Kwon et al. 2023, arXiv:2309.06180 (paged cache)
// Shapes    k, v [N, K*D]   positions [N]   offsets [B+1]: tokens offsets[b].. belong to row b of table [B, maxBlocks]
//           kCache [blocks, K*D*64]: per head D rows of 64 positions   vCache [blocks, K*64*D]: per head 64 positions of D; both of CACHE_DTYPE
//           (0 f32, 1 f16, 2 bf16). Blocks outside this shard (firstBlock, blocks) are left to another dispatch
// Dispatch  a thread for each token and pair of columns
// Numerics  to nearest, ties to even; overflow to infinity. In a 16-bit kCache two positions share a word: where both are written by
//           neighbouring tokens, one thread writes the word; else each changes its own half by an atomic and and an atomic or, which gives the
//           same bits in any order
// Limits    D even. A token of position 0xffffffff is not written. No position is written twice in a call
//
// Prologue  const CACHE_DTYPE: u32

#include lib/half
#include lib/sequence_at

struct Params {
  tokens: u32,
  pairs: u32,     // K * D / 2
  sequences: u32,
  k_stride: u32,  // in pairs
  v_stride: u32,
  table_stride: u32,
  k_cache_stride: u32, // in u32s
  v_cache_stride: u32,
  first_block: u32,
  blocks: u32,
  width: u32, // D
}

@group(0) @binding(0) var<storage, read> k: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> v: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read> table: array<u32>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

fn narrow(x: f32) -> u32 {
  let bits = vec4<u32>(bitcast<u32>(x));
  if (CACHE_DTYPE == 1u) { return to_f16(bits).x; }
  return to_bf16(bits).x;
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let index = (wg.y * grid.x + wg.x) * 128u + t;
  let n = index / p.pairs;
  if (n >= p.tokens) { return; }
  let position = positions[n];
  if (position == 0xffffffffu || n >= offsets[p.sequences]) { return; }
  // one token a sequence is the common case
  var sequence = min(n, p.sequences - 1u);
  if (offsets[sequence] > n || offsets[sequence + 1u] <= n) { sequence = sequence_of(n); }
  let block = table[sequence * p.table_stride + position / 64u] - p.first_block;
  if (block >= p.blocks) { return; }
  let slot = position % 64u;
  let pair = index % p.pairs;
  let head = pair / (p.width / 2u);
  let d = 2u * (pair % (p.width / 2u));
  let x = k[n * p.k_stride + pair];
  let y = v[n * p.v_stride + pair];

  let to_v = block * p.v_cache_stride;
  let v_at = (head * 64u + slot) * p.width + d;
  let to_k = block * p.k_cache_stride;
  let k_at = (head * p.width + d) * 64u + slot;
  if (CACHE_DTYPE == 0u) {
    v_cache[to_v + v_at] = bitcast<u32>(y.x);
    v_cache[to_v + v_at + 1u] = bitcast<u32>(y.y);
    atomicStore(&k_cache[to_k + k_at], bitcast<u32>(x.x));
    atomicStore(&k_cache[to_k + k_at + 64u], bitcast<u32>(x.y));
    return;
  }
  v_cache[to_v + v_at / 2u] = narrow(y.x) | (narrow(y.y) << 16u);
  let word = to_k + k_at / 2u;
  if (slot % 2u == 1u) {
    if (n > offsets[sequence] && positions[max(n, 1u) - 1u] == position - 1u) { return; } // the token before writes for both
    atomicAnd(&k_cache[word], 0xffffu);
    atomicOr(&k_cache[word], narrow(x.x) << 16u);
    atomicAnd(&k_cache[word + 32u], 0xffffu);
    atomicOr(&k_cache[word + 32u], narrow(x.y) << 16u);
    return;
  }
  if (n + 1u < offsets[sequence + 1u] && n + 1u < p.tokens && positions[min(n + 1u, p.tokens - 1u)] == position + 1u) {
    let next = k[(n + 1u) * p.k_stride + pair];
    atomicStore(&k_cache[word], narrow(x.x) | (narrow(next.x) << 16u));
    atomicStore(&k_cache[word + 32u], narrow(x.y) | (narrow(next.y) << 16u));
    return;
  }
  atomicAnd(&k_cache[word], 0xffff0000u);
  atomicOr(&k_cache[word], narrow(x.x));
  atomicAnd(&k_cache[word + 32u], 0xffff0000u);
  atomicOr(&k_cache[word + 32u], narrow(x.y));
}
