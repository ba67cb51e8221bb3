// How packed sequences are cut into tiles of queries, and where a tile's work space lies.
//
// Items     (sequence, tile of query tokens, key/value head). A tile holds the rows (token, query head of the group), token by token,
//           about TILE_ROWS of them. Later tiles of a sequence see more keys and come first.
// Scratch   the addresses below, from the thread's scratch on; at most 4 MiB for groups of up to 1000 query heads
import { KEYS, STRIDE, KT_STRIDE, transposeKeys, scaleRow } from "./attention_tile";
import { rowPtr, contiguousRows } from "./call";

const TILE_ROWS: i32 = 40;

/** Query tokens of one tile, for groups of G heads: rows in fours where that costs little. */
export function tileTokens(G: i32): i32 {
  const tokens = max(1, TILE_ROWS / G);
  return tokens < 4 || G % 4 == 0 ? tokens : tokens - tokens % (G % 2 == 0 ? 2 : 4);
}
export function countTiles(offsets: usize, B: i32, tokens: i32): i32 {
  let tiles = 0;
  for (let b = 0; b < B; b++) tiles += (load<i32>(offsets + (<usize>b << 2), 4) - load<i32>(offsets + (<usize>b << 2)) + tokens - 1) / tokens;
  return tiles;
}

// The tile that `findTile` found. Every thread has its own module instance, and so its own copy.
export let tileSequence: i32 = 0;
export let tileFirst: i32 = 0; // first and end token, counted from the start of the pack
export let tileEnd: i32 = 0;

export function findTile(offsets: usize, tokens: i32, tile: i32): void {
  let b = 0;
  for (;;) {
    const start = load<i32>(offsets + (<usize>b << 2)), end = load<i32>(offsets + (<usize>b << 2), 4), tiles = (end - start + tokens - 1) / tokens;
    if (tile < tiles) {
      tileSequence = b;
      tileFirst = start + (tiles - 1 - tile) * tokens;
      tileEnd = min(end, tileFirst + tokens);
      return;
    }
    tile -= tiles; b++;
  }
}

/** Bytes of one row-wise buffer of a tile. */
// @ts-ignore: decorator
@inline export function tileBytes(G: i32): usize { return <usize>max(TILE_ROWS, G) * STRIDE; }
export const KT_BYTES: usize = 128 * KT_STRIDE;
export const BLOCK_BYTES: usize = <usize>KEYS * STRIDE;

/** kT[d, j] of `n` keys in rows `first`.. of k, at `at` bytes of each row. Columns n and beyond stay as they are. */
export function loadKeys(k: usize, first: i32, n: i32, D: i32, at: usize, kT: usize): void {
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    transposeKeys(D, rowPtr(k, first + j) + at, rowPtr(k, first + j + 1) + at, rowPtr(k, first + j + 2) + at, rowPtr(k, first + j + 3) + at, kT + (<usize>j << 2));
  }
  for (; j < n; j++) {
    let p = rowPtr(k, first + j) + at, to = kT + (<usize>j << 2);
    for (let d = 0; d < D; d++) { store<f32>(to, load<f32>(p)); p += 4; to += KT_STRIDE; }
  }
}

/** Rows `first`.. of x as a [n, D] block: where they lie if that will do (their pitch is then `pitch`), else a copy STRIDE apart. */
export function loadBlock(x: usize, first: i32, n: i32, D: i32, at: usize, pitch: usize, copy: usize): usize {
  if ((D & 7) == 0 && contiguousRows(x, first) >= n) return rowPtr(x, first) + at;
  for (let j = 0; j < n; j++) memory.copy(copy + <usize>j * STRIDE, rowPtr(x, first + j) + at, <usize>D << 2);
  return copy;
}

/** Rows (token, head) of a tile: x[token, head] * scale, for the G heads from `head` on. */
export function loadTile(x: usize, first: i32, end: i32, G: i32, D: i32, head: i32, scale: f32, to: usize): void {
  for (let n = first; n < end; n++) {
    let p = rowPtr(x, n) + (<usize>(head * D) << 2);
    for (let g = 0; g < G; g++) { scaleRow(D, p, scale, to); p += <usize>D << 2; to += STRIDE; }
  }
}
