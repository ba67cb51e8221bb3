// matmul_matrix: c[M, N] (= or +=) op(a)[M, K] op(b)[K, N] + bias[N] by subgroup matrices, f16 x f16 -> f32
//
// Shapes    a [M, K], or [K, M] if TRANS_A; b [K, N], or [N, K] if TRANS_B; both f16, zero-padded by matmul_pack to multiples of 128, so that
//           tiles need no edges; but if A_F32, a is [M, K] f32 as it lies, rounded as it is staged. c [M, N] f32; bias [1, N].
//           MEMBERS products of one a may be computed together: b0 and c0, b1 and c1 ..., each with its own N
// Prologue  TILE_M, TILE_N, TILE_K: the adapter's shape; SG: size of subgroups. BM x BN: tile of a workgroup, of WM x WN subgroups;
//           BK: depth staged at once, divides 128; BUFFERS: 1, or 2 so that a step needs one barrier instead of two.
//           SPLIT: chunk sums go to c0 as [chunks, rows, columns of all members], padded to tiles, for matmul_sum. BIAS: some member has one
// Dispatch  x, y: tiles of M times those of N of all members, folded, from first_tile on; z: slices of `slice` chunks. WM * WN * SG invocations
// Order     (((old c or 0) + chunk 0) + chunk 1) + ... + bias; a chunk is `chunk` of K, accumulated from 0 by the matrix unit, TILE_K at a time
//           in order. Neither tile, split, members nor M changes it.
// Numerics  f16 operands, to nearest even; products and sums in f32 as the matrix unit makes them
// Limits    no subgroup arithmetic here: a driver crashes on a module that has both. Workgroup memory: see SIZE
// Source    staging through registers, and vec4<u32> memory under f16 matrices, as NVIDIA's vk_cooperative_matrix_perf

#if BIAS
#include lib/bias_quad
#end

struct Params {
  M: u32, K: u32, chunk: u32, slice: u32, tiles_m: u32, tiles_n: u32, // tiles of N of all members
  a_start: u32, a_stride: u32, // in 16 bytes, as those of b
  plane: u32, accumulate: u32, // plane: quads from one chunk's sums to the next one's
  first_tile: u32, end_tile: u32, // of this dispatch
#repeat g MEMBERS
  tiles_${g}: u32, N_${g}: u32, b_start_${g}: u32, b_stride_${g}: u32, // tiles of N
  c_start_${g}: u32, c_stride_${g}: u32, bias_start_${g}: u32, bias_dtype_${g}: u32, // in quads; in elements; 3: none
#end
}

@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
#repeat g MEMBERS
@group(0) @binding(${1 + g}) var<storage, read> b${g}: array<vec4<u32>>;
#end
#if SPLIT
@group(0) @binding(${1 + MEMBERS}) var<storage, read_write> c0: array<vec4<f32>>;
@group(0) @binding(${2 + MEMBERS}) var<uniform> p: Params;
#else
#repeat g MEMBERS
@group(0) @binding(${1 + MEMBERS + g}) var<storage, read_write> c${g}: array<vec4<f32>>;
#end
#if BIAS
#repeat g MEMBERS
@group(0) @binding(${1 + 2 * MEMBERS + g}) var<storage, read> bias${g}: array<u32>;
#end
#end
@group(0) @binding(${1 + (2 + BIAS) * MEMBERS}) var<uniform> p: Params;
#end

alias Left = subgroup_matrix_left<f16, TILE_K, TILE_M>;
alias Right = subgroup_matrix_right<f16, TILE_N, TILE_K>;
alias Sum = subgroup_matrix_result<f32, TILE_N, TILE_M>;

const GROUP = 8u; // tiles of M that share what they read of b while it is in the cache
const T = WM * WN * SG;
const FM = BM / WM / TILE_M; // matrices of a subgroup
const FN = BN / WN / TILE_N;

// Staged tiles, in octets of f16: rows along K, or along M or N where the operand lies so. One octet of padding spreads rows over the banks.
const A_WIDTH = select(BK, BM, TRANS_A) / 8u;
const A_ROWS = select(BM, BK, TRANS_A);
const A_LD = A_WIDTH + 1u;
const B_WIDTH = select(BN, BK, TRANS_B) / 8u;
const B_ROWS = select(BK, BN, TRANS_B);
const B_LD = B_WIDTH + 1u;
const A_SIZE = A_ROWS * A_LD;
const STAGE = A_SIZE + B_ROWS * B_LD;
const A_LOADS = (A_ROWS * A_WIDTH + T - 1u) / T;
const B_LOADS = (B_ROWS * B_WIDTH + T - 1u) / T;
// Sums on their way out, in quads of f32: one row of a subgroup's matrices at a time
const OUT_WIDTH = FN * TILE_N / 4u;
const OUT_LD = OUT_WIDTH + 1u;
const OUT_SIZE = TILE_M * OUT_LD;
const SIZE = max(BUFFERS * STAGE, WM * WN * OUT_SIZE);
var<workgroup> memory: array<vec4<u32>, SIZE>;

