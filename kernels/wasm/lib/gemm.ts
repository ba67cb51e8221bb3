// f32 matrix product of packed operands (lib/pack.ts): micro-kernels, and the product of one block of C.
//
// Order      Every element of C is a sum over chunks of KC, each chunk summed from 0 in the order of k by one chain of multiply-adds,
//            and the chunks added in order. No path differs in this, so a row of C has the same bits at every M, in every tile, on
//            every number of threads.
// Registers  5 x 8 is 10 accumulators, 2 of B and 1 of A: what fits in 16 vector registers without a spill. Smaller row counts take
//            more panels at once to keep enough independent chains.
// Native     Where the host has machine code for these loops, it takes all rows and whole panels of a block that is contiguous; the rest,
//            and everything elsewhere, is done here. Both compute the same chains.
import { rowPtr, contiguousRows } from "./call";
import { madd } from "./math";
import { hasNative, inMemory, nativeProducts } from "./native";
import { MR, NR, TMP_TILE } from "./pack";

// ---- micro-kernels: c (= or +=) sum over kc of a[k][h] b[k][8] ----

// One branch around all stores, not one in each: with a branch per row V8 spills accumulators inside the loop (23 GFLOP/s for 50).
// @ts-ignore: decorator
@inline function put(c: usize, x: v128, y: v128): void { v128.store(c, x); v128.store(c, y, 16); }
// @ts-ignore: decorator
@inline function addTo(c: usize, x: v128, y: v128): void {
  v128.store(c, f32x4.add(v128.load(c), x)); v128.store(c, f32x4.add(v128.load(c, 16), y), 16);
}

