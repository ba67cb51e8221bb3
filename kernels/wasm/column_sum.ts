// y[c] += sum_n x[n, c]
//
// Shapes     x [N, C], y [1, C], f32.
// Order      Rows in chunks of 256, each summed in order from 0, the chunks added to y in order: it depends on N only.
// Dispatch   one phase; an item is some strips of 32 columns.
import { tensor, rowsOf, colsOf, rowPtr } from "./lib/call";

const STRIP: i32 = 32;
const CHUNK: i32 = 256;
// elements that make a work item worth waking a thread for
const ITEM: i32 = 32768;

function strips(C: i32): i32 { return (C + STRIP - 1) / STRIP; }
function stripsPerItem(N: i32): i32 { return max(1, ITEM / (min(N, ITEM) * STRIP)); }

export function column_sum_items(args: usize, phase: i32): i32 {
  const x = tensor(args, 0, 0), each = stripsPerItem(rowsOf(x));
  return phase == 0 ? (strips(colsOf(x)) + each - 1) / each : -1;
}

export function column_sum_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 0, 0), y = rowPtr(tensor(args, 0, 1), 0);
  const N = rowsOf(x), C = colsOf(x), each = stripsPerItem(N);
  for (let s = item * each, end = min(strips(C), s + each); s < end; s++) {
    const col = s * STRIP;
    for (let n = 0; n < N; n += CHUNK) {
      const to = min(N, n + CHUNK);
      if (col + STRIP <= C) wholeStrip(x, n, to, <usize>col << 2, y);
      else for (let c = col; c < C; c++) oneColumn(x, n, to, <usize>c << 2, y);
    }
  }
}

function wholeStrip(x: usize, from: i32, to: i32, at: usize, y: usize): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  for (let n = from; n < to; n++) {
    const p = rowPtr(x, n) + at;
    s0 = f32x4.add(s0, v128.load(p)); s1 = f32x4.add(s1, v128.load(p, 16)); s2 = f32x4.add(s2, v128.load(p, 32)); s3 = f32x4.add(s3, v128.load(p, 48));
    s4 = f32x4.add(s4, v128.load(p, 64)); s5 = f32x4.add(s5, v128.load(p, 80)); s6 = f32x4.add(s6, v128.load(p, 96)); s7 = f32x4.add(s7, v128.load(p, 112));
  }
  const q = y + at;
  v128.store(q, f32x4.add(v128.load(q), s0)); v128.store(q, f32x4.add(v128.load(q, 16), s1), 16);
  v128.store(q, f32x4.add(v128.load(q, 32), s2), 32); v128.store(q, f32x4.add(v128.load(q, 48), s3), 48);
  v128.store(q, f32x4.add(v128.load(q, 64), s4), 64); v128.store(q, f32x4.add(v128.load(q, 80), s5), 80);
  v128.store(q, f32x4.add(v128.load(q, 96), s6), 96); v128.store(q, f32x4.add(v128.load(q, 112), s7), 112);
}
function oneColumn(x: usize, from: i32, to: i32, at: usize, y: usize): void {
  let s: f32 = 0;
  for (let n = from; n < to; n++) s += load<f32>(rowPtr(x, n) + at);
  store<f32>(y + at, load<f32>(y + at) + s);
}