// What an invocation stages of a and of b: octets, of a in f32 two quads each
struct LoadedA {
#repeat i A_LOADS * (1 + A_F32)
  r${i}: vec4<u32>,
#end
}
struct LoadedB {
#repeat i B_LOADS
  r${i}: vec4<u32>,
#end
}

#if A_F32
fn quad_a(row: u32, k: u32) -> vec4<u32> {
  if (row >= p.M || k >= p.K) { return vec4<u32>(0u); }
  return select(vec4<u32>(0u), a[p.a_start + row * p.a_stride + k / 4u], vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(p.K));
}
fn halves(low: vec4<u32>, high: vec4<u32>) -> vec4<u32> {
  let x = bitcast<vec4<f32>>(low);
  let y = bitcast<vec4<f32>>(high);
  return vec4<u32>(pack2x16float(x.xy), pack2x16float(x.zw), pack2x16float(y.xy), pack2x16float(y.zw));
}
#end

fn fetch_a(m0: u32, k0: u32, t: u32) -> LoadedA {
  var r: LoadedA;
#repeat i A_LOADS
  {
    let u = min(${i}u * T + t, A_ROWS * A_WIDTH - 1u);
    let row = u / A_WIDTH;
    let octet = u % A_WIDTH;
#if A_F32
    r.r${2 * i} = quad_a(m0 + row, k0 + octet * 8u);
    r.r${2 * i + 1} = quad_a(m0 + row, k0 + octet * 8u + 4u);
#else
    r.r${i} = a[p.a_start + (select(m0, k0, TRANS_A) + row) * p.a_stride + select(k0, m0, TRANS_A) / 8u + octet];
#end
  }
#end
  return r;
}

// The operand and the columns of one member; `first` is its first column among those of all members
struct Member { index: u32, n0: u32, first: u32, N: u32, b_start: u32, b_stride: u32 }

fn member_at(tile: u32) -> Member {
  var rest = tile;
#repeat g MEMBERS - 1
  if (rest < p.tiles_${g}) { return Member(${g}u, rest * BN, tile * BN, p.N_${g}, p.b_start_${g}, p.b_stride_${g}); }
  rest -= p.tiles_${g};
#end
  return Member(${MEMBERS - 1}u, rest * BN, tile * BN, p.N_${MEMBERS - 1}, p.b_start_${MEMBERS - 1}, p.b_stride_${MEMBERS - 1});
}

fn octet_b(index: u32, at: u32) -> vec4<u32> {
#repeat g MEMBERS - 1
  if (index == ${g}u) { return b${g}[at]; }
#end
  return b${MEMBERS - 1}[at];
}

fn fetch_b(one: Member, k0: u32, t: u32) -> LoadedB {
  var r: LoadedB;
#repeat i B_LOADS
  {
    let u = min(${i}u * T + t, B_ROWS * B_WIDTH - 1u);
    let row = select(k0, one.n0, TRANS_B) + u / B_WIDTH;
    r.r${i} = octet_b(one.index, one.b_start + row * one.b_stride + select(one.n0, k0, TRANS_B) / 8u + u % B_WIDTH);
  }
#end
  return r;
}

fn put_a(r: LoadedA, at: u32, t: u32) {
#repeat i A_LOADS
  {
    let u = ${i}u * T + t;
#if A_F32
    if (u < A_ROWS * A_WIDTH) { memory[at + u / A_WIDTH * A_LD + u % A_WIDTH] = halves(r.r${2 * i}, r.r${2 * i + 1}); }
#else
    if (u < A_ROWS * A_WIDTH) { memory[at + u / A_WIDTH * A_LD + u % A_WIDTH] = r.r${i}; }
#end
  }
#end
}
fn put_b(r: LoadedB, at: u32, t: u32) {
#repeat i B_LOADS
  {
    let u = ${i}u * T + t;
    if (u < B_ROWS * B_WIDTH) { memory[at + A_SIZE + u / B_WIDTH * B_LD + u % B_WIDTH] = r.r${i}; }
  }
#end
}

