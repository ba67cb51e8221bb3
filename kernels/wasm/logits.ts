// The two halves of log_prob and log_prob_backward that are left when another library computes the matrix products: the same formulas
// over rows of logits that exist. Not in the table of kernels: only src/device/cpu/blas.ts calls them.
//
// reduce_logits     dims temperature, firstRow; in: logits [R, V], targets; out: logProb, entropy, lse (vectors of N, rows firstRow..)
// logits_gradient   dims temperature, firstRow; in: targets, entropy, lse, dLogProb, dEntropy?; inout: logits [R, V], which become dlogits
// Items      a few rows
import { dim, dimI, tensor, rowsOf, colsOf, rowPtr } from "./lib/call";
import { rowStats, lseOf, entropyOf, logProbOf } from "./lib/log_softmax";
import { gradientRow } from "./log_prob_backward";

const ROWS: i32 = 8;
// @ts-ignore: decorator
@inline function items(logits: usize): i32 { return (rowsOf(logits) + ROWS - 1) / ROWS; }

export function reduce_logits_items(args: usize, phase: i32): i32 { return phase == 0 ? items(tensor(args, 2, 0)) : -1; }
export function reduce_logits_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const logits = tensor(args, 2, 0), V = colsOf(logits);
  const inverse = <f32>1 / <f32>dim(args, 0);
  for (let r = item * ROWS, end = min(rowsOf(logits), r + ROWS); r < end; r++) {
    const at = <usize>(dimI(args, 1) + r) << 2, row = rowPtr(logits, r);
    rowStats(row, V, inverse, scratch);
    const lse = lseOf(scratch), target = load<u32>(rowPtr(tensor(args, 2, 1), 0) + at);
    store<f32>(rowPtr(tensor(args, 2, 2), 0) + at, target < <u32>V ? logProbOf(load<f32>(row + (<usize>target << 2)), inverse, lse) : NaN);
    store<f32>(rowPtr(tensor(args, 2, 3), 0) + at, entropyOf(scratch));
    store<f32>(rowPtr(tensor(args, 2, 4), 0) + at, lse);
  }
}

export function logits_gradient_items(args: usize, phase: i32): i32 { return phase == 0 ? items(tensor(args, 2, 5)) : -1; }
export function logits_gradient_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const logits = tensor(args, 2, 5);
  for (let r = item * ROWS, end = min(rowsOf(logits), r + ROWS); r < end; r++) {
    gradientRow(args, 2, 0, dimI(args, 1) + r, rowPtr(logits, r), 0, colsOf(logits));
  }
}
