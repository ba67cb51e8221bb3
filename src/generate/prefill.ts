/** One packed prefill: pieces of several sequences end to end, whose keys and values go into the cache. */
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { KvCache } from "../nn/kv-cache.ts";
import { withScope } from "../tensor/scope.ts";
import { withoutTape } from "../tensor/tape.ts";
import { fromHost } from "../tensor/tensor.ts";
import type { PagedSequence } from "./sequence.ts";

/** Tokens [from, to) of a sequence. */
export interface PrefillPiece {
  readonly sequence: PagedSequence;
  readonly from: number;
  readonly to: number;
}

/** Asks the device for all pieces in one batch. Blocks shared between pieces are written before any piece of a layer attends to them. */
export function prefill(
  device: Device,
  decoder: Decoder,
  cache: KvCache,
  adapter: string | undefined,
  pieces: readonly PrefillPiece[],
): void {
  let N = 0;
  let width = 1;
  for (const { sequence, from, to } of pieces) {
    N += to - from;
    width = Math.max(width, sequence.cache.blocks.length);
  }
  const B = pieces.length;
  const ids = new Uint32Array(N);
  const positions = new Uint32Array(N);
  const offsets = new Uint32Array(B + 1);
  const table = new Uint32Array(B * width);
  let n = 0;
  for (const [b, { sequence, from, to }] of pieces.entries()) {
    for (let position = from; position < to; position++, n++) {
      ids[n] = sequence.ids[position]!;
      positions[n] = position;
    }
    offsets[b + 1] = n;
    table.set(sequence.cache.blocks, b * width);
  }
  withoutTape(() => {
    withScope(() => {
      const batch = {
        ids: fromHost(device, ids, [N], { label: "prefill ids" }),
        positions: fromHost(device, positions, [N], { label: "prefill positions" }),
        offsets: fromHost(device, offsets, [B + 1], { label: "prefill offsets" }),
        blockTable: fromHost(device, table, [B, width], { label: "prefill block table" }),
      };
      decoder.forwardPaged(batch, cache, { adapter });
    });
  });
}
