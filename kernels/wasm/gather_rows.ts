// gather_rows:  y[i] = x[indices[i]]
// scatter_rows: y[indices[i]] += x[i], indices distinct (the backward pass of gather_rows)
//
// Shapes    gather: x [N, C], indices u32 [1, n], y [n, C]; scatter: x [n, C], indices u32 [1, n], y [N, C]; f32
// Items     ROWS rows
// Numerics  exact; one addition an element
// Limits    an index of N or more gathers NaN and scatters nothing
import { tensor, rowsOf, colsOf, rowPtr } from "./lib/call";
import { loadTail, storeTail } from "./lib/span";

const ROWS: i32 = 16;

// @ts-ignore: decorator
@inline function items(args: usize): i32 { return (colsOf(tensor(args, 0, 1)) + ROWS - 1) / ROWS; }

export function gather_rows_items(args: usize, phase: i32): i32 { return phase == 0 ? items(args) : -1; }

export function gather_rows_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 0, 0), indices = rowPtr(tensor(args, 0, 1), 0), y = tensor(args, 0, 2);
  const cols = colsOf(y), end = min(colsOf(tensor(args, 0, 1)), (item + 1) * ROWS);
  for (let i = item * ROWS; i < end; i++) {
    const index = load<u32>(indices + (<usize>i << 2)), p = rowPtr(y, i);
    if (index < <u32>rowsOf(x)) memory.copy(p, rowPtr(x, index), <usize>cols << 2);
    else for (let c = 0; c < cols; c++) store<f32>(p + (<usize>c << 2), NaN);
  }
}

export function scatter_rows_items(args: usize, phase: i32): i32 { return phase == 0 ? items(args) : -1; }

export function scatter_rows_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 0, 0), indices = rowPtr(tensor(args, 0, 1), 0), y = tensor(args, 0, 2);
  const cols = colsOf(y), end = min(colsOf(tensor(args, 0, 1)), (item + 1) * ROWS);
  for (let i = item * ROWS; i < end; i++) {
    const index = load<u32>(indices + (<usize>i << 2));
    if (index >= <u32>rowsOf(y)) continue;
    let from = rowPtr(x, i), to = rowPtr(y, index);
    for (let c = 0; c < (cols & ~3); c += 4) { v128.store(to, f32x4.add(v128.load(to), v128.load(from))); to += 16; from += 16; }
    if (cols & 3) storeTail(to, f32x4.add(loadTail(to, cols & 3), loadTail(from, cols & 3)), cols & 3);
  }
}
