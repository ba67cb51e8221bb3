// adamw_bf16: `adamw` with moments that are stored as bf16, rounded up or down at random, so that on average nothing is lost
//
// Source    Loshchilov & Hutter 2019, arXiv:1711.05101   rounding at random: Gupta et al. 2015, arXiv:1502.02551
//           Philox4x32-10: Salmon et al. 2011
// Shapes    grad, param [N, C] f32   m, v [N, C] bf16   clip [1, 2] of clip_scale
// Random    element (n, c) has word c mod 4 of philox(key, (c / 4, n, 0, 0)): its low half for m, its high half for v, of which (word half) /
//           65536 of a step between two neighbours is added before the bits below are cut off
// Items     one span of param; a row's random words are made 256 elements at a time
// Numerics  the moments that this step uses are f32, not yet rounded. A moment is rounded up with a probability of exactly what would be cut off
// Limits    a clip[1] of NaN leaves param, m and v as they were
import { dim, tensor, rowPtr } from "./lib/call";
import { moment, step } from "./lib/adam";
import { bf16ToF32x4, narrow } from "./lib/convert";
import { philoxWords } from "./lib/philox";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail, storeTail } from "./lib/span";

const CHUNK: i32 = 256;

export function adamw_bf16_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 9, 2)) : -1; }

// Lanes of u16 in the low halves of a vector; n = 1..3 of them
// @ts-ignore: decorator
@inline function loadHalves(p: usize, n: i32): v128 {
  let h = i32x4.replace_lane(i32x4.splat(0), 0, load<u16>(p));
  if (n > 1) h = i32x4.replace_lane(h, 1, load<u16>(p, 2));
  if (n > 2) h = i32x4.replace_lane(h, 2, load<u16>(p, 4));
  return h;
}
// @ts-ignore: decorator
@inline function storeHalves(p: usize, h: v128, n: i32): void {
  store<u16>(p, <u16>i32x4.extract_lane(h, 0));
  if (n > 1) store<u16>(p, <u16>i32x4.extract_lane(h, 1), 2);
  if (n > 2) store<u16>(p, <u16>i32x4.extract_lane(h, 2), 4);
}

export function adamw_bf16_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const grad = tensor(args, 9, 0), param = tensor(args, 9, 2), mt = tensor(args, 9, 3), vt = tensor(args, 9, 4);
  const clip = load<f32>(rowPtr(tensor(args, 9, 1), 0), 4);
  if (clip != clip) return;
  const lr = dim(args, 0), beta1 = dim(args, 1), beta2 = dim(args, 2), clip4 = f32x4.splat(clip);
  const b1 = f32x4.splat(<f32>beta1), r1 = f32x4.splat(<f32>(1 - beta1)), b2 = f32x4.splat(<f32>beta2), r2 = f32x4.splat(<f32>(1 - beta2));
  const keep = f32x4.splat(<f32>(1 - lr * dim(args, 4))), rate = f32x4.splat(<f32>(-lr / dim(args, 5)));
  const root = f32x4.splat(<f32>(1 / sqrt<f64>(dim(args, 6)))), eps = f32x4.splat(<f32>dim(args, 3));
  const key0 = <u32>dim(args, 7), key1 = <u32>dim(args, 8), half = i32x4.splat(0xffff);
  const first = spanCol(param, item), cols = spanCols(param, item), end = spanEndRow(param, item);
  for (let row = spanRow(param, item); row < end; row++) {
    let pg = rowPtr(grad, row) + (<usize>first << 2), pp = rowPtr(param, row) + (<usize>first << 2);
    let pm = rowPtr(mt, row) + (<usize>first << 1), pv = rowPtr(vt, row) + (<usize>first << 1);
    for (let done = 0; done < cols; done += CHUNK) {
      const n = min(CHUNK, cols - done), tail = n & 3;
      philoxWords(key0, key1, (first + done) >> 2, row, (n + 3) >> 2, scratch);
      let pr = scratch;
      for (let i = tail; i < n; i += 4) {
        const g = f32x4.mul(v128.load(pg), clip4), r = v128.load(pr);
        const m = moment(b1, bf16ToF32x4(v128.load16x4_u(pm)), r1, g), v = moment(b2, bf16ToF32x4(v128.load16x4_u(pv)), r2, f32x4.mul(g, g));
        const mh = i32x4.shr_u(i32x4.add(m, v128.and(r, half)), 16), vh = i32x4.shr_u(i32x4.add(v, i32x4.shr_u(r, 16)), 16);
        v128.store64_lane(pm, narrow(mh, mh), 0); v128.store64_lane(pv, narrow(vh, vh), 0);
        v128.store(pp, step(v128.load(pp), m, f32x4.sqrt(v), keep, rate, root, eps));
        pg += 16; pp += 16; pm += 8; pv += 8; pr += 16;
      }
      if (tail) {
        const g = f32x4.mul(loadTail(pg, tail), clip4), r = v128.load(pr);
        const m = moment(b1, bf16ToF32x4(loadHalves(pm, tail)), r1, g), v = moment(b2, bf16ToF32x4(loadHalves(pv, tail)), r2, f32x4.mul(g, g));
        storeHalves(pm, i32x4.shr_u(i32x4.add(m, v128.and(r, half)), 16), tail);
        storeHalves(pv, i32x4.shr_u(i32x4.add(v, i32x4.shr_u(r, 16)), 16), tail);
        storeTail(pp, step(loadTail(pp, tail), m, f32x4.sqrt(v), keep, rate, root, eps), tail);
      }
    }
  }
}
