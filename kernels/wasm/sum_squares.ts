// sum_squares: acc[slot] = sum x^2
//
// Shapes    x [N, C] f32   acc [1, slots]
// Items     phase 0: a span of x (lib/span.ts), whose sum goes to shared scratch; phase 1: one item adds them in order
// Numerics  f64: four lanes by column modulo 4 over the rows of a span, then spans in order; rounded to f32 once. The order depends on the
//           shape only
import { dimI, tensor, sharedScratch, rowPtr } from "./lib/call";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail } from "./lib/span";

export function sum_squares_scratch(args: usize): usize { return <usize>spanItems(tensor(args, 1, 0)) << 3; }
export function sum_squares_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 1, 0)) : phase == 1 ? 1 : -1; }

export function sum_squares_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 1, 0), sums = sharedScratch(args);
  if (phase == 1) {
    let sum: f64 = 0;
    for (let i = 0; i < spanItems(x); i++) sum += load<f64>(sums + (<usize>i << 3));
    store<f32>(rowPtr(tensor(args, 1, 1), 0) + (<usize>dimI(args, 0) << 2), <f32>sum);
    return;
  }
  const col = <usize>spanCol(x, item) << 2, cols = spanCols(x, item), end = spanEndRow(x, item), tail = cols & 3;
  let low = f64x2.splat(0), high = low;
  for (let row = spanRow(x, item); row < end; row++) {
    let p = rowPtr(x, row) + col;
    for (let c = tail; c < cols; c += 4) {
      const a = v128.load(p), lo = f64x2.promote_low_f32x4(a), hi = f64x2.promote_low_f32x4(v128.shuffle<f32>(a, a, 2, 3, 2, 3));
      low = f64x2.add(low, f64x2.mul(lo, lo));
      high = f64x2.add(high, f64x2.mul(hi, hi));
      p += 16;
    }
    if (tail) {
      const a = loadTail(p, tail), lo = f64x2.promote_low_f32x4(a), hi = f64x2.promote_low_f32x4(v128.shuffle<f32>(a, a, 2, 3, 2, 3));
      low = f64x2.add(low, f64x2.mul(lo, lo));
      high = f64x2.add(high, f64x2.mul(hi, hi));
    }
  }
  low = f64x2.add(low, high);
  store<f64>(sums + (<usize>item << 3), f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1));
}
