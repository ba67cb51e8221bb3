/**
 * Matrix products: c = (or +=) op(a) op(b) + bias.
 *
 * Every way of computing one sums K in an order that depends on N and K only, for a given precision and adapter: chunks (256; by subgroup
 * matrices those of `matrixChunk`) are each summed from 0 and added in order to the old c or to 0, then the bias. So chunks may be
 * computed by different workgroups, and K may lie in several shards.
 */
import type { Dtype } from "../../device.ts";
import {
  dtypeCodes,
  fold,
  rowRuns,
  type GpuBuffer,
  type GpuStorage,
  type KernelCall,
  type KernelContext,
  type KernelHost,
} from "../kernel.ts";
import { matrixProduct, matrixProducts } from "./matmul-matrix.ts";
import { biasWords, matmulSum } from "./matmul-sum.ts";
import { packedParameter } from "./matmul-pack.ts";
import { matrixFits, plainTile, slicesFor, smallGroups, tileRuns } from "./matmul-tiles.ts";

export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly accumulate: boolean;
  readonly a: GpuStorage;
  readonly b: GpuStorage;
  readonly bias: GpuStorage | null;
  readonly c: GpuStorage;
}

function productOf({ dims, inputs: [a, b, bias], outputs: [c] }: KernelCall): Product {
  return {
    M: dims["M"]!,
    N: dims["N"]!,
    K: dims["K"]!,
    transA: dims["transA"] !== 0,
    transB: dims["transB"] !== 0,
    accumulate: dims["accumulate"] !== 0,
    a: a!,
    b: b!,
    bias: bias ?? null,
    c: c!,
  };
}

const byMatrices = ({ precision, capabilities }: KernelContext): boolean => precision === "f16" && matrixFits(capabilities);

export const matmul: KernelHost = (context, call) => {
  if (byMatrices(context)) matrixProduct(context, productOf(call));
  else plainProduct(context, productOf(call));
};

/** Whether the products may be one dispatch, by `matmulTogether`: linear layers of one input. Its bits are those of the products one by one. */
export function goTogether(context: KernelContext, calls: readonly KernelCall[]): boolean {
  return byMatrices(context) && matrixProducts(context, calls.map(productOf)) !== null;
}

export function matmulTogether(context: KernelContext, calls: readonly KernelCall[]): void {
  matrixProducts(context, calls.map(productOf))!();
}

/** What an operand's elements are read from. */
type Operand = Pick<GpuStorage, "rows" | "rowsPerShard" | "stride" | "dtype" | "buffers">;

const chunk = 256;

/** By matmul.wgsl, on any adapter; in precision f16 operands are rounded as they are read. */
function plainProduct(context: KernelContext, product: Product): void {
  const { N, K, transA, transB, accumulate, bias, c } = product;
  const a = operand(context, product.a, transA);
  const b = operand(context, product.b, !transB);
  // Shards cut M where c or a is cut, N where b is, and K where the operands whose rows run along K are.
  for (const {
    row: m0,
    rows,
    parts: [to, from],
  } of rowRuns(transA ? [c] : [c, a as GpuStorage]))
    for (const {
      row: n0,
      rows: columns,
      parts: [ofB],
    } of transB ? rowRuns([b as GpuStorage]) : [{ row: 0, rows: N, parts: [] }]) {
      const deep = [...(transA ? [a] : []), ...(transB ? [] : [b])] as GpuStorage[];
      for (const { row: k0, rows: depth, parts } of deep.length > 0 ? rowRuns(deep) : [{ row: 0, rows: K, parts: [] }]) {
        const partA = transA ? parts[0]! : from!;
        const partB = transB ? ofB! : parts[parts.length - 1]!;
        const block = {
          M: rows,
          N: columns,
          K: depth,
          a: { buffer: partA.buffer, stride: a.stride / 4, start: (partA.row * a.stride + (transA ? m0 : k0)) / 4 },
          b: { buffer: partB.buffer, stride: b.stride / 4, start: (partB.row * b.stride + (transB ? k0 : n0)) / 4 },
          c: { buffer: to!.buffer, stride: c.stride / 4, start: (to!.row * c.stride + n0) / 4 },
          n0,
          bias: k0 + depth === K ? bias : null,
          accumulate: accumulate || k0 > 0,
        };
        plainBlock(context, product, block, [a.dtype, b.dtype]);
      }
    }
}

