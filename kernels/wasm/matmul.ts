// c[M,N] (= or +=) op(a)[M,K] op(b)[K,N] + bias[N]
//
// Operands   a [M,K] or [K,M] (transA), b [K,N] or [N,K] (transB), bias [1,N]: f32, f16 or bf16, converted while packing; c [M,N] f32.
// Order      ((((old c, if accumulate) + chunk 0) + chunk 1) + ...) + bias; chunks of 256 in K (lib/gemm.ts).
// Phases     even: pack A (if M is small, for all threads) and one block of B's panels; odd: tiles of C. B comes in several blocks only if
//            its panels would exceed B_BLOCK_BYTES. A large A is packed by each tile for itself; so is B where M is small and no panels are
//            kept: each is then used once, while it is in the cache.
// Panels     Word 28 of b's descriptor: 0 = pack into this call's scratch; an address = pack there, the device keeps it; address | 1 = packed already.
import { dimI, tensor, sharedScratch, rowPtr, dtypeOf, contiguousRows, BF16 } from "./lib/call";
import { load1, elementBytes } from "./lib/convert";
import { NR, KC, PACK_PANELS, K_SPAN, GEMM_TMP_BYTES, align64, panelCount, packSpans, packA, packB } from "./lib/pack";
import { gemmChunk } from "./lib/gemm";
import { threads } from "./lib/threads";
import { nativeBlock, inMemory, nativeRows } from "./lib/native";

const B_BLOCK_BYTES: i32 = 32 << 20;
// up to this M, A is packed once for all threads, and C is split by columns only
const SMALL_M: i32 = 256;
// up to this M, machine code multiplies with bf16 weights as they lie: what src/device/cpu/native/rows.ts has widths for
const MOST_ROWS: i32 = 4;
const ROW_BLOCK: i32 = 120;
const COLUMN_BLOCK: i32 = 64; // panels

// @ts-ignore: decorator
@inline function mOf(args: usize): i32 { return dimI(args, 0); }
// @ts-ignore: decorator
@inline function nOf(args: usize): i32 { return dimI(args, 1); }
// @ts-ignore: decorator
@inline function kOf(args: usize): i32 { return dimI(args, 2); }
// @ts-ignore: decorator
@inline function cachedPanels(args: usize): u32 { return load<u32>(tensor(args, 6, 1), 28); }

// each tile packs its own panels of B
// @ts-ignore: decorator
@inline function packsOwn(args: usize): bool { return mOf(args) <= SMALL_M && cachedPanels(args) == 0; }

// panels of B in one block
function blockPanels(args: usize): i32 {
  const all = panelCount(nOf(args));
  if (cachedPanels(args) != 0 || packsOwn(args)) return all;
  return min(all, max(PACK_PANELS, B_BLOCK_BYTES / (kOf(args) * NR * 4)));
}
// @ts-ignore: decorator
@inline function sharedABytes(args: usize): usize { return mOf(args) <= SMALL_M ? align64(<usize>mOf(args) * <usize>kOf(args) << 2) : 0; }
// K chunks of A packed by one item
// @ts-ignore: decorator
@inline function aChunks(M: i32): i32 { return max(1, 65536 / (max(1, M) * KC)); }
// @ts-ignore: decorator
@inline function chunks(K: i32): i32 { return (K + KC - 1) / KC; }
function aItems(M: i32, K: i32): i32 { return M <= SMALL_M ? (chunks(K) + aChunks(M) - 1) / aChunks(M) : 0; }

// rows of a block of C, and panels of a block of C
function tileRows(M: i32): i32 {
  if (M <= SMALL_M) return M;
  let blocks = (M + ROW_BLOCK - 1) / ROW_BLOCK;
  blocks += blocks & 1;
  return ((M + blocks - 1) / blocks + 4) / 5 * 5;
}
function tilePanels(M: i32, K: i32, panels: i32): i32 {
  if (M > SMALL_M) {
    const parts = (panels + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
    return (panels + parts - 1) / parts;
  }
  // reading a panel costs about as much as two rows of arithmetic; an item is then 10 us or more, and there is an even number of them
  const cost = <f64>(M + 2) * <f64>K * <f64>(panels * NR);
  // of few rows, which wait for the memory, two items a thread: each starts with weights that nobody has asked for
  const parts = min(M <= MOST_ROWS ? 2 * threads : 16, max(1, <i32>(cost / 250000) + 1 & ~1));
  // groups of four panels, for the micro-kernel of one row
  return max(4, ((panels + parts - 1) / parts + 3) & ~3);
}

export function matmul_scratch(args: usize): usize {
  const panels: usize = cachedPanels(args) != 0 || packsOwn(args) ? 0 : <usize>(blockPanels(args) * NR) * <usize>kOf(args) * 4;
  return sharedABytes(args) + panels;
}

export function matmul_items(args: usize, phase: i32): i32 {
  const M = mOf(args), K = kOf(args), panels = panelCount(nOf(args)), perBlock = blockPanels(args);
  const first = (phase >> 1) * perBlock;
  if (first >= panels) return -1;
  const here = min(perBlock, panels - first);
  if ((phase & 1) == 0) {
    let items = phase == 0 ? aItems(M, K) : 0;
    if ((cachedPanels(args) & 1) == 0 && !packsOwn(args)) items += (here + PACK_PANELS - 1) / PACK_PANELS * packSpans(K);
    return items;
  }
  const rows = tileRows(M), cols = tilePanels(M, K, here);
  return (M + rows - 1) / rows * ((here + cols - 1) / cols);
}

export function matmul_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const M = mOf(args), N = nOf(args), K = kOf(args), perBlock = blockPanels(args);
  const first = (phase >> 1) * perBlock, here = min(perBlock, panelCount(N) - first);
  const cached = <usize>(cachedPanels(args) & ~1);
  const sharedA = sharedScratch(args);
  const b = cached != 0 ? cached : sharedA + sharedABytes(args);
  if ((phase & 1) == 0) pack(args, phase, item, first, here, sharedA, b, scratch);
  else tile(args, item, first, here, sharedA, b, scratch);
}