function micro5(kc: i32, a: usize, b: usize, c: usize, ldc: usize, add: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00, c40 = c00, c41 = c00;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a, 0); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 4); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    { const t = v128.load32_splat(a, 8); c20 = madd(t, b0, c20); c21 = madd(t, b1, c21); }
    { const t = v128.load32_splat(a, 12); c30 = madd(t, b0, c30); c31 = madd(t, b1, c31); }
    { const t = v128.load32_splat(a, 16); c40 = madd(t, b0, c40); c41 = madd(t, b1, c41); }
    a += 20; b += 32;
  }
  if (add) {
    addTo(c, c00, c01); c += ldc;
    addTo(c, c10, c11); c += ldc;
    addTo(c, c20, c21); c += ldc;
    addTo(c, c30, c31); c += ldc;
    addTo(c, c40, c41);
  } else {
    put(c, c00, c01); c += ldc;
    put(c, c10, c11); c += ldc;
    put(c, c20, c21); c += ldc;
    put(c, c30, c31); c += ldc;
    put(c, c40, c41);
  }
}
function micro4(kc: i32, a: usize, b: usize, c: usize, ldc: usize, add: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a, 0); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 4); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    { const t = v128.load32_splat(a, 8); c20 = madd(t, b0, c20); c21 = madd(t, b1, c21); }
    { const t = v128.load32_splat(a, 12); c30 = madd(t, b0, c30); c31 = madd(t, b1, c31); }
    a += 16; b += 32;
  }
  if (add) {
    addTo(c, c00, c01); c += ldc;
    addTo(c, c10, c11); c += ldc;
    addTo(c, c20, c21); c += ldc;
    addTo(c, c30, c31);
  } else {
    put(c, c00, c01); c += ldc;
    put(c, c10, c11); c += ldc;
    put(c, c20, c21); c += ldc;
    put(c, c30, c31);
  }
}
function micro3(kc: i32, a: usize, b: usize, c: usize, ldc: usize, add: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a, 0); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 4); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    { const t = v128.load32_splat(a, 8); c20 = madd(t, b0, c20); c21 = madd(t, b1, c21); }
    a += 12; b += 32;
  }
  if (add) {
    addTo(c, c00, c01); c += ldc;
    addTo(c, c10, c11); c += ldc;
    addTo(c, c20, c21);
  } else {
    put(c, c00, c01); c += ldc;
    put(c, c10, c11); c += ldc;
    put(c, c20, c21);
  }
}
function micro2(kc: i32, a: usize, b: usize, c: usize, ldc: usize, add: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    { const t = v128.load32_splat(a, 0); c00 = madd(t, b0, c00); c01 = madd(t, b1, c01); }
    { const t = v128.load32_splat(a, 4); c10 = madd(t, b0, c10); c11 = madd(t, b1, c11); }
    a += 8; b += 32;
  }
  if (add) {
    addTo(c, c00, c01); c += ldc;
    addTo(c, c10, c11);
  } else {
    put(c, c00, c01); c += ldc;
    put(c, c10, c11);
  }
}
// two rows, two panels `stride` bytes apart
function micro2x2(kc: i32, a: usize, b: usize, stride: usize, c: usize, ldc: usize, add: bool): void {
  let c00 = f32x4.splat(0), c01 = c00, c02 = c00, c03 = c00, c10 = c00, c11 = c00, c12 = c00, c13 = c00;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const s = v128.load32_splat(a, 0), t = v128.load32_splat(a, 4);
    { const v = v128.load(b); c00 = madd(s, v, c00); c10 = madd(t, v, c10); }
    { const v = v128.load(b, 16); c01 = madd(s, v, c01); c11 = madd(t, v, c11); }
    { const v = v128.load(b + stride); c02 = madd(s, v, c02); c12 = madd(t, v, c12); }
    { const v = v128.load(b + stride, 16); c03 = madd(s, v, c03); c13 = madd(t, v, c13); }
    a += 8; b += 32;
  }
  if (add) {
    addTo(c, c00, c01); addTo(c + 32, c02, c03); c += ldc;
    addTo(c, c10, c11); addTo(c + 32, c12, c13);
  } else {
    put(c, c00, c01); put(c + 32, c02, c03); c += ldc;
    put(c, c10, c11); put(c + 32, c12, c13);
  }
}
function micro1(kc: i32, a: usize, b: usize, c: usize, add: bool): void {
  let c0 = f32x4.splat(0), c1 = c0;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const t = v128.load32_splat(a);
    c0 = madd(t, v128.load(b), c0); c1 = madd(t, v128.load(b, 16), c1);
    a += 4; b += 32;
  }
  if (add) {
    addTo(c, c0, c1);
  } else {
    put(c, c0, c1);
  }
}
// one row, four panels `stride` bytes apart
function micro1x4(kc: i32, a: usize, b: usize, stride: usize, c: usize, add: bool): void {
  let c0 = f32x4.splat(0), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0;
  let p1 = b + stride, p2 = p1 + stride, p3 = p2 + stride;
  for (const end = b + (<usize>kc << 5); b < end; ) {
    const t = v128.load32_splat(a);
    c0 = madd(t, v128.load(b), c0); c1 = madd(t, v128.load(b, 16), c1);
    c2 = madd(t, v128.load(p1), c2); c3 = madd(t, v128.load(p1, 16), c3);
    c4 = madd(t, v128.load(p2), c4); c5 = madd(t, v128.load(p2, 16), c5);
    c6 = madd(t, v128.load(p3), c6); c7 = madd(t, v128.load(p3, 16), c7);
    a += 4; b += 32; p1 += 32; p2 += 32; p3 += 32;
  }
  if (add) {
    addTo(c, c0, c1); addTo(c + 32, c2, c3); addTo(c + 64, c4, c5); addTo(c + 96, c6, c7);
  } else {
    put(c, c0, c1); put(c + 32, c2, c3); put(c + 64, c4, c5); put(c + 96, c6, c7);
  }
}
// @ts-ignore: decorator
@inline function micro(h: i32, kc: i32, a: usize, b: usize, c: usize, ldc: usize, add: bool): void {
  if (h == 5) micro5(kc, a, b, c, ldc, add);
  else if (h == 4) micro4(kc, a, b, c, ldc, add);
  else if (h == 3) micro3(kc, a, b, c, ldc, add);
  else if (h == 2) micro2(kc, a, b, c, ldc, add);
  else micro1(kc, a, b, c, add);
}

