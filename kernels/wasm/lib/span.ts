// How element-wise kernels are cut into work items, and how rows of any width meet 4-lane vectors.
//
// Split      A span is some whole rows of about SPAN elements or, where one row is longer, a piece of one row. It depends on the
//            shape of one storage only, so neither threads nor shards change what is computed together.
// Tails      The last 1-3 elements of a run go through the same vector arithmetic as the others (loadTail, storeTail), so that an
//            element's bits do not depend on where in a run it lies. Nothing outside the storage is read or written.
import { rowsOf, colsOf } from "./call";

export const SPAN: i32 = 16384;

// @ts-ignore: decorator
@inline function pieces(t: usize): i32 { return (colsOf(t) + SPAN - 1) / SPAN; }
/** Whole rows of about SPAN elements: what rows that are done one by one are cut into, since waking a thread costs more than less than that. */
// @ts-ignore: decorator
@inline export function rowsPerSpan(t: usize): i32 { return max(1, SPAN / max(1, colsOf(t))); }

/** Number of spans of a storage; a storage of no columns has none. */
export function spanItems(t: usize): i32 {
  if (colsOf(t) > SPAN) return rowsOf(t) * pieces(t);
  return colsOf(t) == 0 ? 0 : (rowsOf(t) + rowsPerSpan(t) - 1) / rowsPerSpan(t);
}
export function spanRow(t: usize, item: i32): i32 { return colsOf(t) > SPAN ? item / pieces(t) : item * rowsPerSpan(t); }
export function spanEndRow(t: usize, item: i32): i32 { return colsOf(t) > SPAN ? item / pieces(t) + 1 : min(rowsOf(t), (item + 1) * rowsPerSpan(t)); }
export function spanCol(t: usize, item: i32): i32 { return colsOf(t) > SPAN ? (item % pieces(t)) * SPAN : 0; }
export function spanCols(t: usize, item: i32): i32 { return colsOf(t) > SPAN ? min(SPAN, colsOf(t) - (item % pieces(t)) * SPAN) : colsOf(t); }

/** n = 1..3 floats at p in the low lanes, zeros above. */
// @ts-ignore: decorator
@inline export function loadTail(p: usize, n: i32): v128 {
  let v = f32x4.replace_lane(f32x4.splat(0), 0, load<f32>(p));
  if (n > 1) v = f32x4.replace_lane(v, 1, load<f32>(p, 4));
  if (n > 2) v = f32x4.replace_lane(v, 2, load<f32>(p, 8));
  return v;
}
/** The low n = 1..3 lanes of v to p. */
// @ts-ignore: decorator
@inline export function storeTail(p: usize, v: v128, n: i32): void {
  store<f32>(p, f32x4.extract_lane(v, 0));
  if (n > 1) store<f32>(p, f32x4.extract_lane(v, 1), 4);
  if (n > 2) store<f32>(p, f32x4.extract_lane(v, 2), 8);
}