#if !SPLIT
// Adds a quad of a chunk's sums to c, and the bias behind the last chunk
fn add_to(one: Member, m: u32, n: u32, sum: vec4<f32>, add: bool, last: bool) {
#repeat g MEMBERS
  if (one.index == ${g}u) {
    let at = p.c_start_${g} + m * p.c_stride_${g} + n / 4u;
    var value = sum;
    if (add) { value = c${g}[at] + value; }
#if BIAS
    if (last && p.bias_dtype_${g} != 3u) { value += bias_quad_${g}(n); }
#end
    c${g}[at] = value;
  }
#end
}
#end

@compute @workgroup_size(T)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) t: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let tile = p.first_tile + wg.y * grid.x + wg.x;
  if (tile >= p.end_tile) { return; }
  let group = tile / (GROUP * p.tiles_n);
  let high = min(GROUP, p.tiles_m - group * GROUP);
  let in_group = tile - group * GROUP * p.tiles_n;
  let m0 = (group * GROUP + in_group % high) * BM;
  let one = member_at(in_group / high);
  let sm = subgroup / WN * (FM * TILE_M);
  let sn = subgroup % WN * (FN * TILE_N);

  let chunks = (p.K + p.chunk - 1u) / p.chunk;
  let chunk_end = min(chunks, (wg.z + 1u) * p.slice);
  for (var chunk = wg.z * p.slice; chunk < chunk_end; chunk++) {
#repeat i FM
#repeat j FN
    var sum_${i}_${j} = Sum();
#end
#end
    let k_first = chunk * p.chunk;
    let k_end = min(p.K, k_first + p.chunk);
    var from_a = fetch_a(m0, k_first, t);
    var from_b = fetch_b(one, k_first, t);
    var stage = 0u;
    for (var k = k_first; k < k_end; k += BK) {
      put_a(from_a, stage, t);
      put_b(from_b, stage, t);
      workgroupBarrier();
      // what comes next is on its way while this is multiplied
      if (k + BK < k_end) {
        from_a = fetch_a(m0, k + BK, t);
        from_b = fetch_b(one, k + BK, t);
      }
      for (var kk = 0u; kk < BK; kk += TILE_K) {
#repeat i FM
#if TRANS_A
        let left_${i} = subgroupMatrixLoad<Left, col_major>(&memory, stage + kk * A_LD + (sm + ${i}u * TILE_M) / 8u, A_LD);
#else
        let left_${i} = subgroupMatrixLoad<Left, row_major>(&memory, stage + (sm + ${i}u * TILE_M) * A_LD + kk / 8u, A_LD);
#end
#end
#repeat j FN
#if TRANS_B
        let right_${j} = subgroupMatrixLoad<Right, col_major>(&memory, stage + A_SIZE + (sn + ${j}u * TILE_N) * B_LD + kk / 8u, B_LD);
#else
        let right_${j} = subgroupMatrixLoad<Right, row_major>(&memory, stage + A_SIZE + kk * B_LD + (sn + ${j}u * TILE_N) / 8u, B_LD);
#end
#repeat i FM
        sum_${i}_${j} = subgroupMatrixMultiplyAccumulate(left_${i}, right_${j}, sum_${i}_${j});
#end
#end
      }
      if (BUFFERS == 2u) { stage = STAGE - stage; } else { workgroupBarrier(); }
    }

#if SPLIT
    let at = chunk * p.plane + (m0 + sm) * p.c_stride_0 + (one.first + sn) / 4u;
#repeat i FM
#repeat j FN
    subgroupMatrixStore<row_major>(&c0, at + ${i}u * TILE_M * p.c_stride_0 + ${j}u * TILE_N / 4u, sum_${i}_${j}, p.c_stride_0);
#end
#end
    if (BUFFERS == 2u) { workgroupBarrier(); } // before the next chunk is staged
#else
#repeat i FM
    workgroupBarrier();
#repeat j FN
    subgroupMatrixStore<row_major>(&memory, subgroup * OUT_SIZE + ${j}u * (TILE_N / 4u), sum_${i}_${j}, OUT_LD);
#end
    workgroupBarrier();
    for (var e = lane; e < TILE_M * OUT_WIDTH; e += SG) {
      let m = m0 + sm + ${i}u * TILE_M + e / OUT_WIDTH;
      let n = one.n0 + sn + e % OUT_WIDTH * 4u;
      let sum = bitcast<vec4<f32>>(memory[subgroup * OUT_SIZE + e / OUT_WIDTH * OUT_LD + e % OUT_WIDTH]);
      if (m < p.M && n < one.N) { add_to(one, m, n, sum, chunk > 0u || p.accumulate != 0u, chunk == chunks - 1u); }
    }
#end
    workgroupBarrier();
#end
  }
}
