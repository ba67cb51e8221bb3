/** The stop table of some texts under a tokenizer. */
import { compileStops } from "./stop-automaton.ts";
import type { StopTable } from "./types.ts";

export interface StoppingCodec {
  readonly eosIds: readonly number[];
  readonly tokenBytes: (id: number) => Uint8Array;
}

/** A table that stops at any of `texts`, in their order, and at the end-of-sequence ids. `vocabulary`: columns of the model's logits. */
export function compileTextStops(texts: readonly string[], { eosIds, tokenBytes }: StoppingCodec, vocabulary: number): StopTable {
  const encoder = new TextEncoder();
  return compileStops({ stops: texts.map((text) => encoder.encode(text)), eosIds, tokenBytes, vocabulary });
}