function pack(args: usize, phase: i32, item: i32, first: i32, here: i32, sharedA: usize, b: usize, scratch: usize): void {
  const M = mOf(args), N = nOf(args), K = kOf(args);
  const forA = phase == 0 ? aItems(M, K) : 0;
  if (item < forA) {
    const step = aChunks(M) * KC;
    for (let k = item * step, end = min(K, k + step); k < end; k += KC) {
      packA(sharedA + (<usize>M * <usize>k << 2), tensor(args, 6, 0), dimI(args, 3) != 0, 0, M, k, min(KC, K - k), scratch);
    }
    return;
  }
  item -= forA;
  const spans = packSpans(K);
  const p0 = item / spans * PACK_PANELS, p1 = min(here, p0 + PACK_PANELS);
  for (let k = item % spans * K_SPAN, end = min(K, k + K_SPAN); k < end; k += KC) {
    packB(b + (<usize>p0 * <usize>K * NR << 2), tensor(args, 6, 1), dimI(args, 4) != 0, N, K, first + p0, first + p1, k, min(KC, K - k), scratch);
  }
}

function tile(args: usize, item: i32, first: i32, here: i32, sharedA: usize, b: usize, scratch: usize): void {
  const M = mOf(args), N = nOf(args), K = kOf(args), c = tensor(args, 6, 3), bias = tensor(args, 6, 2);
  const accumulate = dimI(args, 5) != 0;
  const blockRows = tileRows(M), blockCols = tilePanels(M, K, here);
  const across = (here + blockCols - 1) / blockCols;
  const row0 = item / across * blockRows, rows = min(blockRows, M - row0);
  const p0 = item % across * blockCols, p1 = min(here, p0 + blockCols);
  const stride = <usize>K * NR << 2;
  const own = scratch + GEMM_TMP_BYTES;
  if (packsOwn(args)) {
    const panels = tensor(args, 6, 1), trans = dimI(args, 4) != 0;
    let p = p0;
    if (nativeBlock != 0 && trans && M <= MOST_ROWS) p += rowsNative(panels, c, M, K, sharedA, first + p0, min(first + p1, N / NR) - first - p0, accumulate);
    for (; p < p1; p += PACK_PANELS) {
      const end = min(p1, p + PACK_PANELS);
      for (let k = 0; k < K; k += KC) {
        const kc = min(KC, K - k);
        packB(own - (<usize>(k * NR) << 2), panels, trans, N, kc, p, end, k, kc, scratch);
        gemmChunk(sharedA + (<usize>M * <usize>k << 2), rows, kc, own, <usize>(kc * NR) << 2, p, end, 0, N, c, row0, accumulate || k > 0, scratch);
      }
    }
  } else for (let k = 0; k < K; k += KC) {
    const kc = min(KC, K - k);
    let a = sharedA + (<usize>M * <usize>k << 2);
    if (M > SMALL_M) {
      a = own;
      packA(a, tensor(args, 6, 0), dimI(args, 3) != 0, row0, rows, k, kc, scratch);
    }
    gemmChunk(a, rows, kc, b + <usize>p0 * stride + (<usize>(k * NR) << 2), stride, first + p0, first + p1, 0, N, c, row0, accumulate || k > 0, scratch);
  }
  if (bias != 0) addBias(c, row0, rows, (first + p0) * NR, min(N, (first + p1) * NR), bias);
}

// Whole panels of bf16 weights from panel p on, as machine code multiplies them: how many it did. The call block is that of
// src/device/cpu/native/rows.ts.
function rowsNative(b: usize, c: usize, M: i32, K: i32, a: usize, p: i32, panels: i32, accumulate: bool): i32 {
  if (panels <= 0 || dtypeOf(b) != BF16 || (K & 7) != 0 || contiguousRows(b, p * NR) < panels * NR || contiguousRows(c, 0) < M) return 0;
  const pitch = <usize>load<u32>(b, 12), ldc = <usize>load<u32>(c, 12), from = rowPtr(b, p * NR), to = rowPtr(c, 0) + (<usize>(p * NR) << 2);
  const inside = inMemory(a, <u64>M * K << 2) && inMemory(from, <u64>pitch * (panels * NR - 1) + (<u64>K << 1)) &&
    inMemory(to, <u64>ldc * (M - 1) + (<u64>panels * NR << 2));
  if (!inside) return 0;
  const at = nativeBlock;
  store<u32>(at, <u32>a, 0); store<u32>(at, <u32>from, 4); store<u32>(at, <u32>to, 8); store<u32>(at, <u32>ldc, 12); store<i32>(at, K, 16);
  store<u32>(at, <u32>pitch, 20); store<i32>(at, panels, 24); store<i32>(at, M, 28); store<i32>(at, accumulate ? 1 : 0, 32);
  nativeRows(at);
  return panels;
}

function addBias(c: usize, row0: i32, rows: i32, from: i32, to: i32, bias: usize): void {
  const dtype = dtypeOf(bias), size = elementBytes(dtype);
  const p = rowPtr(bias, 0);
  for (let r = row0; r < row0 + rows; r++) {
    const q = rowPtr(c, r);
    for (let x = from; x < to; x++) {
      const at = q + (<usize>x << 2);
      store<f32>(at, load<f32>(at) + load1(dtype, p + <usize>x * size));
    }
  }
}
