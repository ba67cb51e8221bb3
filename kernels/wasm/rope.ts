// rope: y[d] = x[d] cos - x[d + D/2] sin,  y[d + D/2] = x[d + D/2] cos + x[d] sin,  for d < D/2 of every head, at the token's position;
//       inverse turns back (sin negated), which is the backward pass
//
// Source    Su et al. 2021, arXiv:2104.09864, in the half-split layout of Hugging Face's Llama and Qwen
// Shapes    x, y [N, heads * D]   positions u32 [1, N]   table [maxPositions, D]: D/2 cosines, then D/2 sines
// Items     rows of a span
// Numerics  f32, one rounding less where FMA is used
// Limits    D even; a token whose position is 0xffffffff, or beyond the table, is left alone
import { dimI, tensor, rowsOf, colsOf, rowPtr } from "./lib/call";
import { madd } from "./lib/math";
import { rowsPerSpan, loadTail, storeTail } from "./lib/span";

export function rope_items(args: usize, phase: i32): i32 {
  const x = tensor(args, 2, 0), rows = rowsPerSpan(x);
  return phase == 0 ? (rowsOf(x) + rows - 1) / rows : -1;
}

export function rope_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const heads = dimI(args, 0), x = tensor(args, 2, 0), table = tensor(args, 2, 2), y = tensor(args, 2, 3);
  const positions = rowPtr(tensor(args, 2, 1), 0), half = colsOf(x) / heads >> 1, tail = half & 3, h = <usize>half << 2;
  const sign = f32x4.splat(dimI(args, 1) ? -1 : 1), rows = rowsPerSpan(x), end = min(rowsOf(x), (item + 1) * rows);
  for (let n = item * rows; n < end; n++) {
    const position = load<u32>(positions + (<usize>n << 2));
    if (position >= <u32>rowsOf(table)) continue;
    let px = rowPtr(x, n), py = rowPtr(y, n);
    for (let head = 0; head < heads; head++) {
      let pc = rowPtr(table, position);
      for (let d = tail; d < half; d += 4) {
        const c = v128.load(pc), s = f32x4.mul(v128.load(pc + h), sign), a = v128.load(px), b = v128.load(px + h);
        v128.store(py, madd(a, c, f32x4.neg(f32x4.mul(b, s))));
        v128.store(py + h, madd(b, c, f32x4.mul(a, s)));
        px += 16; py += 16; pc += 16;
      }
      if (tail) {
        const c = loadTail(pc, tail), s = f32x4.mul(loadTail(pc + h, tail), sign), a = loadTail(px, tail), b = loadTail(px + h, tail);
        storeTail(py, madd(a, c, f32x4.neg(f32x4.mul(b, s))), tail);
        storeTail(py + h, madd(b, c, f32x4.mul(a, s)), tail);
        px += <usize>tail << 2; py += <usize>tail << 2;
      }
      px += h; py += h;
    }
  }
}
