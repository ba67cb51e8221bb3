// z = hidden weight^T / temperature;  lse = logsumexp(z);  logProb = z[target] - lse;  entropy = lse - sum p z
//
// Shapes     hidden [N, C] f32, weight [V, C] f32, f16 or bf16, targets u32 and all outputs vectors of N. Never [N, V].
// Numerics   Logits have the bits of `matmul`, statistics the order of lib/log_softmax.ts. A target >= V gives a logProb of NaN.
// Phases     for every block of V whose panels fit V_BLOCK_BYTES: pack the weight; logits of (row block, some 512 columns) in thread
//            scratch, reduced to one Stats per row and 512 columns. Then one phase that merges the Stats of each row.
// Scratch    [N][columns / 512] Stats, [N] target logits, panels of one block (unless the device keeps them).
import { dim, tensor, sharedScratch, rowsOf, colsOf, rowPtr } from "./lib/call";
import { NR, KC, PACK_PANELS, K_SPAN, GEMM_TMP_BYTES, align64, panelCount, packSpans, rowBlock, describe, packA, packB } from "./lib/pack";
import { gemmChunk } from "./lib/gemm";
import { STAT_BLOCK, STATS_BYTES, blockStats, emptyStats, mergeStats, lseOf, entropyOf, logProbOf } from "./lib/log_softmax";

const V_BLOCK_BYTES: i32 = 32 << 20;
const ROWS_PER_MERGE: i32 = 64;
// packed rows of hidden in a thread's scratch
const OWN_A_BYTES: i32 = 2 << 20;

// @ts-ignore: decorator
@inline function hiddenOf(args: usize): usize { return tensor(args, 1, 0); }
// @ts-ignore: decorator
@inline function weightOf(args: usize): usize { return tensor(args, 1, 1); }
// @ts-ignore: decorator
@inline function cached(args: usize): u32 { return load<u32>(weightOf(args), 28); }
// @ts-ignore: decorator
@inline function statBlocks(V: i32): i32 { return (V + STAT_BLOCK - 1) / STAT_BLOCK; }

// Stat blocks of the vocabulary in one block of phases
function blocksTogether(args: usize): i32 {
  const V = rowsOf(weightOf(args)), C = colsOf(weightOf(args));
  if (cached(args) != 0) return statBlocks(V);
  return min(statBlocks(V), max(1, V_BLOCK_BYTES / (C * STAT_BLOCK * 4)));
}
function rowsTogether(N: i32, C: i32): i32 { return rowBlock(N, max(5, min(120, OWN_A_BYTES / (C * 4)) / 5 * 5)); }
// stat blocks of one item: enough items for any number of threads, few enough that packing rows is small beside their product
function blocksPerItem(rowBlocks: i32, here: i32): i32 { return min(here, max(1, rowBlocks * here / 64)); }

// @ts-ignore: decorator
@inline function statsAt(args: usize, n: i32, block: i32): usize {
  return sharedScratch(args) + (<usize>n * <usize>statBlocks(rowsOf(weightOf(args))) + <usize>block) * STATS_BYTES;
}
function targetsAt(args: usize): usize {
  return sharedScratch(args) + align64(<usize>rowsOf(hiddenOf(args)) * <usize>statBlocks(rowsOf(weightOf(args))) * STATS_BYTES);
}
function panelsAt(args: usize): usize { return targetsAt(args) + align64(<usize>rowsOf(hiddenOf(args)) << 2); }

export function log_prob_scratch(args: usize): usize {
  const panels: usize = cached(args) != 0 ? 0 : <usize>blocksTogether(args) * <usize>colsOf(weightOf(args)) * STAT_BLOCK * 4;
  return panelsAt(args) - sharedScratch(args) + panels;
}

export function log_prob_items(args: usize, phase: i32): i32 {
  const N = rowsOf(hiddenOf(args)), V = rowsOf(weightOf(args)), C = colsOf(weightOf(args));
  const all = statBlocks(V), together = blocksTogether(args);
  const first = (phase >> 1) * together;
  if (first >= all) return (phase >> 1) == (all + together - 1) / together && (phase & 1) == 0 ? (N + ROWS_PER_MERGE - 1) / ROWS_PER_MERGE : -1;
  const here = min(together, all - first);
  if ((phase & 1) == 0) return (cached(args) & 1) != 0 ? 0 : here * STAT_BLOCK / NR / PACK_PANELS * packSpans(C);
  const rowBlocks = (N + rowsTogether(N, C) - 1) / rowsTogether(N, C), each = blocksPerItem(rowBlocks, here);
  return rowBlocks * ((here + each - 1) / each);
}

export function log_prob_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const V = rowsOf(weightOf(args)), together = blocksTogether(args);
  const first = (phase >> 1) * together;
  if (first >= statBlocks(V)) { mergeRows(args, item); return; }
  const here = min(together, statBlocks(V) - first);
  const panels = cached(args) != 0 ? <usize>(cached(args) & ~1) : panelsAt(args);
  if ((phase & 1) == 0) packWeight(weightOf(args), item, first * (STAT_BLOCK / NR), panels, scratch);
  else reduceTile(args, item, first, here, panels, scratch);
}