// The call block is that of src/device/cpu/native/products.ts. False, and nothing done, where an address does not lie in the memory: the
// loops below then trap, as machine code would not.
function multiplyNative(a: usize, rows: i32, kc: i32, b: usize, stride: usize, panels: i32, c: usize, ldc: usize, add: bool, at: usize): bool {
  const inside = inMemory(a, <u64>rows * kc << 2) && inMemory(b, <u64>stride * (panels - 1) + (<u64>kc * NR << 2)) &&
    inMemory(c, <u64>ldc * (rows - 1) + (<u64>panels * NR << 2));
  if (!inside) return false;
  store<u32>(at, <u32>a, 0); store<u32>(at, <u32>b, 4); store<u32>(at, <u32>c, 8); store<u32>(at, <u32>ldc, 12);
  store<i32>(at, kc, 16); store<u32>(at, <u32>stride, 20); store<i32>(at, panels, 24);
  store<i32>(at, rows / MR, 28); store<i32>(at, rows % MR, 32); store<i32>(at, add ? 1 : 0, 36);
  nativeProducts(at);
  return true;
}

/**
 * One K chunk's part of a block of C: rows cRow.. of descriptor c, columns of panels p0..p1-1, written at column (p - pC) * NR.
 * `a` is the packed chunk of A, `b` panel p0 at this chunk, `stride` the bytes between panels, `N` the width of op(B).
 */
export function gemmChunk(a: usize, rows: i32, kc: i32, b: usize, stride: usize, p0: i32, p1: i32, pC: i32, N: i32, c: usize, cRow: i32, add: bool, tmp: usize): void {
  const ldc = <usize>load<u32>(c, 12);
  const flat = contiguousRows(c, cRow) >= rows;
  const base = rowPtr(c, cRow);
  const tile = tmp + TMP_TILE;
  const fullPanels = min(p1, N / NR);
  let p = p0;
  if (hasNative && flat && fullPanels > p && multiplyNative(a, rows, kc, b, stride, fullPanels - p, base + (<usize>((p - pC) * NR) << 2), ldc, add, tile)) {
    b += stride * <usize>(fullPanels - p);
    p = fullPanels;
  }
  while (p < p1) {
    const col = <usize>((p - pC) * NR) << 2;
    // few rows: several panels at once, in place
    if (rows == 1 && p + 4 <= fullPanels) { micro1x4(kc, a, b, stride, base + col, add); p += 4; b += stride << 2; continue; }
    if (rows == 2 && p + 2 <= fullPanels && flat) { micro2x2(kc, a, b, stride, base + col, ldc, add); p += 2; b += stride << 1; continue; }
    let ap = a;
    for (let i = 0; i < rows; i += MR) {
      const h = min(MR, rows - i);
      if (p < fullPanels && (flat || contiguousRows(c, cRow + i) >= h)) {
        micro(h, kc, ap, b, (flat ? base + <usize>i * ldc : rowPtr(c, cRow + i)) + col, ldc, add);
      } else {
        micro(h, kc, ap, b, tile, NR * 4, false);
        const w = min(NR, N - p * NR);
        for (let y = 0; y < h; y++) {
          const q = rowPtr(c, cRow + i + y) + col, s = tile + (<usize>(y * NR) << 2);
          for (let x: usize = 0; x < <usize>w << 2; x += 4) store<f32>(q + x, add ? load<f32>(q + x) + load<f32>(s + x) : load<f32>(s + x));
        }
      }
      ap += <usize>(h * kc) << 2;
    }
    p++; b += stride;
  }
}
