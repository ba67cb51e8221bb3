/** What the rooms of text ask of a tokenizer. */
import type { Prompt, PromptEncoding } from "./prompt.ts";

/** The part of `tokenizer.ts` that is used here. */
export interface TextCodec {
  /** Ids of a prompt: special tokens where our parts spell them, letters in what comes from outside. A bare string comes from outside. */
  encodePrompt(prompt: Prompt, options?: PromptEncoding): number[];
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean; readonly continuation?: boolean }): string;
}
