// accumulate: y += scale * x
//
// Shapes    x [N, C] any float dtype, y [N, C] f32
// Items     one span of y
// Numerics  one (fused) multiply-add an element
import { dim, tensor, colsOf, dtypeOf, rowPtr, contiguousRows, F32 } from "./lib/call";
import { madd } from "./lib/math";
import { toF32, elementBytes } from "./lib/convert";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail, storeTail } from "./lib/span";

export function accumulate_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 1, 1)) : -1; }

export function accumulate_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 1, 0), y = tensor(args, 1, 1), dtype = dtypeOf(x), scale = f32x4.splat(<f32>dim(args, 0));
  const col = <usize>spanCol(y, item), cols = spanCols(y, item), whole = cols == colsOf(y), end = spanEndRow(y, item);
  for (let row = spanRow(y, item); row < end; ) {
    const run = whole ? min(end - row, min(contiguousRows(y, row), contiguousRows(x, row))) : 1;
    const n = run * cols;
    let px = rowPtr(x, row) + col * elementBytes(dtype), py = rowPtr(y, row) + (col << 2);
    if (dtype != F32) { toF32(dtype, px, scratch, n); px = scratch; }
    for (let i = 0; i < (n & ~3); i += 4) { v128.store(py, madd(scale, v128.load(px), v128.load(py))); px += 16; py += 16; }
    if (n & 3) storeTail(py, madd(scale, loadTail(px, n & 3), loadTail(py, n & 3)), n & 3);
    row += run;
  }
}
