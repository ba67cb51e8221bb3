/** Host side of attention by subgroup matrices, in precision f16. */
import { dtypeCodes, fold, type GpuBuffer, type GpuStorage, type KernelContext } from "../kernel.ts";
import { matrixEnables, type Capabilities, type MatrixShape } from "../capabilities.ts";
import { quads, reader, tiling, type Heads } from "./attention-tiles.ts";

/** Most query heads that one tile takes in decode. */
export const decodeRows = 16;

export const octets = ({ stride }: GpuStorage): number => stride / 8;

/** What attention_matrix.wgsl reads and writes, tile by tile. */
interface MatrixTiles {
  readonly queries: GpuStorage;
  readonly keys: GpuStorage;
  readonly values: GpuStorage;
  readonly offsets: GpuBuffer;
  readonly sequences: number;
  /** Of a cache; null where keys and values are packed as the queries are. */
  readonly paged: { readonly positions: GpuBuffer; readonly table: GpuBuffer; readonly tableStride: number } | null;
  readonly out: GpuStorage;
  readonly lse: GpuStorage | null;
}

/** Rows of a tile of matrices: one number for a width of heads, so that all of its attention goes one way; null where none can be had. */
export function matrixRows({ precision, capabilities }: KernelContext, D: number): number | null {
  return precision === "f16" ? attentionRows(capabilities, D) : null;
}

export function matrixKernel(context: KernelContext, constants: Readonly<Record<string, number | boolean>>, kernel = "attention_matrix") {
  const { matrix, subgroupSize, software } = context.capabilities;
  const { M, N, K } = matrix!;
  return {
    kernel,
    enables: matrixEnables(context.capabilities),
    constants: { TILE_M: M, TILE_N: N, TILE_K: K, SG: subgroupSize, ROLLED: software, ...constants },
  };
}

/** A row of heads and 64 keys or rows in matrices, of which a subgroup has one in `share` of the columns. */
export function matrixSteps({ capabilities }: KernelContext, D: number, share = 1): number[] {
  const { N, K } = capabilities.matrix!;
  const width = attentionWidth(capabilities.matrix!, D);
  return [width / K, width / N / share, 64 / K, 64 / N / share];
}

export function matrixTiles(
  context: KernelContext,
  shape: Heads,
  rows: number,
  { queries, keys, values, offsets, sequences, paged, out, lse }: MatrixTiles,
): void {
  const { group, tile, groups, groupsPerHead, slots } = tiling(shape, queries.rows, sequences, rows);
  const read = reader(context);
  const cached = paged !== null;
  context.dispatch({
    ...matrixKernel(context, {
      BM: rows,
      WN: 1,
      D: shape.D,
      PAGED: cached,
      KV_DTYPE: dtypeCodes[cached ? keys.dtype : "f32"],
      SPLIT: false,
    }),
    buffers: [
      ...[read(queries), read(keys), read(values), offsets, paged?.positions ?? offsets, paged?.table ?? offsets],
      ...[context.whole(out, "write"), lse === null ? context.scratch(16) : context.whole(lse, "write")],
    ],
    uints: [
      ...[slots, sequences, group, groups, groupsPerHead, tile, quads(queries), quads(out), octets(keys), octets(values)],
      ...[lse?.stride ?? 0, paged?.tableStride ?? 0, ...matrixSteps(context, shape.D)],
    ],
    floats: [shape.scale],
    grid: fold(slots * groups),
  });
}

/** What the backward pass reads and writes. */
export interface MatrixBackward {
  /** q, k, v, offsets, dout and the rows' statistics. */
  readonly shared: readonly GpuBuffer[];
  readonly q: GpuStorage;
  readonly k: GpuStorage;
  readonly v: GpuStorage;
  readonly dout: GpuStorage;
  readonly dq: GpuStorage;
  readonly dk: GpuStorage;
  readonly dv: GpuStorage;
  readonly sequences: number;
}

export function matrixBackward(
  context: KernelContext,
  shape: Heads,
  rows: number,
  { shared, q, k, v, dout, dq, dk, dv, sequences }: MatrixBackward,
): void {
  const { heads, kvHeads, D, scale } = shape;
  const tiles = tiling(shape, q.rows, sequences, rows);
  context.dispatch({
    ...matrixKernel(context, { BM: rows, WN: 1, D }, "attention_backward_query_matrix"),
    buffers: [...shared, context.whole(dq, "write")],
    uints: [
      ...[tiles.slots, sequences, heads, tiles.group, tiles.groups, tiles.groupsPerHead, tiles.tile],
      ...[q, k, v, dout, dq].map(quads),
      ...matrixSteps(context, D),
    ],
    floats: [scale],
    grid: fold(tiles.slots * tiles.groups),
  });
  // two subgroups a row have half of its sums each, where they can: else registers run out
  const share = attentionRows(context.capabilities, D, 2) === null ? 1 : 2;
  const keys = attentionRows(context.capabilities, D, share)!;
  const keyBlocks = Math.floor(q.rows / keys) + sequences;
  context.dispatch({
    ...matrixKernel(context, { BM: keys, WN: share, D }, "attention_backward_key_matrix"),
    buffers: [...shared, context.whole(dk, "write"), context.whole(dv, "write")],
    uints: [
      ...[keyBlocks, sequences, heads, heads / kvHeads, kvHeads],
      ...[q, k, v, dout, dk, dv].map(quads),
      ...matrixSteps(context, D, share),
    ],
    floats: [scale],
    grid: fold(keyBlocks * kvHeads),
  });
}

/**
 * Rows of a tile of attention by matrices, for heads `D` wide: the most that the adapter's limits hold. Each of them belongs to one subgroup,
 * or to `share` that divide the columns. Null where it cannot be had.
 */
function attentionRows({ matrix, subgroupSize, maxWorkgroupMemory, maxInvocations }: Capabilities, D: number, share = 1): number | null {
  if (matrix === null || D % 8 !== 0 || D > 128) return null;
  const { M, N, K } = matrix;
  const lanes = (share * subgroupSize) / M;
  if (![1, 2, 4, 8].includes(lanes) || M > 16 || N % 8 !== 0 || K % 8 !== 0 || (64 / share) % N !== 0 || 64 % K !== 0) return null;
  const width = attentionWidth(matrix, D);
  if ((width / N) % share !== 0) return null;
  const stage = Math.max(64 * (width / 8 + 1), width * 9);
  const fitting = [64, 32, 16].filter((rows) => {
    const bytes = 16 * Math.max(stage + rows * 17, rows * (width / 4 + 1)) + Math.max(rows * lanes * 4, 512) + 8;
    return rows % M === 0 && rows * lanes <= maxInvocations && bytes <= maxWorkgroupMemory;
  });
  return fitting[0] ?? null;
}

/** D, padded to matrices. */
function attentionWidth({ N, K }: MatrixShape, D: number): number {
  return Math.ceil(D / Math.max(N, K)) * Math.max(N, K);
}