/** A parameter in precision f16 is read from a copy in f16; rows along K that shards would cut within a chunk are read from one buffer. */
function operand(context: KernelContext, storage: GpuStorage, alongK: boolean): Operand {
  const packed = context.precision === "f16" && storage.dtype !== "f16" ? packedParameter(context, storage) : null;
  if (packed !== null)
    return { rows: storage.rows, rowsPerShard: storage.rows, stride: packed.stride * 8, dtype: "f16", buffers: [packed.buffer] };
  if (storage.shards === 1 || !alongK || storage.rowsPerShard % chunk === 0) return storage;
  const { rows, stride, dtype } = storage;
  return { rows, rowsPerShard: rows, stride, dtype, buffers: [context.whole(storage, "read")] };
}

/** A part of a product: its operands where they lie, and where its sums go. */
interface Block {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Start and stride in quads. */
  readonly a: { readonly buffer: GpuBuffer; readonly start: number; readonly stride: number };
  readonly b: Block["a"];
  readonly c: Block["a"];
  /** The block's first column. */
  readonly n0: number;
  readonly bias: GpuStorage | null;
  readonly accumulate: boolean;
}

function plainBlock(
  context: KernelContext,
  { transA, transB }: Product,
  { M, N, K, a, b, c, n0, bias, accumulate }: Block,
  [aType, bType]: readonly [Dtype, Dtype],
): void {
  const { software, maxBinding } = context.capabilities;
  const tile = plainTile(context.capabilities, M, N);
  const [aCode, bCode] = [dtypeCodes[aType], dtypeCodes[bType]];
  const [tilesM, tilesN] = [Math.ceil(M / tile.BM), Math.ceil(N / tile.BN)];
  const chunks = Math.ceil(K / chunk);
  const stride = Math.ceil(N / 4);
  const plane = M * stride;
  const slices = chunks * plane * 16 > maxBinding ? 1 : slicesFor(tilesM * tilesN, chunks, smallGroups(context.capabilities));
  const slice = Math.ceil(chunks / slices);
  const part = slices > 1 ? context.scratch(chunks * plane * 16) : null;
  for (const { first, end } of tileRuns(tilesM * tilesN, tile, K)) {
    const [x, y] = fold(end - first);
    context.dispatch({
      kernel: "matmul",
      constants: {
        ...tile,
        A_DTYPE: software ? 0 : aCode,
        B_DTYPE: software ? 0 : bCode,
        TRANS_A: transA,
        TRANS_B: transB,
        ROUND: context.precision === "f16",
        ROLLED: software,
        SPLIT: part !== null,
      },
      buffers: [a.buffer, b.buffer, bias?.buffers[0] ?? a.buffer, part ?? c.buffer],
      uints: [
        ...[M, N, K, tilesM, tilesN, slice, first, end],
        ...[a.start, a.stride, b.start, b.stride],
        ...(part === null ? [c.start, c.stride, 0] : [0, stride, plane]),
        ...biasWords(part === null ? bias : null, n0),
        accumulate ? 1 : 0,
        ...[tile.BK / 4, aCode, bCode],
      ],
      grid: [x, y, Math.ceil(chunks / slice)],
    });
  }
  if (part === null) return;
  const members = [{ partStart: 0, c, cols: N, bias, biasStart: n0 }];
  matmulSum(context, { part: { buffer: part, parts: chunks, stride, plane }, rows: M, accumulate, members });
}
