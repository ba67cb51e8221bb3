// rms_norm:          y[n,g,c] = x[n,g,c] * rstd[n,g] * weight[c],   rstd[n,g] = 1 / sqrt(mean_c(x^2) + eps)
// rms_norm_backward: with u = dy * weight and x^ = x * rstd:   dx = rstd * (u - x^ * mean_c(u x^)),   dweight[c] += sum_{n,g} dy x^
//
// Source    Zhang & Sennrich 2019, arXiv:1910.07467
// Shapes    x, y, dy, dx [N, groups * C]   weight [1, C] any float dtype   rstd [N, groups]   dweight [1, C] f32, may be absent
// Saves     rstd, read again by the backward kernel
// Items     forward: rows of a span. Backward phase 0: a chunk of rows, whose share of dweight goes to shared scratch; phase 1: STRIP columns
//           of dweight, chunks added in order. Chunks depend on N only.
// Numerics  f32; a sum over c has 8 lanes of its own, so it does not depend on the other rows
// Limits    any C up to 262144
import { dim, dimI, tensor, sharedScratch, rowsOf, colsOf, dtypeOf, rowPtr, F32 } from "./lib/call";
import { madd, hsum } from "./lib/math";
import { toF32 } from "./lib/convert";
import { rowsPerSpan, loadTail, storeTail } from "./lib/span";

const ROWS: i32 = 16;
const STRIP: i32 = 256;
const MAX_CHUNKS: i32 = 64;

// weight as f32, converted to scratch if it is stored otherwise
function weightF32(t: usize, C: i32, scratch: usize): usize {
  if (dtypeOf(t) == F32) return rowPtr(t, 0);
  toF32(dtypeOf(t), rowPtr(t, 0), scratch, C);
  return scratch;
}

// sum of a[c] * b[c]
function dot(a: usize, b: usize, C: i32): f32 {
  let s = f32x4.splat(0), t = s, c = 0;
  for (; c + 8 <= C; c += 8) { s = madd(v128.load(a), v128.load(b), s); t = madd(v128.load(a, 16), v128.load(b, 16), t); a += 32; b += 32; }
  if (c + 4 <= C) { s = madd(v128.load(a), v128.load(b), s); a += 16; b += 16; c += 4; }
  if (c < C) t = madd(loadTail(a, C - c), loadTail(b, C - c), t);
  return hsum(f32x4.add(s, t));
}

export function rms_norm_items(args: usize, phase: i32): i32 {
  const x = tensor(args, 2, 0), rows = rowsPerSpan(x);
  return phase == 0 ? (rowsOf(x) + rows - 1) / rows : -1;
}

export function rms_norm_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const groups = dimI(args, 0), eps = <f32>dim(args, 1);
  const x = tensor(args, 2, 0), y = tensor(args, 2, 2), rstd = tensor(args, 2, 3);
  const C = colsOf(x) / groups, weight = weightF32(tensor(args, 2, 1), C, scratch), tail = C & 3;
  const rows = rowsPerSpan(x), end = min(rowsOf(x), (item + 1) * rows);
  for (let n = item * rows; n < end; n++) {
    let px = rowPtr(x, n), py = rowPtr(y, n), pr = rowPtr(rstd, n);
    for (let g = 0; g < groups; g++) {
      const r: f32 = <f32>1 / sqrt<f32>(dot(px, px, C) / <f32>C + eps), rv = f32x4.splat(r);
      store<f32>(pr, r);
      let pw = weight;
      for (let c = tail; c < C; c += 4) { v128.store(py, f32x4.mul(f32x4.mul(v128.load(px), rv), v128.load(pw))); px += 16; py += 16; pw += 16; }
      if (tail) {
        storeTail(py, f32x4.mul(f32x4.mul(loadTail(px, tail), rv), loadTail(pw, tail)), tail);
        px += <usize>tail << 2; py += <usize>tail << 2;
      }
      pr += 4;
    }
  }
}

