/** What the rooms of text ask of a tokenizer, and the stop table of some texts under it. */
import { compileStops } from "../generate/stop-automaton.ts";
import type { StopTable } from "../generate/types.ts";

/** How a text becomes ids. */
export interface PromptEncoding {
  /** Adds what the tokenizer's post-processor adds (a beginning-of-sequence token). */
  readonly addSpecialTokens?: boolean;
  /** Reads `<|im_start|>` and the like as tokens: for rendered chat templates. */
  readonly parseSpecialTokens?: boolean;
}

/** Nothing is added, and special tokens spelled out in the text mean nothing: the rule for everything but rendered chat templates. */
export const plainText: PromptEncoding = { addSpecialTokens: false, parseSpecialTokens: false };

/** The part of `src/text/tokenizer.ts` that is used here. */
export interface TextCodec {
  encode(text: string, options: PromptEncoding): number[];
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

/** Breaks the spelling of special tokens in foreign text that goes through a chat template: a space after the first character. Idempotent. */
export function breakSpecialTokens(text: string, specialTokens: Iterable<string>): string {
  let broken = text;
  for (const token of specialTokens) if (token !== "") broken = broken.replaceAll(token, `${token.slice(0, 1)} ${token.slice(1)}`);
  return broken;
}
