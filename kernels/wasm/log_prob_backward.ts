// With g = dLogProb, h = dEntropy, p = e^(z - lse):
//   dz[v] = (g (1[v = target] - p[v]) - h p[v] (z[v] - lse + entropy)) / temperature
//   dhidden = dz weight;  dweight += dz^T hidden
//
// Shapes     hidden, dhidden [N, C] f32; weight [V, C] f32, f16 or bf16; dweight [V, C] f32, may be absent; the rest vectors of N. A row whose g and h
//            are 0 has no say, whatever its other values.
// Numerics   Logits are recomputed with the bits of the forward pass. dhidden is summed over V, dweight over N, in chunks of 256 in
//            order, as `matmul` would: it depends on no blocking and no number of threads.
// Phases     for every block of V (whose dz of ROWS rows and whose panels fit the scratch): pack its weight in both orientations; then
//            for every ROWS rows: dz into scratch, and hidden packed; dhidden and dweight from them.
// Scratch    dz [ROWS][block], panels of hidden^T, of weight and (unless the device keeps them) of weight^T.
import { dim, tensor, sharedScratch, rowsOf, colsOf, rowPtr } from "./lib/call";
import { NR, KC, PACK_PANELS, K_SPAN, GEMM_TMP_BYTES, align64, panelCount, packSpans, rowBlock, describe, packA, packB } from "./lib/pack";
import { gemmChunk } from "./lib/gemm";
import { madd, exp4, exp1 } from "./lib/math";
import { packWeight, packRows, logits } from "./log_prob";

// rows whose dz exists at once: a multiple of KC
const ROWS: i32 = 512;
// columns of one item's logits
const COLUMNS: i32 = 512;
const PANEL_BYTES: i32 = 32 << 20;
const DZ_BYTES: i32 = 32 << 20;
const OWN_A_BYTES: i32 = 2 << 20;

// @ts-ignore: decorator
@inline function hiddenOf(args: usize): usize { return tensor(args, 1, 0); }
// @ts-ignore: decorator
@inline function weightOf(args: usize): usize { return tensor(args, 1, 1); }
// @ts-ignore: decorator
@inline function cached(args: usize): u32 { return load<u32>(weightOf(args), 28); }
// @ts-ignore: decorator
@inline function blocks(n: i32, size: i32): i32 { return (n + size - 1) / size; }

// vocabulary entries in one block of phases: a multiple of COLUMNS, and so of KC
function vocabularyBlock(args: usize): i32 {
  const V = rowsOf(weightOf(args)), C = colsOf(weightOf(args));
  const fit = min(DZ_BYTES / (ROWS * 4), PANEL_BYTES / (C * 4));
  return min(blocks(V, COLUMNS), max(1, fit / COLUMNS)) * COLUMNS;
}
// @ts-ignore: decorator
@inline function chunkRows(args: usize): i32 { return min(ROWS, rowsOf(hiddenOf(args))); }

// @ts-ignore: decorator
@inline function dzBytes(args: usize): usize { return align64(<usize>chunkRows(args) * <usize>vocabularyBlock(args) << 2); }
// @ts-ignore: decorator
@inline function hiddenPanelsBytes(args: usize): usize { return align64(<usize>panelCount(colsOf(hiddenOf(args))) * NR * <usize>chunkRows(args) << 2); }
// @ts-ignore: decorator
@inline function weightPanelsBytes(args: usize): usize { return align64(<usize>panelCount(colsOf(hiddenOf(args))) * NR * <usize>vocabularyBlock(args) << 2); }

export function log_prob_backward_scratch(args: usize): usize {
  const transposed: usize = cached(args) != 0 ? 0 : <usize>vocabularyBlock(args) * <usize>colsOf(weightOf(args)) << 2;
  return dzBytes(args) + hiddenPanelsBytes(args) + weightPanelsBytes(args) + transposed;
}

// Phases of one vocabulary block: packing, then two for each chunk of rows.
// @ts-ignore: decorator
@inline function phasesPerBlock(N: i32): i32 { return 1 + 2 * blocks(N, ROWS); }

