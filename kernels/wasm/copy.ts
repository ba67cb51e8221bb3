// copy: y[toRow + i] = x[fromRow + i] for i < rows
//
// Shapes    x [*, C], y [*, C], any dtypes; equal ones are copied as bytes, others pass through f32 (to nearest, ties to even)
// Items     ROWS rows, or one row of many columns
// Limits    u32 is copied to u32 only
import { dimI, tensor, colsOf, dtypeOf, rowPtr } from "./lib/call";
import { toF32, fromF32, elementBytes } from "./lib/convert";

const CHUNK: i32 = 8192; // elements converted at a time in scratch

// @ts-ignore: decorator
@inline function rowsPerItem(cols: i32): i32 { return max(1, 16384 / max(1, cols)); }

export function copy_items(args: usize, phase: i32): i32 {
  if (phase != 0) return -1;
  const n = rowsPerItem(colsOf(tensor(args, 3, 0)));
  return (dimI(args, 2) + n - 1) / n;
}

export function copy_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 3, 0), y = tensor(args, 3, 1);
  const from = dimI(args, 0), to = dimI(args, 1), cols = colsOf(x), n = rowsPerItem(cols);
  const tx = dtypeOf(x), ty = dtypeOf(y), bx = elementBytes(tx), by = elementBytes(ty);
  const end = min(dimI(args, 2), (item + 1) * n);
  for (let i = item * n; i < end; i++) {
    const px = rowPtr(x, from + i), py = rowPtr(y, to + i);
    if (tx == ty) { memory.copy(py, px, <usize>cols * bx); continue; }
    for (let c = 0; c < cols; c += CHUNK) {
      const w = min(CHUNK, cols - c);
      toF32(tx, px + <usize>c * bx, scratch, w);
      fromF32(ty, scratch, py + <usize>c * by, w);
    }
  }
}
