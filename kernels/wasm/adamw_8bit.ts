// adamw_8bit: `adamw` with moments that are stored in 8 bits: 256 elements of a row share a scale, the largest magnitude among them
//
// Source    Dettmers et al. 2021, arXiv:2110.02861, sections 1.3 and 2: block-wise dynamic quantisation
//           rounding at random: Gupta et al. 2015, arXiv:1502.02551   Philox4x32-10: Salmon et al. 2011
// Shapes    grad, param [N, C] f32   m, v [N, ceil(C / 4)] u32, the code of column c in byte c mod 4 (lowest first)
//           scales [N, 2 ceil(C / 256)]: block b's of m at 2b, of v at 2b + 1   tables [3, 256] of src/optim/dynamic-map.ts
//           clip [1, 2] of clip_scale
// Formula   m = scale * signed[code], v = scale * unsigned[code]. A new magnitude x = |m| / scale or v / scale is at the place
//           max(last line, min(other lines)) among its numbers; floor(place + u) is the code's, u in (0, 1) random.
// Random    element (n, c) has word c mod 4 of philox(key, (c / 4, n, 0, 0)): u = (its low half + 1/2) / 65536 for m, its high half for v
// Items     one span of param, block by block: moments and step first, then scales and codes
// Numerics  the moments that this step uses are f32, not yet rounded. A v that is not 0 never has the code of 0: a step divides by its root.
//           A block whose largest magnitude is below 2^-120 is stored as zeros: its inverse has no place in f32
// Limits    a clip[1] of NaN leaves param, m, v and scales as they were
import { dim, tensor, rowPtr } from "./lib/call";
import { moment, step } from "./lib/adam";
import { hmax, madd } from "./lib/math";
import { philoxWords } from "./lib/philox";
import { spanItems, spanRow, spanEndRow, spanCol, spanCols, loadTail, storeTail } from "./lib/span";

const BLOCK: i32 = 256;
const LEAST_SCALE: f32 = 7.52316384526264e-37; // 2^-120
const LINES: i32 = 15;
// parts of the scratch: random words, then the moments of one block
const M: usize = 1024, V: usize = 2048;

export function adamw_8bit_items(args: usize, phase: i32): i32 { return phase == 0 ? spanItems(tensor(args, 9, 3)) : -1; }

// The numbers of a table that four codes, the bytes of a word, stand for
// @ts-ignore: decorator
@inline function numbers(table: usize, codes: u32): v128 {
  let x = v128.load32_zero(table + (<usize>(codes & 0xff) << 2));
  x = v128.load32_lane(table + (<usize>((codes >>> 8) & 0xff) << 2), x, 1);
  x = v128.load32_lane(table + (<usize>((codes >>> 16) & 0xff) << 2), x, 2);
  return v128.load32_lane(table + (<usize>(codes >>> 24) << 2), x, 3);
}
// floor(place of x + u) among the numbers of a map
// @ts-ignore: decorator
@inline function place(lines: usize, x: v128, u: v128): v128 {
  let y = madd(v128.load32_splat(lines), x, v128.load32_splat(lines, 4));
  for (let i = 1; i < LINES; i++) {
    lines += 8;
    y = f32x4.pmin(y, madd(v128.load32_splat(lines), x, v128.load32_splat(lines, 4)));
  }
  y = f32x4.pmax(y, madd(v128.load32_splat(lines, 8), x, v128.load32_splat(lines, 12)));
  return i32x4.trunc_sat_f32x4_s(f32x4.add(y, u));
}
// u in (0, 1) from 16 random bits in each lane
// @ts-ignore: decorator
@inline function fraction(bits: v128): v128 { return madd(f32x4.convert_i32x4_u(bits), f32x4.splat(1.52587890625e-5), f32x4.splat(7.62939453125e-6)); }
// Four codes, one in each lane, as the bytes of a word
// @ts-ignore: decorator
@inline function pack(codes: v128): u32 {
  const halves = i16x8.narrow_i32x4_u(codes, codes);
  return <u32>i32x4.extract_lane(i8x16.narrow_i16x8_u(halves, halves), 0);
}

