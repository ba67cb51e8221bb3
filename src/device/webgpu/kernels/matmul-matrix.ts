/** Products in f16 by subgroup matrices: operands are packed, parameters once, others for a while; few rows of f32 are read as they lie. */
import { fold, rowRuns, type GpuBuffer, type GpuStorage, type KernelContext, type Packed } from "../kernel.ts";
import { matrixEnables } from "../capabilities.ts";
import type { Product } from "./matmul.ts";
import { pack, packedWhole, packUnit, padded } from "./matmul-pack.ts";
import { biasWords, matmulSum } from "./matmul-sum.ts";
import { directRows, largeGroups, matrixChunk, matrixTile, slicesFor, smallGroups, tileRuns } from "./matmul-tiles.ts";

/** A run of rows of op(a), or of columns of op(b), and where it is read. */
interface Span {
  readonly first: number;
  readonly count: number;
  readonly packed: Packed;
}

/** One of the products of a block: columns of op(b), and where their sums go. */
interface Member {
  readonly N: number;
  readonly b: Packed;
  /** Start and stride in quads. */
  readonly c: { readonly buffer: GpuBuffer; readonly start: number; readonly stride: number };
  /** The first column. */
  readonly n0: number;
  readonly bias: GpuStorage | null;
}

interface Block {
  readonly M: number;
  readonly K: number;
  /** Elements of K that are summed by themselves. */
  readonly chunk: number;
  /** Start and stride in octets; in quads if `direct`. */
  readonly a: Packed;
  /** Whether a is f32, read where it lies. */
  readonly direct: boolean;
  readonly accumulate: boolean;
  readonly members: readonly Member[];
}

export function matrixProduct(context: KernelContext, product: Product): void {
  const { M, N, K, transA, transB, accumulate, bias, a, b, c } = product;
  const direct = c.shards === 1 ? directly(product) : null;
  const aSpans = direct === null ? spans(context, a, M, K, transA) : [{ first: 0, count: M, packed: direct }];
  for (const right of spans(context, b, N, K, !transB))
    for (const left of aSpans)
      for (const { row, rows, parts } of rowRuns([c], left.first, left.count)) {
        const [to] = parts;
        const skip = row - left.first;
        const from = { ...left.packed, start: left.packed.start + (transA ? skip / 8 : skip * left.packed.stride) };
        const place = { buffer: to!.buffer, stride: c.stride / 4, start: (to!.row * c.stride + right.first) / 4 };
        const member = { N: right.count, b: right.packed, c: place, n0: right.first, bias };
        const block = { M: rows, K, chunk: matrixChunk(N, K), a: from, direct: direct !== null, accumulate, members: [member] };
        matrixBlock(context, product, block);
      }
}

/** The products of one a as one block, to be recorded; null where they are not of one kind. At most 3. */
export function matrixProducts(context: KernelContext, products: readonly Product[]): (() => void) | null {
  const [first] = products;
  if (first === undefined || products.length > 3) return null;
  const { M, K, a, accumulate } = first;
  const chunk = matrixChunk(first.N, K);
  const alike = products.every(
    (one, i) =>
      one.a === a &&
      one.c !== a &&
      !one.transA &&
      one.transB &&
      one.accumulate === accumulate &&
      one.b.usage === "parameter" &&
      one.c.shards === 1 &&
      matrixChunk(one.N, K) === chunk &&
      products.every((other, j) => i === j || (other.c !== one.c && other.c !== one.b && other.c !== one.bias)),
  );
  const bindings = 1 + products.length * (products.some(({ bias }) => bias !== null) ? 3 : 2);
  if (!alike || bindings > context.capabilities.maxStorageBuffers) return null;
  return () => {
    const direct = directly(first);
    const left = direct ?? packedWhole(context, a);
    const right = products.map(({ b }) => packedWhole(context, b));
    if (left === null || right.includes(null)) for (const product of products) matrixProduct(context, product);
    else {
      const members = products.map(({ N, c, bias }, i) => {
        return { N, b: right[i]!, c: { buffer: c.buffers[0]!, start: 0, stride: c.stride / 4 }, n0: 0, bias };
      });
      matrixBlock(context, first, { M, K, chunk, a: left, direct: direct !== null, accumulate, members });
    }
  };
}

/** Few rows of f32 are read where they lie; null where they are not. */
function directly({ M, transA, a }: Product): Packed | null {
  if (M > directRows || transA || a.dtype !== "f32" || a.shards > 1 || a.packed !== undefined) return null;
  return { buffer: a.buffers[0]!, start: 0, stride: a.stride / 4 };
}

/**
 * `count` rows of a storage of `depth` columns, or `count` columns of one of `depth` rows if `alongK`, packed in as few pieces as fit
 * a binding.
 */
function spans(context: KernelContext, storage: GpuStorage, count: number, depth: number, alongK: boolean): Span[] {
  const all = packedWhole(context, storage);
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

function matrixBlock(context: KernelContext, { transA, transB }: Product, { M, K, chunk, a, direct, accumulate, members }: Block): void {
  const { matrix, subgroupSize, maxBinding } = context.capabilities;
  const tile = matrixTile(
    context.capabilities,
    M,
    members.map(({ N }) => N),
  );
  const { BM, BN, BK, WM, WN, buffers } = tile;
  const tilesM = Math.ceil(M / BM);
  const tiles = members.map(({ N }) => Math.ceil(N / BN));
  const tilesN = tiles.reduce((sum, some) => sum + some, 0);
  const chunks = Math.ceil(K / chunk);
  const stride = (tilesN * BN) / 4;
  const plane = tilesM * BM * stride;
  const wanted = (M > directRows ? largeGroups : smallGroups)(context.capabilities);
  const slices = chunks * plane * 16 > maxBinding ? 1 : slicesFor(tilesM * tilesN, chunks, wanted);
  const slice = Math.ceil(chunks / slices);
  const part = slices > 1 ? context.scratch(chunks * plane * 16) : null;
  const withBias = part === null && members.some(({ bias }) => bias !== null);
  for (const { first, end } of tileRuns(tilesM * tilesN, tile, K)) {
    const [x, y] = fold(end - first);
    context.dispatch({
      kernel: "matmul_matrix",
      enables: matrixEnables(context.capabilities),
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
        MEMBERS: members.length,
        BIAS: withBias,
        SPLIT: part !== null,
      },
      buffers: [
        a.buffer,
        ...members.map(({ b }) => b.buffer),
        ...(part === null ? members.map(({ c }) => c.buffer) : [part]),
        ...(withBias ? members.map(({ bias }) => bias?.buffers[0] ?? a.buffer) : []),
      ],
      uints: [
        ...[M, K, chunk, slice, tilesM, tilesN, a.start, a.stride, part === null ? 0 : plane, accumulate ? 1 : 0, first, end],
        ...members.flatMap(({ N, b, c, bias, n0 }, i) => [
          ...[tiles[i]!, N, b.start, b.stride],
          ...(part === null ? [c.start, c.stride] : [0, stride]),
          ...biasWords(withBias ? bias : null, n0),
        ]),
      ],
      grid: [x, y, Math.ceil(chunks / slice)],
    });
  }
  if (part === null) return;
  let tilesBefore = 0;
  const sums = members.map(({ N, c, bias, n0 }, i) => {
    const partStart = (tilesBefore * BN) / 4;
    tilesBefore += tiles[i]!;
    return { partStart, c, cols: N, bias, biasStart: n0 };
  });
  matmulSum(context, { part: { buffer: part, parts: chunks, stride, plane }, rows: M, accumulate, members: sums });
}
