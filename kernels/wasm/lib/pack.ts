// Packing of both operands of a matrix product into the layouts that lib/gemm.ts multiplies.
//
// A          one K chunk of a block of rows: row panels of MR rows, [kc][MR] each; the last panel has exactly the rows that are left, [kc][h]
// B          column panels of NR columns, [K][NR] each, zero-padded in N; a chunk of a panel starts at k0 * NR floats
// Operands   f32, f16 or bf16 in any shards; panels are f32
import { F32, U32, rowPtr, dtypeOf, contiguousRows } from "./call";
import { elementBytes, toF32 } from "./convert";
import { nativeBlock, inMemory, nativePackRows, nativePackColumns } from "./native";

export const MR: i32 = 5;
export const NR: i32 = 8;
/** Elements of K that are summed in one go: the order of summation of every product (lib/gemm.ts). */
export const KC: i32 = 256;
/** Bytes of a thread's scratch that packing and tiles use: 8 converted rows of KC, a row of zeros, one tile. */
export const GEMM_TMP_BYTES: usize = 10240;
const TMP_ZEROS: usize = 8192;
export const TMP_TILE: usize = 9216;
// Panels that are filled at a time. They lie a power of two or so apart and would evict each other from the first-level cache.
const A_STREAMS: i32 = 8;
const B_STREAMS: i32 = 4;

// @ts-ignore: decorator
@inline export function align64(n: usize): usize { return (n + 63) & ~63; }
// @ts-ignore: decorator
@inline export function panelCount(N: i32): i32 { return (N + NR - 1) / NR; }

/** Panels, and elements of K, of one item of packing an op(B). */
export const PACK_PANELS: i32 = 8;
export const K_SPAN: i32 = 1024;
// @ts-ignore: decorator
@inline export function packSpans(K: i32): i32 { return (K + K_SPAN - 1) / K_SPAN; }

/** Splits n rows evenly into blocks of at most `most` rows, each a multiple of MR. */
export function rowBlock(n: i32, most: i32): i32 {
  const parts = (n + most - 1) / most;
  return ((n + parts - 1) / parts + MR - 1) / MR * MR;
}

/** Makes a descriptor (48 bytes at `at`) of contiguous f32 rows in scratch. */
export function describe(at: usize, base: usize, rows: i32, cols: i32): void {
  store<u32>(at, <u32>(at + 32), 0); store<u32>(at, 31, 4); store<u32>(at, 0x7fffffff, 8); store<u32>(at, <u32>cols << 2, 12);
  store<i32>(at, rows, 16); store<i32>(at, cols, 20); store<i32>(at, F32, 24); store<u32>(at, 0, 28);
  store<u32>(at, <u32>base, 32);
}

// Four rows of kc floats become kc groups of four, `step` bytes apart.
function transpose4(dst: usize, step: usize, p0: usize, p1: usize, p2: usize, p3: usize, kc: i32): void {
  let k: usize = 0;
  const end4 = <usize>(kc & ~3) << 2;
  for (; k < end4; k += 16) {
    const r0 = v128.load(p0 + k), r1 = v128.load(p1 + k), r2 = v128.load(p2 + k), r3 = v128.load(p3 + k);
    const a0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), a1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const b0 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), b1 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(dst, v128.shuffle<f64>(a0, b0, 0, 2)); dst += step;
    v128.store(dst, v128.shuffle<f64>(a0, b0, 1, 3)); dst += step;
    v128.store(dst, v128.shuffle<f64>(a1, b1, 0, 2)); dst += step;
    v128.store(dst, v128.shuffle<f64>(a1, b1, 1, 3)); dst += step;
  }
  for (const end = <usize>kc << 2; k < end; k += 4) {
    store<f32>(dst, load<f32>(p0 + k), 0); store<f32>(dst, load<f32>(p1 + k), 4);
    store<f32>(dst, load<f32>(p2 + k), 8); store<f32>(dst, load<f32>(p3 + k), 12); dst += step;
  }
}
function spread1(dst: usize, step: usize, p: usize, kc: i32): void {
  for (const end = p + (<usize>kc << 2); p < end; p += 4) { store<f32>(dst, load<f32>(p)); dst += step; }
}

