/**
 * Which tiles a product is cut into. Only speed depends on this, but for `matrixChunk`: the order of a sum depends on N and K alone, so a
 * row has the same bits whatever is chosen here.
 *
 * The rules here are arithmetic, for a device that `Tuning.groups` workgroups fill; a tuning that was measured may name other tiles. One that
 * names what does not exist or does not fit the adapter is not followed there.
 */
import type { Capabilities, MatrixShape } from "../capabilities.ts";
import { groupsOf, rowClass, tileName, tunedTile, type ProductKind, type Tuning } from "../tuning.ts";

/** A tile of matmul.wgsl: BM x BN of c, staged BK deep; an invocation has TM x 4 of it. */
export interface PlainTile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TM: number;
}

/**
 * Up to 8 and up to 32 rows: the product is bound by reading b; tiles are as low as the rows, so that little is computed in vain, and
 * staged deeper, so that more bytes are on their way. Above, it is bound by arithmetic: 8 x 4 results an invocation need 12 reads of
 * workgroup memory for 128 multiplications, but where those tiles are too few for the GPU, half as high ones are better. All fit 16 KiB.
 */
const plainTiles = {
  rows8: { BM: 8, BN: 64, BK: 32, TM: 2 },
  rows32: { BM: 32, BN: 64, BK: 32, TM: 4 },
  rows64: { BM: 64, BN: 64, BK: 16, TM: 4 },
  rows128: { BM: 128, BN: 64, BK: 16, TM: 8 },
} as const satisfies Record<string, PlainTile>;

/** What the rule does not take by itself: lower, wider, and larger than 16 KiB or 256 invocations allow. */
const otherPlainTiles: readonly PlainTile[] = [
  { BM: 16, BN: 64, BK: 32, TM: 4 },
  { BM: 64, BN: 128, BK: 16, TM: 8 },
  { BM: 128, BN: 128, BK: 16, TM: 8 },
];

export function plainTile(capabilities: Capabilities, M: number, N: number): PlainTile {
  const named = tunedTile(capabilities.tuning, "plain", M);
  const tuned = named === undefined ? undefined : plainCandidates(capabilities).find((tile) => tileName(tile) === named);
  return tuned ?? staged(capabilities, plainTileFor(capabilities, M, N));
}
function plainTileFor(capabilities: Capabilities, M: number, N: number): PlainTile {
  if (M <= 8) return plainTiles.rows8;
  if (M <= 32) return plainTiles.rows32;
  return tileCount(plainTiles.rows128, M, N) >= smallGroups(capabilities) ? plainTiles.rows128 : plainTiles.rows64;
}
/** Compilers of software adapters take seconds over what is staged deeper. */
function staged({ software }: Capabilities, tile: PlainTile): PlainTile {
  return software ? { ...tile, BK: 16 } : tile;
}

/** The tiles that fit an adapter. */
function plainCandidates(capabilities: Capabilities): PlainTile[] {
  const { maxWorkgroupMemory, maxInvocations } = capabilities;
  return [...Object.values(plainTiles), ...otherPlainTiles]
    .map((tile) => staged(capabilities, tile))
    .filter(({ BM, BN, BK, TM }) => (BM + BN) * (BK + 4) * 4 <= maxWorkgroupMemory && ((BM / TM) * BN) / 4 <= maxInvocations);
}

/** A tile of matmul_matrix.wgsl: BM x BN of c by WM x WN subgroups, staged BK deep in 1 or 2 buffers. */
export interface MatrixTile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly WM: number;
  readonly WN: number;
  readonly buffers: 1 | 2;
}

/** Products of up to this many rows read a as f32 where it lies; above, a copy in f16 is made first, since tiles read it many times. */
export const directRows = 64;

