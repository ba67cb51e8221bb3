// fill: y = value
//
// Shapes    y [N, C], any dtype: u32 stores the integer, f16 and bf16 the nearest value
// Items     one span of y (lib/span.ts)
// Numerics  exact up to the storage type
import { dim, tensor, colsOf, dtypeOf, rowPtr, contiguousRows, F16, BF16, U32 } from "./lib/call";
import { store1, elementBytes } from "./lib/convert";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols } from "./lib/span";

export function fill_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 1, 0)) : -1; }

export function fill_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const y = tensor(args, 1, 0), value = dim(args, 0), dtype = dtypeOf(y);
  store<u32>(scratch, 0);
  if (dtype == U32) store<u32>(scratch, <u32><i64>value);
  else store1(dtype, scratch, <f32>value);
  let word = load<u32>(scratch);
  if (dtype == F16 || dtype == BF16) word |= word << 16;
  const bytes = elementBytes(dtype), whole = spanCols(y, item) == colsOf(y), end = spanEndRow(y, item);
  for (let row = spanRow(y, item); row < end; ) {
    const run = whole ? min(end - row, contiguousRows(y, row)) : 1;
    let p = rowPtr(y, row) + <usize>spanCol(y, item) * bytes;
    let left = <usize>run * <usize>spanCols(y, item) * bytes;
    const v = i32x4.splat(word);
    for (; left >= 16; left -= 16) { v128.store(p, v); p += 16; }
    for (; left >= 4; left -= 4) { store<u32>(p, word); p += 4; }
    if (left) store<u16>(p, <u16>word);
    row += run;
  }
}
