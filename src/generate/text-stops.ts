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

/** `compileTextStops` that compiles a list of texts once: sequences with the same stops share one table, of which the device keeps one copy. */
export function compileStopsOnce(codec: StoppingCodec, vocabulary: number): (texts: readonly string[]) => StopTable {
  const tables = new Map<string, StopTable>();
  return (texts) => {
    const key = JSON.stringify(texts);
    let table = tables.get(key);
    if (table === undefined) tables.set(key, (table = compileTextStops(texts, codec, vocabulary)));
    return table;
  };
}