// Columns k0.. of one row as f32: in place, or converted into slot `lane` of tmp.
// @ts-ignore: decorator
@inline function rowAt(t: usize, dtype: i32, row: i32, k0: i32, kc: i32, tmp: usize, lane: i32): usize {
  const p = rowPtr(t, row) + <usize>k0 * elementBytes(dtype);
  if (dtype == F32) return p;
  const to = tmp + (<usize>lane << 10);
  toF32(dtype, p, to, kc);
  return to;
}

// Lanes of a panel are rows of t (A as it is, or B stored [N, K]).
function packLanesFromRows(dst: usize, lanes: i32, panel: i32, t: usize, row: i32, k0: i32, kc: i32, tmp: usize): void {
  const dtype = dtypeOf(t);
  const step = <usize>panel << 2;
  let x = 0;
  for (; x + 4 <= lanes; x += 4) {
    transpose4(dst + (<usize>x << 2), step, rowAt(t, dtype, row + x, k0, kc, tmp, x), rowAt(t, dtype, row + x + 1, k0, kc, tmp, x + 1),
      rowAt(t, dtype, row + x + 2, k0, kc, tmp, x + 2), rowAt(t, dtype, row + x + 3, k0, kc, tmp, x + 3), kc);
  }
  for (; x < lanes; x++) spread1(dst + (<usize>x << 2), step, rowAt(t, dtype, row + x, k0, kc, tmp, x), kc);
  if (x < panel) {
    memory.fill(tmp + TMP_ZEROS, 0, KC * 4);
    for (; x < panel; x++) spread1(dst + (<usize>x << 2), step, tmp + TMP_ZEROS, kc);
  }
}

/** One K chunk of `rows` rows of op(A), in row panels. trans: A is stored [K, M]. */
export function packA(dst: usize, t: usize, trans: bool, row0: i32, rows: i32, k0: i32, kc: i32, tmp: usize): void {
  if (!trans) {
    for (let i = 0; i < rows; i += MR) {
      const h = min(MR, rows - i);
      packLanesFromRows(dst, h, h, t, row0 + i, k0, kc, tmp);
      dst += <usize>(h * kc) << 2;
    }
    return;
  }
  for (let i = 0; i < rows; i += A_STREAMS * MR) {
    const width = min(A_STREAMS * MR, rows - i);
    packLanesFromColumns(dst, <usize>(kc * MR) << 2, MR, width / MR, width % MR, <usize>(width % MR) << 2, t, row0 + i, k0, kc, tmp);
    dst += <usize>(width * kc) << 2;
  }
}

// Lanes are columns of t from `column` on, k its rows: `full` panels `panelBytes` apart, then one of `rest` lanes, `restStep` bytes a row.
function packLanesFromColumns(dst: usize, panelBytes: usize, panel: i32, full: i32, rest: i32, restStep: usize, t: usize, column: i32, k0: i32, kc: i32, tmp: usize): void {
  const dtype = dtypeOf(t), step = <usize>panel << 2;
  let from = <usize>column * elementBytes(dtype);
  let last = dst + <usize>full * panelBytes;
  if (nativeBlock != 0 && packColumnsNative(dst, panelBytes, panel, full, t, from, k0, kc)) {
    if (restStep == 0) return;
    from += <usize>full * step;
    full = 0;
  }
  for (let k = k0; k < k0 + kc; k++) {
    let p = rowPtr(t, k) + from;
    if (dtype != F32) { toF32(dtype, p, tmp, full * panel + rest); p = tmp; }
    let d = dst;
    if (panel == MR) {
      for (let i = 0; i < full; i++) { v128.store(d, v128.load(p)); store<f32>(d, load<f32>(p, 16), 16); d += panelBytes; p += MR * 4; }
    } else {
      for (let i = 0; i < full; i++) { v128.store(d, v128.load(p)); v128.store(d, v128.load(p, 16), 16); d += panelBytes; p += NR * 4; }
    }
    if (restStep != 0) {
      for (let x: usize = 0; x < restStep; x += 4) store<f32>(last + x, x < <usize>rest << 2 ? load<f32>(p + x) : 0);
      last += restStep;
    }
    dst += step;
  }
}

