// embedding:          y[n] = table[ids[n]]
// embedding_backward: dtable[ids[n]] += dy[n], in token order
//
// Shapes    ids u32 [1, N]   table [V, C] any float dtype   y, dy [N, C]   dtable [V, C] f32
// Saves     ids
// Items     forward: rows of a span; backward: a strip of STRIP columns, for which it walks all tokens, so that two threads never meet in
//           one element and equal ids add up in token order
// Numerics  forward exact; backward sums in f32
// Limits    an id of V or more reads a row of NaN and adds to nothing
import { tensor, rowsOf, colsOf, dtypeOf, rowPtr } from "./lib/call";
import { toF32 } from "./lib/convert";
import { rowsPerSpan, loadTail, storeTail } from "./lib/span";

const STRIP: i32 = 64;

export function embedding_items(args: usize, phase: i32): i32 {
  const y = tensor(args, 0, 2), rows = rowsPerSpan(y);
  return phase == 0 ? (rowsOf(y) + rows - 1) / rows : -1;
}

export function embedding_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const ids = rowPtr(tensor(args, 0, 0), 0), table = tensor(args, 0, 1), y = tensor(args, 0, 2);
  const cols = colsOf(table), dtype = dtypeOf(table), rows = rowsPerSpan(y), end = min(rowsOf(y), (item + 1) * rows);
  for (let n = item * rows; n < end; n++) {
    const id = load<u32>(ids + (<usize>n << 2)), p = rowPtr(y, n);
    if (id < <u32>rowsOf(table)) toF32(dtype, rowPtr(table, id), p, cols);
    else for (let c = 0; c < cols; c++) store<f32>(p + (<usize>c << 2), NaN);
  }
}

export function embedding_backward_items(args: usize, phase: i32): i32 { return phase == 0 ? (colsOf(tensor(args, 0, 1)) + STRIP - 1) / STRIP : -1; }

export function embedding_backward_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const ids = rowPtr(tensor(args, 0, 0), 0), dy = tensor(args, 0, 1), dtable = tensor(args, 0, 2);
  const N = rowsOf(dy), col = item * STRIP, n = min(STRIP, colsOf(dy) - col), offset = <usize>col << 2;
  for (let i = 0; i < N; i++) {
    const id = load<u32>(ids + (<usize>i << 2));
    if (id >= <u32>rowsOf(dtable)) continue;
    let from = rowPtr(dy, i) + offset, to = rowPtr(dtable, id) + offset;
    for (let c = 0; c < (n & ~3); c += 4) { v128.store(to, f32x4.add(v128.load(to), v128.load(from))); to += 16; from += 16; }
    if (n & 3) storeTail(to, f32x4.add(loadTail(to, n & 3), loadTail(from, n & 3)), n & 3);
  }
}
