/** Products in f16 by subgroup matrices: operands are packed, parameters once, others for the call; few rows of f32 are read as they lie. */
import { rowRuns, type GpuStorage, type KernelContext } from "../kernel.ts";
import type { Product } from "./matmul.ts";
import { pack, packedAsItIs, packedParameter, packUnit, padded, type Packed } from "./matmul-pack.ts";
import { productBlock, type Block } from "./matmul-sum.ts";
import { directRows, largeGroups, matrixTile, smallGroups } from "./matmul-tiles.ts";

const chunk = 2048;

/** A run of rows of op(a), or of columns of op(b), and where it is read. */
interface Span {
  readonly first: number;
  readonly count: number;
  readonly packed: Packed;
}

export function matrixProduct(context: KernelContext, product: Product): void {
  const { M, N, K, transA, transB, accumulate, bias, a, b, c } = product;
  // a is read as f32 where it lies: start and stride then count quads, else octets
  const direct = M <= directRows && !transA && a.dtype === "f32" && a.shards === 1 && c.shards === 1;
  const aSpans = direct
    ? [{ first: 0, count: M, packed: { buffer: a.buffers[0]!, start: 0, stride: a.stride / 4 } }]
    : spans(context, a, M, K, transA);
  for (const right of spans(context, b, N, K, !transB))
    for (const left of aSpans)
      for (const { row, rows, parts } of rowRuns([c], left.first, left.count)) {
        const [to] = parts;
        const skip = row - left.first;
        const block = {
          M: rows,
          N: right.count,
          K,
          a: { ...left.packed, start: left.packed.start + (transA ? skip / 8 : skip * left.packed.stride) },
          b: right.packed,
          c: { buffer: to!.buffer, stride: c.stride / 4, start: (to!.row * c.stride + right.first) / 4 },
          n0: right.first,
          bias,
          accumulate,
        };
        matrixBlock(context, product, block, direct);
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

function matrixBlock(context: KernelContext, { transA, transB }: Product, block: Block, direct: boolean): void {
  const { M, N } = block;
  const { matrix, subgroupSize } = context.capabilities;
  const tile = matrixTile(context.capabilities, M, N);
  const { BM, BN, BK, WM, WN, buffers } = tile;
  const [height, width] = [Math.ceil(M / BM) * BM, Math.ceil(N / BN) * BN];
  const wanted = M > directRows ? largeGroups : smallGroups;
  productBlock(
    context,
    block,
    { tile, chunk, height, width, wanted },
    {
      kernel: "matmul_matrix",
      enables: ["f16", "subgroups", "chromium_experimental_subgroup_matrix"],
      constants: {
        TILE_M: matrix!.M,
        TILE_N: matrix!.N,
        TILE_K: matrix!.K,
        SG: subgroupSize,
        ...{ BM, BN, BK, WM, WN },
        BUFFERS: buffers,
        A_F32: direct,
        TRANS_A: transA,
        TRANS_B: transB,
      },
    },
  );
}
