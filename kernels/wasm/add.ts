// add: y = a + b
//
// Shapes    a, b, y [N, C] f32
// Items     one span of y
import { tensor, colsOf, rowPtr, contiguousRows } from "./lib/call";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail, storeTail } from "./lib/span";

export function add_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 0, 2)) : -1; }

export function add_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const a = tensor(args, 0, 0), b = tensor(args, 0, 1), y = tensor(args, 0, 2);
  const col = <usize>spanCol(y, item) << 2, cols = spanCols(y, item), whole = cols == colsOf(y), end = spanEndRow(y, item);
  for (let row = spanRow(y, item); row < end; ) {
    const run = whole ? min(end - row, min(contiguousRows(y, row), min(contiguousRows(a, row), contiguousRows(b, row)))) : 1;
    const n = run * cols;
    let pa = rowPtr(a, row) + col, pb = rowPtr(b, row) + col, py = rowPtr(y, row) + col;
    for (let i = 0; i < (n & ~3); i += 4) { v128.store(py, f32x4.add(v128.load(pa), v128.load(pb))); pa += 16; pb += 16; py += 16; }
    if (n & 3) storeTail(py, f32x4.add(loadTail(pa, n & 3), loadTail(pb, n & 3)), n & 3);
    row += run;
  }
}
