/** What the rooms of text ask of a tokenizer, and the stop table of some texts under it. */
import { compileStops } from "../generate/stop-automaton.ts";
import type { StopTable } from "../generate/types.ts";
import type { Prompt, PromptEncoding } from "../text/prompt.ts";

export type { Prompt, PromptEncoding, PromptPart } from "../text/prompt.ts";

/** The part of `src/text/tokenizer.ts` that is used here. */
export interface TextCodec {
  /** Ids of a prompt: special tokens where our parts spell them, letters in what comes from outside. A bare string comes from outside. */
  encodePrompt(prompt: Prompt, options?: PromptEncoding): number[];
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean; readonly continuation?: boolean }): string;
}

export interface StoppingCodec {
  readonly eosIds: readonly number[];
  readonly tokenBytes: (id: number) => Uint8Array;
}

/** A table that stops at any of `texts`, in their order, and at the end-of-sequence ids. `vocabulary`: columns of the model's logits. */
export function compileTextStops(texts: readonly string[], { eosIds, tokenBytes }: StoppingCodec, vocabulary: number): StopTable {
  const encoder = new TextEncoder();
  return compileStops({ stops: texts.map((text) => encoder.encode(text)), eosIds, tokenBytes, vocabulary });
}