// 0: pack the weight; 1: dz, and hidden packed; 2: dhidden and dweight
function stepOf(N: i32, phase: i32): i32 { const step = phase % phasesPerBlock(N); return step == 0 ? 0 : 2 - (step & 1); }
function firstRow(N: i32, phase: i32): i32 { const step = phase % phasesPerBlock(N); return step == 0 ? 0 : (step - 1) / 2 * ROWS; }
function firstEntry(args: usize, phase: i32): i32 { return phase / phasesPerBlock(rowsOf(hiddenOf(args))) * vocabularyBlock(args); }

function transposedItems(args: usize, columns: i32): i32 { return (cached(args) & 1) != 0 ? 0 : packItems(columns, colsOf(weightOf(args))); }
// items of packing an op(B) of n columns and K rows
// @ts-ignore: decorator
@inline function packItems(n: i32, K: i32): i32 { return blocks(panelCount(n), PACK_PANELS) * packSpans(K); }
function dzRows(rows: i32, C: i32): i32 { return rowBlock(rows, max(5, min(130, OWN_A_BYTES / (C * 4)) / 5 * 5)); }
// @ts-ignore: decorator
@inline function dhiddenRows(rows: i32): i32 { return rowBlock(rows, 65); }
// @ts-ignore: decorator
@inline function dweightRows(columns: i32): i32 { return rowBlock(columns, 120); }

export function log_prob_backward_items(args: usize, phase: i32): i32 {
  const N = rowsOf(hiddenOf(args)), V = rowsOf(weightOf(args)), C = colsOf(hiddenOf(args));
  const v0 = firstEntry(args, phase);
  if (v0 >= V) return -1;
  const columns = min(vocabularyBlock(args), V - v0), rows = min(ROWS, N - firstRow(N, phase)), step = stepOf(N, phase);
  if (step == 0) return transposedItems(args, columns) + packItems(C, columns);
  if (step == 1) return packItems(C, rows) + blocks(rows, dzRows(rows, C)) * blocks(columns, COLUMNS);
  return blocks(rows, dhiddenRows(rows)) + (tensor(args, 1, 8) == 0 ? 0 : blocks(columns, dweightRows(columns)));
}

export function log_prob_backward_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const hidden = hiddenOf(args), weight = weightOf(args);
  const N = rowsOf(hidden), V = rowsOf(weight), C = colsOf(hidden);
  const v0 = firstEntry(args, phase), columns = min(vocabularyBlock(args), V - v0), step = stepOf(N, phase);
  const row0 = firstRow(N, phase), rows = min(ROWS, N - row0);
  const dz = sharedScratch(args), hiddenPanels = dz + dzBytes(args), weightPanels = hiddenPanels + hiddenPanelsBytes(args);
  const kept = <usize>(cached(args) & ~1);
  const transposed = kept != 0 ? kept + <usize>v0 * <usize>C * 4 : weightPanels + weightPanelsBytes(args);
  const view = scratch + GEMM_TMP_BYTES - 64;
  describe(view, dz, rows, columns);

  if (step == 0) {
    const first = transposedItems(args, columns);
    if (item < first) packWeight(weight, item, v0 / NR, transposed, scratch);
    else packRowsAsB(weightPanels, weight, item - first, v0, columns, scratch);
  } else if (step == 1) {
    const first = packItems(C, rows);
    if (item < first) packRowsAsB(hiddenPanels, hidden, item, row0, rows, scratch);
    else dzTile(args, item - first, v0, columns, row0, rows, transposed, view, scratch);
  } else {
    const first = blocks(rows, dhiddenRows(rows));
    if (item < first) product(view, false, item * dhiddenRows(rows), rows, dhiddenRows(rows), columns, weightPanels, tensor(args, 1, 7), row0, C, v0 > 0, scratch);
    else product(view, true, (item - first) * dweightRows(columns), columns, dweightRows(columns), rows, hiddenPanels, tensor(args, 1, 8), v0, C, true, scratch);
  }
}

// Item of packing rows k0.. of t [.., C] as an op(B) of C columns and K rows.
function packRowsAsB(panels: usize, t: usize, item: i32, k0: i32, K: i32, scratch: usize): void {
  const C = colsOf(t), spans = packSpans(K);
  const p0 = item / spans * PACK_PANELS, p1 = min(p0 + PACK_PANELS, panelCount(C));
  for (let k = item % spans * K_SPAN, end = min(K, k + K_SPAN); k < end; k += KC) {
    packB(panels + (<usize>p0 * <usize>K * NR << 2), t, false, C, K, p0, p1, k, min(KC, K - k), scratch, k0);
  }
}