export function adamw_8bit_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const grad = tensor(args, 9, 0), param = tensor(args, 9, 3), mt = tensor(args, 9, 4), vt = tensor(args, 9, 5), st = tensor(args, 9, 6);
  const clip = load<f32>(rowPtr(tensor(args, 9, 1), 0), 4), tables = tensor(args, 9, 2);
  if (clip != clip) return;
  const signed = rowPtr(tables, 0), unsigned = rowPtr(tables, 1), lines = rowPtr(tables, 2);
  const lr = dim(args, 0), beta1 = dim(args, 1), beta2 = dim(args, 2), clip4 = f32x4.splat(clip);
  const b1 = f32x4.splat(<f32>beta1), r1 = f32x4.splat(<f32>(1 - beta1)), b2 = f32x4.splat(<f32>beta2), r2 = f32x4.splat(<f32>(1 - beta2));
  const keep = f32x4.splat(<f32>(1 - lr * dim(args, 4))), rate = f32x4.splat(<f32>(-lr / dim(args, 5)));
  const root = f32x4.splat(<f32>(1 / sqrt<f64>(dim(args, 6)))), eps = f32x4.splat(<f32>dim(args, 3));
  const key0 = <u32>dim(args, 7), key1 = <u32>dim(args, 8);
  const first = spanCol(param, item), cols = spanCols(param, item), end = spanEndRow(param, item);
  for (let row = spanRow(param, item); row < end; row++) {
    for (let done = 0; done < cols; done += BLOCK) {
      const col = first + done, n = min(BLOCK, cols - done), tail = n & 3;
      const pg = rowPtr(grad, row) + (<usize>col << 2), pp = rowPtr(param, row) + (<usize>col << 2);
      const pm = rowPtr(mt, row) + <usize>col, pv = rowPtr(vt, row) + <usize>col, ps = rowPtr(st, row) + (<usize>(col / BLOCK) << 3);
      const oldM = v128.load32_splat(ps), oldV = v128.load32_splat(ps, 4);
      let mostM = f32x4.splat(0), mostV = f32x4.splat(0);
      for (let i = 0; i < n; i += 4) {
        const last = i + 4 > n, at = <usize>i << 2;
        const g = f32x4.mul(last ? loadTail(pg + at, tail) : v128.load(pg + at), clip4);
        let m = moment(b1, f32x4.mul(oldM, numbers(signed, load<u32>(pm + <usize>i))), r1, g);
        let v = moment(b2, f32x4.mul(oldV, numbers(unsigned, load<u32>(pv + <usize>i))), r2, f32x4.mul(g, g));
        if (last) {
          const inside = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(tail));
          m = v128.and(m, inside); v = v128.and(v, inside);
          storeTail(pp + at, step(loadTail(pp + at, tail), m, f32x4.sqrt(v), keep, rate, root, eps), tail);
        } else v128.store(pp + at, step(v128.load(pp + at), m, f32x4.sqrt(v), keep, rate, root, eps));
        v128.store(scratch + at, m, M); v128.store(scratch + at, v, V);
        mostM = f32x4.pmax(mostM, f32x4.abs(m)); mostV = f32x4.pmax(mostV, v);
      }
      let scaleM = hmax(mostM), scaleV = hmax(mostV);
      if (scaleM < LEAST_SCALE) scaleM = 0;
      if (scaleV < LEAST_SCALE) scaleV = 0;
      store<f32>(ps, scaleM); store<f32>(ps, scaleV, 4);
      const inverseM = f32x4.splat(scaleM > 0 ? 1 / scaleM : 0), inverseV = f32x4.splat(scaleV > 0 ? 1 / scaleV : 0);
      philoxWords(key0, key1, col >> 2, row, (n + 3) >> 2, scratch);
      for (let i = 0; i < n; i += 4) {
        const at = <usize>i << 2, r = v128.load(scratch + at), m = v128.load(scratch + at, M), v = v128.load(scratch + at, V);
        const below = i32x4.shr_s(m, 31); // all ones where m is negative: there is no code for -1
        let k = place(lines, f32x4.mul(f32x4.abs(m), inverseM), fraction(v128.and(r, i32x4.splat(0xffff))));
        k = i32x4.min_s(k, i32x4.add(i32x4.splat(128), below));
        store<u32>(pm + <usize>i, pack(i32x4.add(i32x4.splat(127), i32x4.sub(v128.xor(k, below), below))));
        k = i32x4.min_s(place(lines + 128, f32x4.mul(v, inverseV), fraction(i32x4.shr_u(r, 16))), i32x4.splat(255));
        k = i32x4.max_s(k, v128.and(f32x4.gt(v, f32x4.splat(0)), i32x4.splat(1)));
        store<u32>(pv + <usize>i, pack(k));
      }
    }
  }
}