/** By rows of the tile. A subgroup has at most 64 x 64 of it: 128 registers of sums, the most that leaves room for the operands. */
const lowTiles: readonly MatrixTile[] = [
  { BM: 16, BN: 32, BK: 128, WM: 1, WN: 2, buffers: 1 },
  { BM: 16, BN: 64, BK: 64, WM: 1, WN: 4, buffers: 1 },
  { BM: 32, BN: 32, BK: 64, WM: 2, WN: 2, buffers: 1 },
  { BM: 32, BN: 64, BK: 64, WM: 2, WN: 2, buffers: 1 },
  { BM: 64, BN: 32, BK: 64, WM: 4, WN: 1, buffers: 1 },
  { BM: 64, BN: 64, BK: 64, WM: 2, WN: 2, buffers: 1 },
  { BM: 64, BN: 128, BK: 64, WM: 2, WN: 2, buffers: 1 },
];
/** Largest first: the larger a tile, the fewer bytes for its arithmetic. */
const highTiles: readonly MatrixTile[] = [
  { BM: 128, BN: 128, BK: 32, WM: 2, WN: 2, buffers: 2 },
  { BM: 128, BN: 64, BK: 32, WM: 2, WN: 2, buffers: 2 },
  { BM: 64, BN: 64, BK: 32, WM: 2, WN: 2, buffers: 2 },
];

/**
 * Up to `directRows` rows a workgroup's time is that of the bytes it reads, of a (f32) and b (f16), and workgroups beyond those that fill the
 * device take more of it: the tile with the shortest time wins. Above, the largest tile of which there are enough to fill it.
 */
export function matrixTile(capabilities: Capabilities, M: number, columns: readonly number[]): MatrixTile {
  const named = tunedTile(capabilities.tuning, "matrix", M);
  const tuned = named === undefined ? undefined : matrixCandidates(capabilities, M).find((tile) => tileName(tile) === named);
  if (tuned !== undefined) return tuned;
  const groups = groupsOf(capabilities.tuning);
  const count = (tile: MatrixTile): number => columns.reduce((sum, N) => sum + tileCount(tile, M, N), 0);
  if (M <= directRows) {
    const least = Math.min(...lowTiles.map((tile) => tile.BM).filter((rows) => rows >= M));
    const fitting = lowTiles.filter((tile) => tile.BM === least && fits(tile, capabilities));
    const time = (tile: MatrixTile): number => Math.max(1, count(tile) / groups) * (M * 4 + tile.BN * 2);
    return fitting.reduce((best, tile) => (time(tile) < time(best) ? tile : best));
  }
  const fitting = inBuffers(capabilities, highTiles);
  return fitting.find((tile) => count(tile) >= groups) ?? fitting[fitting.length - 1]!;
}

/** Those that fit an adapter, if need be in one buffer. */
function inBuffers(capabilities: Capabilities, tiles: readonly MatrixTile[]): MatrixTile[] {
  return tiles
    .map((tile) => (fits(tile, capabilities) ? tile : { ...tile, buffers: 1 as const }))
    .filter((tile) => fits(tile, capabilities));
}

/** Tiles for M rows: of few, low ones; of many, high ones and the highest of the low. */
function matrixCandidates(capabilities: Capabilities, M: number): MatrixTile[] {
  const most = Math.max(...lowTiles.map(({ BM }) => BM));
  return inBuffers(capabilities, M <= directRows ? lowTiles : [...highTiles, ...lowTiles.filter(({ BM }) => BM === most)]);
}

/** What of a tuning an adapter can follow: without tiles that do not exist or do not fit, and classes that there are none of. */
export function followed(capabilities: Capabilities, tuning: Tuning): Tuning {
  const known = (kind: ProductKind): Record<string, string> =>
    Object.fromEntries(
      Object.entries((tuning[kind] as Tuning[ProductKind] | undefined) ?? {}).filter(([name, tile]) => {
        const rows = [8, 16, 32, 64, directRows + 1].find((M) => rowClass(kind, M) === name);
        return rows !== undefined && tileNames(capabilities, kind, rows).includes(tile);
      }),
    );
  return { ...tuning, groups: groupsOf(tuning), plain: known("plain"), matrix: known("matrix") };
}

