// matmul_matrix: c[M, N] (= or +=) op(a)[M, K] op(b)[K, N] + bias[N] by subgroup matrices, f16 x f16 -> f32
//
// Shapes    a [M, K], or [K, M] if TRANS_A; b [K, N], or [N, K] if TRANS_B; both f16, zero-padded by matmul_pack to multiples of 128, so that
//           tiles need no edges; but if A_F32, a is [M, K] f32 as it lies, rounded as it is staged. c [M, N] f32; bias [1, N]
// Prologue  TILE_M, TILE_N, TILE_K: the adapter's shape; SG: size of subgroups. BM x BN: tile of a workgroup, of WM x WN subgroups;
//           BK: depth staged at once, divides 128; BUFFERS: 1, or 2 so that a step needs one barrier instead of two.
//           SPLIT: chunk sums go to c as [chunks, rows, columns], padded to tiles, for matmul_sum
// Dispatch  x, y: tiles, folded; z: slices of `slice` chunks. WM * WN * SG invocations
// Order     (((old c or 0) + chunk 0) + chunk 1) + ... + bias; a chunk is 2048 of K, accumulated from 0 by the matrix unit, TILE_K at a time in order.
//           Neither tile, split nor M changes it.
// Numerics  f16 operands, to nearest even; products and sums in f32 as the matrix unit makes them
// Limits    no subgroup arithmetic here: a driver crashes on a module that has both. Workgroup memory: see SIZE
// Source    staging through registers, and vec4<u32> memory under f16 matrices, as NVIDIA's vk_cooperative_matrix_perf

#include lib/bias_quad

struct Params {
  M: u32, N: u32, K: u32, tiles_m: u32, tiles_n: u32, slice: u32,
  a_start: u32, a_stride: u32, b_start: u32, b_stride: u32, // in 16 bytes
  c_start: u32, c_stride: u32, plane: u32,                  // in quads; plane: from one chunk's sums to the next one's
  bias_start: u32, bias_dtype: u32, accumulate: u32,        // bias_start in elements; bias_dtype 3: none
}

@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> bias: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> p: Params;

alias Left = subgroup_matrix_left<f16, TILE_K, TILE_M>;
alias Right = subgroup_matrix_right<f16, TILE_N, TILE_K>;
alias Sum = subgroup_matrix_result<f32, TILE_N, TILE_M>;

const CHUNK = 2048u;
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
const A_REGS = select(A_LOADS, 2u * A_LOADS, A_F32);
const B_REGS = (B_ROWS * B_WIDTH + T - 1u) / T;
// Sums on their way out, in quads of f32: one row of a subgroup's matrices at a time
const OUT_WIDTH = FN * TILE_N / 4u;
const OUT_LD = OUT_WIDTH + 1u;
const OUT_SIZE = TILE_M * OUT_LD;
const SIZE = max(BUFFERS * STAGE, WM * WN * OUT_SIZE);
var<workgroup> memory: array<vec4<u32>, SIZE>;

fn fetch_a(r: ptr<function, array<vec4<u32>, A_REGS>>, m0: u32, k0: u32, t: u32) {
  for (var i = 0u; i < A_LOADS; i++) {
    let u = min(i * T + t, A_ROWS * A_WIDTH - 1u);
    let row = u / A_WIDTH;
    let octet = u % A_WIDTH;
    if (A_F32) {
      let k = k0 + octet * 8u;
      var low = vec4<u32>(0u);
      var high = vec4<u32>(0u);
      if (m0 + row < p.M) {
        let at = p.a_start + (m0 + row) * p.a_stride + k / 4u;
        if (k < p.K) { low = select(vec4<u32>(0u), a[at], vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(p.K)); }
        if (k + 4u < p.K) { high = select(vec4<u32>(0u), a[at + 1u], vec4<u32>(k + 4u, k + 5u, k + 6u, k + 7u) < vec4<u32>(p.K)); }
      }
      (*r)[2u * i] = low;
      (*r)[2u * i + 1u] = high;
    } else if (TRANS_A) {
      (*r)[i] = a[p.a_start + (k0 + row) * p.a_stride + m0 / 8u + octet];
    } else {
      (*r)[i] = a[p.a_start + (m0 + row) * p.a_stride + k0 / 8u + octet];
    }
  }
}
fn fetch_b(r: ptr<function, array<vec4<u32>, B_REGS>>, n0: u32, k0: u32, t: u32) {
  for (var i = 0u; i < B_REGS; i++) {
    let u = min(i * T + t, B_ROWS * B_WIDTH - 1u);
    let row = u / B_WIDTH;
    let octet = u % B_WIDTH;
    if (TRANS_B) {
      (*r)[i] = b[p.b_start + (n0 + row) * p.b_stride + k0 / 8u + octet];
    } else {
      (*r)[i] = b[p.b_start + (k0 + row) * p.b_stride + n0 / 8u + octet];
    }
  }
}

