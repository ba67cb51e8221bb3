/** Products in f16 by subgroup matrices: operands are packed, parameters once, others for the call; few rows of f32 are read as they lie. */
import { dtypeCodes, fold, rowRuns, type GpuBuffer, type GpuStorage, type KernelContext } from "../kernel.ts";
import type { Product } from "./matmul.ts";
import { pack, packedAsItIs, packedParameter, packUnit, padded, type Packed } from "./matmul-pack.ts";
import { matmulSum } from "./matmul-sum.ts";
import { directRows, largeGroups, matrixTile, slicesFor, smallGroups } from "./matmul-tiles.ts";

const chunk = 2048;

/** A run of rows of op(a), or of columns of op(b), and where it is read. */
interface Span {
  readonly first: number;
  readonly count: number;
  readonly packed: Packed;
}

export function matrixProduct(context: KernelContext, product: Product): void {
  const { M, N, K, transA, transB, a, b, c } = product;
  const direct = M <= directRows && !transA && a.dtype === "f32" && a.shards === 1 && c.shards === 1;
  const aSpans = direct
    ? [{ first: 0, count: M, packed: { buffer: a.buffers[0]!, start: 0, stride: a.stride / 4 } }]
    : spans(context, a, M, K, transA);
  for (const right of spans(context, b, N, K, !transB))
    for (const left of aSpans)
      for (const { row, rows, parts } of rowRuns([c], left.first, left.count)) {
        const [to] = parts;
        const skip = row - left.first;
        block(context, product, {
          M: rows,
          N: right.count,
          direct,
          a: { ...left.packed, start: left.packed.start + (transA ? skip / 8 : skip * left.packed.stride) },
          b: right.packed,
          c: { buffer: to!.buffer, start: (to!.row * c.stride + right.first) / 4 },
          n0: right.first,
        });
      }
}

/**
 * `count` rows of a storage of `depth` columns, or `count` columns of one of `depth` rows if `alongK`, packed in as few pieces as fit
 * a binding.
 */
function spans(context: KernelContext, storage: GpuStorage, count: number, depth: number, alongK: boolean): Span[] {
  const all = packedAsItIs(storage) ?? packedParameter(context, storage);
  if (all !== null) return [{ first: 0, count, packed: all }];
  const most = Math.max(packUnit, Math.floor(context.capabilities.maxBinding / (2 * padded(depth)) / packUnit) * packUnit);
  const pieces: Span[] = [];
  for (let first = 0; first < count; first += most) {
    const some = Math.min(most, count - first);
    const part = alongK ? { row: 0, rows: depth, col: first, cols: some } : { row: first, rows: some, col: 0, cols: depth };
    pieces.push({ first, count: some, packed: pack(context, storage, part) });
  }
  return pieces;
}

interface Block {
  readonly M: number;
  readonly N: number;
  /** Whether a is f32 as it lies: start and stride then count quads, else octets. */
  readonly direct: boolean;
  readonly a: Packed;
  readonly b: Packed;
  /** Start in quads. */
  readonly c: { readonly buffer: GpuBuffer; readonly start: number };
  /** The block's first column. */
  readonly n0: number;
}

function block(context: KernelContext, product: Product, { M, N, direct, a, b, c, n0 }: Block): void {
  const { K, transA, transB, accumulate, bias } = product;
  const { matrix, subgroupSize, maxBinding } = context.capabilities;
  const tile = matrixTile(context.capabilities, M, N);
  const { BM, BN, BK, WM, WN, buffers } = tile;
  const chunks = Math.ceil(K / chunk);
  const [tilesM, tilesN] = [Math.ceil(M / BM), Math.ceil(N / BN)];
  const [height, width] = [tilesM * BM, tilesN * BN];
  const partBytes = chunks * height * width * 4;
  const slices = partBytes > maxBinding ? 1 : slicesFor(tilesM * tilesN, chunks, M > directRows ? largeGroups : smallGroups);
  const part = slices > 1 ? context.scratch(partBytes) : null;
  const slice = Math.ceil(chunks / slices);
  const [x, y] = fold(tilesM * tilesN);
  const biasDtype = part !== null || bias === null ? dtypeCodes.u32 : dtypeCodes[bias.dtype];
  const stride = product.c.stride / 4;
  context.dispatch({
    kernel: "matmul_matrix",
    enables: ["f16", "subgroups", "chromium_experimental_subgroup_matrix"],
    constants: {
      TILE_M: matrix!.M,
      TILE_N: matrix!.N,
      TILE_K: matrix!.K,
      SG: subgroupSize,
      BM,
      BN,
      BK,
      WM,
      WN,
      BUFFERS: buffers,
      A_F32: direct,
      TRANS_A: transA,
      TRANS_B: transB,
      SPLIT: part !== null,
    },
    buffers: [a.buffer, b.buffer, bias?.buffers[0] ?? a.buffer, part ?? c.buffer],
    uints: [
      ...[M, N, K, tilesM, tilesN, slice],
      ...[a.start, a.stride, b.start, b.stride],
      ...(part === null ? [c.start, stride, 0] : [0, width / 4, (height * width) / 4]),
      ...[n0, biasDtype, accumulate ? 1 : 0],
    ],
    grid: [x, y, Math.ceil(chunks / slice)],
  });
  if (part === null) return;
  matmulSum(context, {
    part: { buffer: part, parts: chunks, stride: width / 4, plane: (height * width) / 4 },
    c: { ...c, stride },
    rows: M,
    cols: N,
    bias,
    biasStart: n0,
    accumulate,
  });
}
