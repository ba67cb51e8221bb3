// swiglu:          y = silu(gate) * up,   silu(g) = g s(g),   s(g) = 1 / (1 + e^-g)
// swiglu_backward: dup = dy g s,   dgate = dy up s (1 + g (1 - s))
//
// Source    Shazeer 2020, arXiv:2002.05202
// Shapes    gate, up, y, dy, dgate, dup [N, F] f32
// Saves     gate and up
// Items     one span
// Numerics  exp4 of lib/math.ts; -g is clamped to [-87.3, 88.3], beyond which s is 1 or below 5e-39
import { tensor, colsOf, rowPtr, contiguousRows } from "./lib/call";
import { madd, exp4 } from "./lib/math";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail, storeTail } from "./lib/span";

// @ts-ignore: decorator
@inline function sigmoid(g: v128): v128 { return f32x4.div(f32x4.splat(1), f32x4.add(f32x4.splat(1), exp4(f32x4.neg(g)))); }
// @ts-ignore: decorator
@inline function forward(g: v128, u: v128): v128 { return f32x4.mul(f32x4.div(g, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(g)))), u); }

export function swiglu_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 0, 2)) : -1; }

export function swiglu_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const gate = tensor(args, 0, 0), up = tensor(args, 0, 1), y = tensor(args, 0, 2);
  const col = <usize>spanCol(y, item) << 2, cols = spanCols(y, item), whole = cols == colsOf(y), end = spanEndRow(y, item);
  for (let row = spanRow(y, item); row < end; ) {
    const run = whole ? min(end - row, min(contiguousRows(y, row), min(contiguousRows(gate, row), contiguousRows(up, row)))) : 1;
    const n = run * cols;
    let pg = rowPtr(gate, row) + col, pu = rowPtr(up, row) + col, py = rowPtr(y, row) + col;
    for (let i = 0; i < (n & ~3); i += 4) { v128.store(py, forward(v128.load(pg), v128.load(pu))); pg += 16; pu += 16; py += 16; }
    if (n & 3) storeTail(py, forward(loadTail(pg, n & 3), loadTail(pu, n & 3)), n & 3);
    row += run;
  }
}

// @ts-ignore: decorator
@inline function slope(g: v128, s: v128): v128 { return f32x4.mul(s, madd(g, f32x4.sub(f32x4.splat(1), s), f32x4.splat(1))); }

export function swiglu_backward_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 0, 2)) : -1; }

export function swiglu_backward_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const gate = tensor(args, 0, 0), up = tensor(args, 0, 1), dy = tensor(args, 0, 2), dgate = tensor(args, 0, 3), dup = tensor(args, 0, 4);
  const col = <usize>spanCol(dy, item) << 2, cols = spanCols(dy, item), end = spanEndRow(dy, item), tail = cols & 3;
  for (let row = spanRow(dy, item); row < end; row++) {
    let pg = rowPtr(gate, row) + col, pu = rowPtr(up, row) + col, pd = rowPtr(dy, row) + col, pdg = rowPtr(dgate, row) + col, pdu = rowPtr(dup, row) + col;
    for (let i = tail; i < cols; i += 4) {
      const g = v128.load(pg), d = v128.load(pd), s = sigmoid(g);
      v128.store(pdu, f32x4.mul(d, f32x4.mul(g, s)));
      v128.store(pdg, f32x4.mul(f32x4.mul(d, v128.load(pu)), slope(g, s)));
      pg += 16; pu += 16; pd += 16; pdg += 16; pdu += 16;
    }
    if (tail) {
      const g = loadTail(pg, tail), d = loadTail(pd, tail), s = sigmoid(g);
      storeTail(pdu, f32x4.mul(d, f32x4.mul(g, s)), tail);
      storeTail(pdg, f32x4.mul(f32x4.mul(d, loadTail(pu, tail)), slope(g, s)), tail);
    }
  }
}