fn halves(v: vec4<u32>) -> vec2<u32> {
  let x = bitcast<vec4<f32>>(v);
  return vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw));
}
fn put_a(r: ptr<function, array<vec4<u32>, A_REGS>>, at: u32, t: u32) {
  for (var i = 0u; i < A_LOADS; i++) {
    let u = i * T + t;
    if (u < A_ROWS * A_WIDTH) {
      var v: vec4<u32>;
      if (A_F32) { v = vec4<u32>(halves((*r)[2u * i]), halves((*r)[2u * i + 1u])); } else { v = (*r)[i]; }
      memory[at + u / A_WIDTH * A_LD + u % A_WIDTH] = v;
    }
  }
}
fn put_b(r: ptr<function, array<vec4<u32>, B_REGS>>, at: u32, t: u32) {
  for (var i = 0u; i < B_REGS; i++) {
    let u = i * T + t;
    if (u < B_ROWS * B_WIDTH) { memory[at + A_SIZE + u / B_WIDTH * B_LD + u % B_WIDTH] = (*r)[i]; }
  }
}

@compute @workgroup_size(T)
fn main(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) t: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let tile = wg.y * grid.x + wg.x;
  if (tile >= p.tiles_m * p.tiles_n) { return; }
  let group = tile / (GROUP * p.tiles_n);
  let high = min(GROUP, p.tiles_m - group * GROUP);
  let in_group = tile - group * GROUP * p.tiles_n;
  let m0 = (group * GROUP + in_group % high) * BM;
  let n0 = in_group / high * BN;
  let sm = subgroup / WN * (FM * TILE_M);
  let sn = subgroup % WN * (FN * TILE_N);

  var sums: array<Sum, FM * FN>;
  var ra: array<vec4<u32>, A_REGS>;
  var rb: array<vec4<u32>, B_REGS>;
  let chunks = (p.K + CHUNK - 1u) / CHUNK;
  let chunk_end = min(chunks, (wg.z + 1u) * p.slice);
  for (var chunk = wg.z * p.slice; chunk < chunk_end; chunk++) {
    for (var i = 0u; i < FM * FN; i++) { sums[i] = Sum(); }
    let k_first = chunk * CHUNK;
    let k_end = min(p.K, k_first + CHUNK);
    fetch_a(&ra, m0, k_first, t);
    fetch_b(&rb, n0, k_first, t);
    var stage = 0u;
    for (var k = k_first; k < k_end; k += BK) {
      put_a(&ra, stage, t);
      put_b(&rb, stage, t);
      workgroupBarrier();
      // what comes next is on its way while this is multiplied
      if (k + BK < k_end) {
        fetch_a(&ra, m0, k + BK, t);
        fetch_b(&rb, n0, k + BK, t);
      }
      for (var kk = 0u; kk < BK; kk += TILE_K) {
        var left: array<Left, FM>;
        for (var i = 0u; i < FM; i++) {
          let row = sm + i * TILE_M;
          if (TRANS_A) {
            left[i] = subgroupMatrixLoad<Left, col_major>(&memory, stage + kk * A_LD + row / 8u, A_LD);
          } else {
            left[i] = subgroupMatrixLoad<Left, row_major>(&memory, stage + row * A_LD + kk / 8u, A_LD);
          }
        }
        for (var j = 0u; j < FN; j++) {
          let column = sn + j * TILE_N;
          var right: Right;
          if (TRANS_B) {
            right = subgroupMatrixLoad<Right, col_major>(&memory, stage + A_SIZE + column * B_LD + kk / 8u, B_LD);
          } else {
            right = subgroupMatrixLoad<Right, row_major>(&memory, stage + A_SIZE + kk * B_LD + column / 8u, B_LD);
          }
          for (var i = 0u; i < FM; i++) { sums[i * FN + j] = subgroupMatrixMultiplyAccumulate(left[i], right, sums[i * FN + j]); }
        }
      }
      if (BUFFERS == 2u) { stage = STAGE - stage; } else { workgroupBarrier(); }
    }

    if (SPLIT) {
      for (var i = 0u; i < FM * FN; i++) {
        let at = chunk * p.plane + (m0 + sm + i / FN * TILE_M) * p.c_stride + (n0 + sn + i % FN * TILE_N) / 4u;
        subgroupMatrixStore<row_major>(&c, p.c_start + at, sums[i], p.c_stride);
      }
      if (BUFFERS == 2u) { workgroupBarrier(); } // before the next chunk is staged
    } else {
      let add = chunk > 0u || p.accumulate != 0u;
      let with_bias = chunk == chunks - 1u && p.bias_dtype != 3u;
      for (var i = 0u; i < FM; i++) {
        workgroupBarrier();
        for (var j = 0u; j < FN; j++) {
          subgroupMatrixStore<row_major>(&memory, subgroup * OUT_SIZE + j * (TILE_N / 4u), sums[i * FN + j], OUT_LD);
        }
        workgroupBarrier();
        for (var e = lane; e < TILE_M * OUT_WIDTH; e += SG) {
          let m = m0 + sm + i * TILE_M + e / OUT_WIDTH;
          let n = n0 + sn + e % OUT_WIDTH * 4u;
          if (m < p.M && n < p.N) {
            var value = bitcast<vec4<f32>>(memory[subgroup * OUT_SIZE + e / OUT_WIDTH * OUT_LD + e % OUT_WIDTH]);
            let at = p.c_start + m * p.c_stride + n / 4u;
            if (add) { value = c[at] + value; }
            if (with_bias) { value += bias_quad(n); }
            c[at] = value;
          }
        }
      }
      workgroupBarrier();
    }
  }
}