/** Names of the tiles that a tuning may name on an adapter, for products of M rows. */
export function tileNames(capabilities: Capabilities, kind: ProductKind, M: number): string[] {
  return (kind === "plain" ? plainCandidates(capabilities) : matrixCandidates(capabilities, M)).map(tileName);
}

/**
 * Elements of K that matrices sum by themselves, before chunks are added in order. A large GPU is filled by splitting K where N gives few
 * tiles: in 4 parts, so that q, k, v and o of a model (N = 128 to 4096) are alike and can be one product; in 8 where K is that of its
 * MLP's last product; in 16 where N is the rank of a LoRA adapter. Who does not split reads and writes c once a chunk, so there are not
 * more; and none is longer than 2048, so that few sums are added to a large one.
 */
export function matrixChunk(N: number, K: number): number {
  const [parts, least] = N > 4096 ? [1, 2048] : N >= 128 ? [K > 4096 ? 8 : 4, 256] : [16, 128];
  return Math.min(2048, Math.max(least, Math.ceil(K / parts / 128) * 128), Math.ceil(K / 128) * 128);
}

/** Whether the adapter's matrices divide the tiles and its limits hold the smallest ones: else f16 products are computed without them. */
export function matrixFits(capabilities: Capabilities): boolean {
  return [...lowTiles, ...highTiles].filter((tile) => tile.BN <= 64).every((tile) => fits({ ...tile, buffers: 1 }, capabilities));
}

function fits(
  { BM, BN, BK, WM, WN, buffers }: MatrixTile,
  { matrix, subgroupSize, maxWorkgroupMemory, maxInvocations }: Capabilities,
): boolean {
  if (matrix === null) return false;
  const { M, N, K }: MatrixShape = matrix;
  // The wider of the ways in which an operand may lie
  const staged = Math.max(BM * (BK + 8), BK * (BM + 8)) + Math.max(BN * (BK + 8), BK * (BN + 8));
  const out = WM * WN * M * (BN / WN + 4) * 4;
  return (
    BM % (WM * M) === 0 &&
    BN % (WN * N) === 0 &&
    BK % K === 0 &&
    M % 8 === 0 &&
    N % 8 === 0 &&
    K % 8 === 0 &&
    WM * WN * subgroupSize <= maxInvocations &&
    Math.max(staged * 2 * buffers, out) <= maxWorkgroupMemory
  );
}

export function tileCount({ BM, BN }: { readonly BM: number; readonly BN: number }, M: number, N: number): number {
  return Math.ceil(M / BM) * Math.ceil(N / BN);
}

/**
 * In how many slices of K, of whole chunks, workgroups share a product: one, unless its tiles are fewer than the `wanted` workgroups.
 * Chunk sums of several slices go through memory, so there are no more than needed.
 */
export function slicesFor(tiles: number, chunks: number, wanted: number): number {
  return tiles >= wanted ? 1 : Math.min(chunks, Math.ceil(wanted / tiles));
}

/** Two workgroups on every multiprocessor, so that one computes while the other waits for memory. */
export const smallGroups = ({ tuning }: Capabilities): number => 2 * groupsOf(tuning);
/** One, where they are as large as one holds. */
export const largeGroups = ({ tuning }: Capabilities): number => groupsOf(tuning);

/** Most multiplications and additions of one dispatch: an integrated GPU must end it before Windows, which waits 2 s, takes the GPU away. */
const mostOperations = 4e11;

/** Runs of tiles for a dispatch each, where a tile is `BM` x `BN` of c, `K` deep. */
export function tileRuns(
  tiles: number,
  { BM, BN }: { readonly BM: number; readonly BN: number },
  K: number,
): { readonly first: number; readonly end: number }[] {
  const each = Math.max(1, Math.floor(mostOperations / (2 * BM * BN * K)));
  return Array.from({ length: Math.ceil(tiles / each) }, (_, i) => ({ first: i * each, end: Math.min(tiles, (i + 1) * each) }));
}