// @ts-ignore: decorator
@inline function chunkRows(N: i32): i32 { return max(ROWS, (N + MAX_CHUNKS - 1) / MAX_CHUNKS); }
// @ts-ignore: decorator
@inline function chunks(N: i32): i32 { return (N + chunkRows(N) - 1) / chunkRows(N); }
// @ts-ignore: decorator
@inline function width(args: usize): i32 { return colsOf(tensor(args, 1, 0)) / dimI(args, 0); }

export function rms_norm_backward_scratch(args: usize): usize { return <usize>chunks(rowsOf(tensor(args, 1, 0))) * <usize>width(args) << 2; }

export function rms_norm_backward_items(args: usize, phase: i32): i32 {
  if (phase == 0) return chunks(rowsOf(tensor(args, 1, 0)));
  return phase == 1 && tensor(args, 1, 5) ? (width(args) + STRIP - 1) / STRIP : -1;
}

export function rms_norm_backward_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const x = tensor(args, 1, 0), N = rowsOf(x), C = width(args), bytes = <usize>C << 2;
  if (phase == 1) {
    const col = item * STRIP, n = min(STRIP, C - col);
    const to = rowPtr(tensor(args, 1, 5), 0) + (<usize>col << 2), from = sharedScratch(args) + (<usize>col << 2);
    for (let c = 0; c < n; c++) {
      let sum: f32 = 0, p = from + (<usize>c << 2);
      for (let i = 0; i < chunks(N); i++) { sum += load<f32>(p); p += bytes; }
      store<f32>(to + (<usize>c << 2), load<f32>(to + (<usize>c << 2)) + sum);
    }
    return;
  }
  const groups = dimI(args, 0), rstd = tensor(args, 1, 2), dy = tensor(args, 1, 3), dx = tensor(args, 1, 4), tail = C & 3;
  const weight = weightF32(tensor(args, 1, 1), C, scratch), u = scratch + <usize>((C + 3) & ~3) * 4, partial = sharedScratch(args) + <usize>item * bytes;
  memory.fill(partial, 0, bytes);
  const end = min(N, (item + 1) * chunkRows(N));
  for (let n = item * chunkRows(N); n < end; n++) {
    for (let g = 0; g < groups; g++) {
      const at = <usize>g * bytes, r = load<f32>(rowPtr(rstd, n) + (<usize>g << 2)), rv = f32x4.splat(r);
      let px = rowPtr(x, n) + at, pdy = rowPtr(dy, n) + at, pw = weight, pu = u, pp = partial;
      // u = dy * weight, and this row's share of dweight
      for (let c = tail; c < C; c += 4) {
        const d = v128.load(pdy);
        v128.store(pu, f32x4.mul(d, v128.load(pw)));
        v128.store(pp, madd(f32x4.mul(v128.load(px), rv), d, v128.load(pp)));
        px += 16; pdy += 16; pw += 16; pu += 16; pp += 16;
      }
      if (tail) {
        const d = loadTail(pdy, tail);
        storeTail(pu, f32x4.mul(d, loadTail(pw, tail)), tail);
        storeTail(pp, madd(f32x4.mul(loadTail(px, tail), rv), d, loadTail(pp, tail)), tail);
      }
      px = rowPtr(x, n) + at; pu = u;
      let pdx = rowPtr(dx, n) + at;
      const k = f32x4.splat(-(dot(u, px, C) * r * r / <f32>C)); // -rstd * mean(u x^)
      for (let c = tail; c < C; c += 4) {
        v128.store(pdx, f32x4.mul(madd(k, v128.load(px), v128.load(pu)), rv));
        px += 16; pu += 16; pdx += 16;
      }
      if (tail) storeTail(pdx, f32x4.mul(madd(k, loadTail(px, tail), loadTail(pu, tail)), rv), tail);
    }
  }
}
