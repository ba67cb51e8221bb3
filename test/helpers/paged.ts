/** Feeds sequences through the paged forward in any pieces, as a generator would. */
import type { Decoder } from "../../src/nn/decoder.ts";
import type { KvCache } from "../../src/nn/kv-cache.ts";
import { packBatch } from "../../src/nn/batch.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { fromHost, type Tensor } from "../../src/tensor/tensor.ts";

/** The next tokens of one sequence. */
export interface Piece {
  readonly ids: readonly number[];
  /** Position of the first of them. */
  readonly start: number;
  /** Cache blocks of the sequence, in order. */
  readonly blocks: readonly number[];
}

/** One call for all pieces: hidden states [N, C], which the caller frees. */
export function feed(decoder: Decoder, cache: KvCache, pieces: readonly Piece[], adapter?: string): Tensor {
  return withScope(() => {
    const batch = packBatch(
      decoder.device,
      pieces.map((piece) => piece.ids),
      pieces.map((piece) => piece.start),
    );
    const width = Math.max(...pieces.map((piece) => piece.blocks.length));
    const table = Uint32Array.from(pieces.flatMap((piece) => Array.from({ length: width }, (_, i) => piece.blocks[i] ?? 0)));
    return decoder.forwardPaged({ ...batch, blockTable: fromHost(decoder.device, table, [pieces.length, width]) }, cache, { adapter });
  });
}

/** Hidden states of one sequence fed alone in pieces of these lengths (the rest at once), as one array of N * C. */
export async function hiddenInPieces(
  decoder: Decoder,
  cache: KvCache,
  ids: readonly number[],
  lengths: readonly number[],
  blocks: readonly number[],
): Promise<Float32Array> {
  const C = decoder.config.width;
  const out = new Float32Array(ids.length * C);
  let start = 0;
  for (const length of [...lengths, Infinity]) {
    const piece = ids.slice(start, start + length);
    if (piece.length === 0) break;
    const hidden = feed(decoder, cache, [{ ids: piece, start, blocks }]);
    out.set(await hidden.readFloats(), start * C);
    hidden.dispose();
    start += piece.length;
  }
  return out;
}