// Whole panels of floats, as machine code does them, if it can. The call block is that of src/device/cpu/native/pack.ts.
function packColumnsNative(dst: usize, panelBytes: usize, panel: i32, full: i32, t: usize, offset: usize, k0: i32, kc: i32): bool {
  if (full <= 0 || kc <= 0 || dtypeOf(t) != F32 || contiguousRows(t, k0) < kc) return false;
  const pitch = <usize>load<u32>(t, 12), from = rowPtr(t, k0) + offset, step = <u64>panel << 2;
  if (!inMemory(from, <u64>pitch * (kc - 1) + step * full) || !inMemory(dst, <u64>panelBytes * (full - 1) + step * kc)) return false;
  const at = nativeBlock;
  store<u32>(at, <u32>dst, 0); store<u32>(at, <u32>from, 4); store<u32>(at, <u32>pitch, 8); store<i32>(at, kc, 12);
  store<i32>(at, panel, 16); store<i32>(at, full, 20); store<u32>(at, <u32>panelBytes, 24);
  nativePackColumns(at);
  return true;
}

// Whole panels from row `row` of t on, as machine code does them: how many it did. The call block is that of src/device/cpu/native/pack.ts.
function packNative(dst: usize, t: usize, panels: i32, row: i32, k0: i32, kc: i32, panelBytes: usize): i32 {
  const dtype = dtypeOf(t);
  if (panels <= 0 || (kc & 3) != 0 || dtype == U32 || contiguousRows(t, row) < panels * NR) return 0;
  const size = elementBytes(dtype), pitch = <usize>load<u32>(t, 12), from = rowPtr(t, row) + <usize>k0 * size;
  if (!inMemory(from, <u64>pitch * (panels * NR - 1) + <u64>kc * size) || !inMemory(dst, <u64>panelBytes * (panels - 1) + (<u64>kc * NR << 2))) return 0;
  const at = nativeBlock;
  store<u32>(at, <u32>dst, 0); store<u32>(at, <u32>from, 4); store<u32>(at, <u32>pitch, 8); store<i32>(at, kc, 12);
  store<i32>(at, dtype, 16); store<i32>(at, panels, 20); store<u32>(at, <u32>panelBytes, 24);
  nativePackRows(at);
  return panels;
}

/** One K chunk of column panels p0..p1-1 of op(B); panel p0 begins at dst. trans: B is stored [N, K]; else its row 0 is row `base` of t. */
export function packB(dst: usize, t: usize, trans: bool, N: i32, K: i32, p0: i32, p1: i32, k0: i32, kc: i32, tmp: usize, base: i32 = 0): void {
  const panelBytes = <usize>(K * NR) << 2;
  dst += <usize>(k0 * NR) << 2;
  if (trans) {
    const whole = nativeBlock != 0 ? packNative(dst, t, min(p1, N / NR) - p0, p0 * NR, k0, kc, panelBytes) : 0;
    dst += panelBytes * <usize>whole;
    for (let p = p0 + whole; p < p1; p++) {
      packLanesFromRows(dst, min(NR, N - p * NR), NR, t, p * NR, k0, kc, tmp);
      dst += panelBytes;
    }
    return;
  }
  for (let p = p0; p < p1; p += B_STREAMS) {
    const panels = min(B_STREAMS, p1 - p), width = min(N - p * NR, panels * NR);
    packLanesFromColumns(dst, panelBytes, NR, width / NR, width % NR, width % NR == 0 ? 0 : NR * 4, t, p * NR, base + k0, kc, tmp);
    dst += panelBytes * <usize>panels;
  }
}
