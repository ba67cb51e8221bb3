// Conversions between f32 and its two 16-bit storage types, round to nearest, ties to even; infinities, NaN and subnormals included.
// The lane functions work on 32-bit lanes that hold 16-bit patterns in their low half.
import { F32, F16, BF16 } from "./call";

/** Bytes of one element of a dtype code. */
// @ts-ignore: decorator
@inline export function elementBytes(dtype: i32): usize { return dtype == F16 || dtype == BF16 ? 2 : 4; }

// @ts-ignore: decorator
@inline export function bf16ToF32x4(h: v128): v128 { return i32x4.shl(h, 16); }

// Exponent and mantissa are moved into place and rebiased by one multiplication with 2^112, which also normalises subnormals;
// infinity and NaN then still lack the top of the exponent.
// @ts-ignore: decorator
@inline export function f16ToF32x4(h: v128): v128 {
  const magnitude = i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13);
  const scaled = f32x4.mul(magnitude, i32x4.splat(0x77800000));
  const special = i32x4.gt_s(magnitude, i32x4.splat(0x0f7fffff));
  const sign = i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16);
  return v128.or(v128.or(scaled, sign), v128.and(special, i32x4.splat(0x7f800000)));
}

// @ts-ignore: decorator
@inline export function f32ToBf16x4(x: v128): v128 {
  const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(x, i32x4.add(odd, i32x4.splat(0x7fff))), 16);
  const nan = f32x4.ne(x, x);
  return v128.bitselect(v128.or(i32x4.shr_u(x, 16), i32x4.splat(0x40)), rounded, nan);
}

// @ts-ignore: decorator
@inline export function f32ToF16x4(x: v128): v128 {
  const sign = v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000));
  const a = v128.and(x, i32x4.splat(0x7fffffff));
  // normal: rebias, add half a unit less the tie bit, shift
  const odd = v128.and(i32x4.shr_u(a, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(a, i32x4.add(odd, i32x4.splat(0xc8000fff))), 13);
  // subnormal: adding 0.5 makes the hardware round at 2^-24
  const small = i32x4.sub(f32x4.add(a, f32x4.splat(0.5)), f32x4.splat(0.5));
  let h = v128.bitselect(small, normal, i32x4.lt_s(a, i32x4.splat(0x38800000)));
  h = v128.bitselect(i32x4.splat(0x7c00), h, i32x4.gt_s(a, i32x4.splat(0x477fefff)));
  h = v128.bitselect(i32x4.splat(0x7e00), h, i32x4.gt_s(a, i32x4.splat(0x7f800000)));
  return v128.or(h, sign);
}

// Low halves of eight 32-bit lanes as eight 16-bit ones
// @ts-ignore: decorator
@inline export function narrow(low: v128, high: v128): v128 { return v128.shuffle<u16>(low, high, 0, 2, 4, 6, 8, 10, 12, 14); }

/** Four consecutive elements as f32. */
// @ts-ignore: decorator
@inline export function load4(dtype: i32, p: usize): v128 {
  if (dtype == F32) return v128.load(p);
  const h = v128.load16x4_u(p);
  return dtype == F16 ? f16ToF32x4(h) : bf16ToF32x4(h);
}
/** One element as f32. */
// @ts-ignore: decorator
@inline export function load1(dtype: i32, p: usize): f32 {
  if (dtype == F32) return load<f32>(p);
  const h = i32x4.splat(<i32>load<u16>(p));
  return f32x4.extract_lane(dtype == F16 ? f16ToF32x4(h) : bf16ToF32x4(h), 0);
}
/** Stores four f32 lanes as a dtype. */
// @ts-ignore: decorator
@inline export function store4(dtype: i32, p: usize, x: v128): void {
  if (dtype == F32) { v128.store(p, x); return; }
  const h = dtype == F16 ? f32ToF16x4(x) : f32ToBf16x4(x);
  v128.store64_lane(p, narrow(h, h), 0);
}
/** Stores one f32 as a dtype. */
// @ts-ignore: decorator
@inline export function store1(dtype: i32, p: usize, x: f32): void {
  if (dtype == F32) { store<f32>(p, x); return; }
  const v = f32x4.splat(x);
  store<u16>(p, <u16>i32x4.extract_lane(dtype == F16 ? f32ToF16x4(v) : f32ToBf16x4(v), 0));
}

/** n elements of a float dtype at `from`, as f32 at `to`. */
export function toF32(dtype: i32, from: usize, to: usize, n: i32): void {
  if (dtype == F32) { memory.copy(to, from, <usize>n << 2); return; }
  let i = 0;
  if (dtype == F16) for (; i + 4 <= n; i += 4) { v128.store(to, f16ToF32x4(v128.load16x4_u(from))); from += 8; to += 16; }
  else for (; i + 4 <= n; i += 4) { v128.store(to, bf16ToF32x4(v128.load16x4_u(from))); from += 8; to += 16; }
  for (; i < n; i++) { store<f32>(to, load1(dtype, from)); from += 2; to += 4; }
}
/** n f32 at `from`, as elements of a float dtype at `to`. */
export function fromF32(dtype: i32, from: usize, to: usize, n: i32): void {
  if (dtype == F32) { memory.copy(to, from, <usize>n << 2); return; }
  let i = 0;
  for (; i + 4 <= n; i += 4) { store4(dtype, to, v128.load(from)); from += 16; to += 8; }
  for (; i < n; i++) { store1(dtype, to, load<f32>(from)); from += 4; to += 2; }
}
