// adamw: with g = grad * clip[1]:   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,
//        param -= lr ((m / correction1) / (sqrt(v / correction2) + eps) + weightDecay param)
//
// Source    Loshchilov & Hutter 2019, arXiv:1711.05101
// Shapes    grad, param, m, v [N, C] f32   clip [1, 2] of clip_scale   correction1 = 1 - beta1^t, correction2 = 1 - beta2^t
// Items     one span of param
// Numerics  f32; constants are rounded to f32 after they are combined in f64
// Limits    a clip[1] of NaN leaves param, m and v as they were
import { dim, tensor, colsOf, rowPtr, contiguousRows } from "./lib/call";
import { moment, step } from "./lib/adam";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail, storeTail } from "./lib/span";

export function adamw_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 7, 2)) : -1; }

export function adamw_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const grad = tensor(args, 7, 0), param = tensor(args, 7, 2), mt = tensor(args, 7, 3), vt = tensor(args, 7, 4);
  const clip = load<f32>(rowPtr(tensor(args, 7, 1), 0), 4);
  if (clip != clip) return;
  const lr = dim(args, 0), beta1 = dim(args, 1), beta2 = dim(args, 2), clip4 = f32x4.splat(clip);
  const b1 = f32x4.splat(<f32>beta1), r1 = f32x4.splat(<f32>(1 - beta1)), b2 = f32x4.splat(<f32>beta2), r2 = f32x4.splat(<f32>(1 - beta2));
  const keep = f32x4.splat(<f32>(1 - lr * dim(args, 4))), rate = f32x4.splat(<f32>(-lr / dim(args, 5)));
  const root = f32x4.splat(<f32>(1 / sqrt<f64>(dim(args, 6)))), eps = f32x4.splat(<f32>dim(args, 3));
  const col = <usize>spanCol(param, item) << 2, cols = spanCols(param, item), whole = cols == colsOf(param), end = spanEndRow(param, item);
  for (let row = spanRow(param, item); row < end; ) {
    let run = 1;
    if (whole) run = min(min(end - row, contiguousRows(param, row)), min(contiguousRows(grad, row), min(contiguousRows(mt, row), contiguousRows(vt, row))));
    const n = run * cols, tail = n & 3;
    let pg = rowPtr(grad, row) + col, pp = rowPtr(param, row) + col, pm = rowPtr(mt, row) + col, pv = rowPtr(vt, row) + col;
    for (let i = tail; i < n; i += 4) {
      const g = f32x4.mul(v128.load(pg), clip4), m = moment(b1, v128.load(pm), r1, g), v = moment(b2, v128.load(pv), r2, f32x4.mul(g, g));
      v128.store(pm, m); v128.store(pv, v);
      v128.store(pp, step(v128.load(pp), m, f32x4.sqrt(v), keep, rate, root, eps));
      pg += 16; pp += 16; pm += 16; pv += 16;
    }
    if (tail) {
      const g = f32x4.mul(loadTail(pg, tail), clip4), m = moment(b1, loadTail(pm, tail), r1, g), v = moment(b2, loadTail(pv, tail), r2, f32x4.mul(g, g));
      storeTail(pm, m, tail); storeTail(pv, v, tail);
      storeTail(pp, step(loadTail(pp, tail), m, f32x4.sqrt(v), keep, rate, root, eps), tail);
    }
    row += run;
  }
}