// Item of packing the weight [V, C] as op(B) = weight^T, from panel `first` on.
export function packWeight(weight: usize, item: i32, first: i32, panels: usize, scratch: usize): void {
  const V = rowsOf(weight), C = colsOf(weight), spans = packSpans(C);
  const p0 = item / spans * PACK_PANELS, p1 = min(p0 + PACK_PANELS, panelCount(V) - first);
  if (p0 >= p1) return;
  for (let k = item % spans * K_SPAN, end = min(C, k + K_SPAN); k < end; k += KC) {
    packB(panels + (<usize>p0 * <usize>C * NR << 2), weight, true, V, C, first + p0, first + p1, k, min(KC, C - k), scratch);
  }
}

/** Logits of packed rows (`a`: all K chunks of `rows` rows) and panels p0..p1-1, to rows cRow.. of c, whose column 0 is panel pC. */
export function logits(a: usize, rows: i32, C: i32, V: i32, panels: usize, p0: i32, p1: i32, pC: i32, c: usize, cRow: i32, scratch: usize): void {
  for (let k = 0; k < C; k += KC) {
    gemmChunk(a + (<usize>rows * <usize>k << 2), rows, min(KC, C - k), panels + (<usize>(k * NR) << 2), <usize>C * NR << 2, p0, p1, pC, V, c, cRow, k > 0, scratch);
  }
}
/** All K chunks of some rows of hidden. */
export function packRows(to: usize, hidden: usize, row0: i32, rows: i32, scratch: usize): void {
  const C = colsOf(hidden);
  for (let k = 0; k < C; k += KC) packA(to + (<usize>rows * <usize>k << 2), hidden, false, row0, rows, k, min(KC, C - k), scratch);
}

function reduceTile(args: usize, item: i32, first: i32, here: i32, panels: usize, scratch: usize): void {
  const hidden = hiddenOf(args), targets = rowPtr(tensor(args, 1, 2), 0), targetLogits = targetsAt(args);
  const N = rowsOf(hidden), C = colsOf(hidden), V = rowsOf(weightOf(args));
  const invTemperature = <f32>1 / <f32>dim(args, 0);
  const blockRows = rowsTogether(N, C), each = blocksPerItem((N + blockRows - 1) / blockRows, here);
  const across = (here + each - 1) / each;
  const row0 = item / across * blockRows, rows = min(blockRows, N - row0);
  const a = scratch + GEMM_TMP_BYTES, tile = a + align64(<usize>rows * <usize>C << 2), view = scratch + GEMM_TMP_BYTES - 64;
  packRows(a, hidden, row0, rows, scratch);
  describe(view, tile, rows, STAT_BLOCK);
  for (let block = item % across * each, end = min(here, block + each); block < end; block++) {
    const column = (first + block) * STAT_BLOCK, columns = min(STAT_BLOCK, V - column);
    const p0 = column / NR;
    logits(a, rows, C, V, panels + <usize>(block * (STAT_BLOCK / NR)) * (<usize>C * NR << 2), p0, panelCount(column + columns), p0, view, 0, scratch);
    for (let r = 0; r < rows; r++) {
      const row = tile + (<usize>(r * STAT_BLOCK) << 2);
      blockStats(row, columns, invTemperature, statsAt(args, row0 + r, first + block));
      const target = load<u32>(targets + (<usize>(row0 + r) << 2));
      if (target >= <u32>column && target < <u32>(column + columns)) store<f32>(targetLogits + (<usize>(row0 + r) << 2), load<f32>(row + (<usize>(target - column) << 2)));
    }
  }
}

function mergeRows(args: usize, item: i32): void {
  const N = rowsOf(hiddenOf(args)), V = rowsOf(weightOf(args)), blocks = statBlocks(V);
  const targets = rowPtr(tensor(args, 1, 2), 0), targetLogits = targetsAt(args);
  const logProb = rowPtr(tensor(args, 1, 3), 0), entropy = rowPtr(tensor(args, 1, 4), 0), lse = rowPtr(tensor(args, 1, 5), 0);
  const invTemperature = <f32>1 / <f32>dim(args, 0);
  for (let n = item * ROWS_PER_MERGE, end = min(N, n + ROWS_PER_MERGE); n < end; n++) {
    // merging into an empty Stats copies the first block: the same bits as rowStats
    const stats = statsAt(args, n, 0);
    for (let block = 1; block < blocks; block++) mergeStats(stats, statsAt(args, n, block));
    const at = <usize>n << 2;
    const l = lseOf(stats);
    store<f32>(lse + at, l);
    store<f32>(entropy + at, entropyOf(stats));
    store<f32>(logProb + at, load<u32>(targets + at) < <u32>V ? logProbOf(load<f32>(targetLogits + at), invTemperature, l) : NaN);
  }
}
