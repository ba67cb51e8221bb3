// round: y = x rounded to a storage type and back, what a cache of that type would return
//
// Shapes    x, y [N, C] f32; bits 16 (f16) or 17 (bf16)
// Items     one span of y
// Numerics  to nearest, ties to even; beyond 65504 (f16) to infinity
import { dimI, tensor, colsOf, rowPtr, F16, BF16 } from "./lib/call";
import { toF32, fromF32 } from "./lib/convert";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols } from "./lib/span";

export function round_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 1, 1)) : -1; }

export function round_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 1, 0), y = tensor(args, 1, 1), dtype = dimI(args, 0) == 17 ? BF16 : F16;
  const col = <usize>spanCol(y, item) << 2, n = spanCols(y, item), end = spanEndRow(y, item);
  for (let row = spanRow(y, item); row < end; row++) {
    fromF32(dtype, rowPtr(x, row) + col, scratch, n);
    toF32(dtype, scratch, rowPtr(y, row) + col, n);
  }
}