// Rows from `from` on of c (its row `cRow` is row 0 of op(a)), C columns wide: (= or +=) op(a)[.., K] times the panels.
function product(a: usize, trans: bool, from: i32, all: i32, most: i32, K: i32, panels: usize, c: usize, cRow: i32, C: i32, add: bool, scratch: usize): void {
  const rows = min(most, all - from), packed = scratch + GEMM_TMP_BYTES;
  for (let k = 0; k < K; k += KC) {
    const kc = min(KC, K - k);
    packA(packed, a, trans, from, rows, k, kc, scratch);
    gemmChunk(packed, rows, kc, panels + (<usize>(k * NR) << 2), <usize>K * NR << 2, 0, panelCount(C), 0, C, c, cRow + from, add || k > 0, scratch);
  }
}

function dzTile(args: usize, item: i32, v0: i32, columns: i32, row0: i32, rows: i32, transposed: usize, view: usize, scratch: usize): void {
  const hidden = hiddenOf(args), C = colsOf(hidden), V = rowsOf(weightOf(args));
  const blockRows = dzRows(rows, C), across = blocks(columns, COLUMNS);
  const from = item / across * blockRows, height = min(blockRows, rows - from);
  const column = item % across * COLUMNS, width = min(COLUMNS, columns - column);
  const a = scratch + GEMM_TMP_BYTES;
  packRows(a, hidden, row0 + from, height, scratch);
  const first = v0 / NR, p0 = (v0 + column) / NR;
  logits(a, height, C, V, transposed + <usize>column * <usize>C * 4, p0, panelCount(v0 + column + width), first, view, from, scratch);

  for (let r = from; r < from + height; r++) gradientRow(args, 1, 2, row0 + r, rowPtr(view, r) + (<usize>column << 2), v0 + column, width);
}

/**
 * `width` logits of row n, the first of them that of id `column`, become dlogits in place. The call has `dims` dims, temperature first, and
 * from tensor `first` on: targets, entropy, lse, dLogProb, dEntropy.
 */
function gradientRow(args: usize, dims: i32, first: i32, n: i32, z: usize, column: i32, width: i32): void {
  const at = <usize>n << 2, dEntropy = tensor(args, dims, first + 4);
  const g = load<f32>(rowPtr(tensor(args, dims, first + 3), 0) + at);
  const h: f32 = dEntropy == 0 ? 0 : load<f32>(rowPtr(dEntropy, 0) + at);
  if (g == 0 && h == 0) { memory.fill(z, 0, <usize>width << 2); return; }
  const invTemperature = <f32>1 / <f32>dim(args, 0);
  softmaxGradient(z, width, g, h, load<f32>(rowPtr(tensor(args, dims, first + 2), 0) + at), load<f32>(rowPtr(tensor(args, dims, first + 1), 0) + at), invTemperature);
  const target = load<u32>(rowPtr(tensor(args, dims, first), 0) + at) - <u32>column;
  if (target < <u32>width) store<f32>(z + (<usize>target << 2), load<f32>(z + (<usize>target << 2)) + g * invTemperature);
}

// All of dlogits but what the target adds.
function softmaxGradient(z: usize, n: i32, g: f32, h: f32, lse: f32, entropy: f32, invTemperature: f32): void {
  const scale = f32x4.splat(invTemperature), lse4 = f32x4.splat(lse);
  // p (-(g + h entropy) - h (z - lse))
  const constant = -(g + h * entropy);
  const c4 = f32x4.splat(constant), h4 = f32x4.splat(-h);
  let v = 0;
  let p = z;
  for (; v + 4 <= n; v += 4) {
    const x = f32x4.sub(f32x4.mul(v128.load(p), scale), lse4);
    v128.store(p, f32x4.mul(f32x4.mul(exp4(x), madd(h4, x, c4)), scale));
    p += 16;
  }
  for (; v < n; v++) {
    const x = load<f32>(p) * invTemperature - lse;
    store<f32>(p, exp1(x) * (constant - h * x) * invTemperature);
    p += 4;
  }
}
