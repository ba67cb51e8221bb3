// What kernels of attention by subgroup matrices share. They need D, BM, WN (subgroups that share a matrix of rows), SG, TILE_M, TILE_N and
// TILE_K, and `memory` of 16 bytes each: STAGE of them for what is staged, then scores of BM rows by 64; later sums over both

alias Left = subgroup_matrix_left<f16, TILE_K, TILE_M>;
alias Right = subgroup_matrix_right<f16, TILE_N, TILE_K>;
alias Sum = subgroup_matrix_result<f32, TILE_N, TILE_M>;

const LOG2E: f32 = 1.4426950408889634;
const NAN_BITS = 0x7fc00000u;
const T = BM / TILE_M * WN * SG;
const LANES = T / BM; // threads of a row
const QUADS = D / 4u;
const OCTETS = D / 8u;
const WIDTH = (D + max(TILE_K, TILE_N) - 1u) / max(TILE_K, TILE_N) * max(TILE_K, TILE_N); // D, padded
const KEY_QUADS = 16u / LANES; // quads of the 64 columns of scores of a thread
const LD = WIDTH / 8u + 1u; // octets from one staged row to the next: one of padding spreads rows over the banks
const SCORE_LD = 17u; // quads of f32; then octets of f16 at the start of their row
const SCORES = 64u / TILE_N / WN; // matrices of scores, and of columns, of a subgroup
const COLUMNS = WIDTH / TILE_N / WN;
const OUT_LD = WIDTH / 4u + 1u; // quads of f32

fn halves(low: vec4<f32>, high: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}

// Whether any of eight f16 is infinite or NaN
fn not_finite(octet: vec4<u32>) -> bool {
  let low = (octet & vec4<u32>(0x7c00u)) == vec4<u32>(0x7c00u);
  let high = (octet & vec4<u32>(0x7c000000u)) == vec4<u32>(0x7c000000u);
  return any(low | high);
}

// What is staged: rows of a subgroup, which start at row sm; rows j as columns; rows as they lie. And weights, where scores were.
fn rows_at(sm: u32, i: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&memory, sm * LD + i * TILE_K / 8u, LD); }
fn turned_at(i: u32, j: u32) -> Right { return subgroupMatrixLoad<Right, col_major>(&memory, j * TILE_N * LD + i * TILE_K / 8u, LD); }
fn staged_at(i: u32, j: u32) -> Right { return subgroupMatrixLoad<Right, row_major>(&memory, i * TILE_K * LD + j * TILE_N / 8u, LD); }
fn weights_at(sm: u32, i: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&memory, STAGE + sm * SCORE_LD + i * TILE_K / 8u, SCORE_LD);
}
