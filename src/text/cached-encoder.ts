/** Encoding word by word with a cache, for generated text in which the same words come again and again. */
import { defaultWordPattern } from "./train-bpe.ts";

/**
 * An encoder that gives the ids of `encode(text)` for tokenizers whose pre-tokenizer splits by `pattern`: each piece is encoded once and remembered.
 * @param encode - the tokenizer's own, without added special tokens
 */
export function cachedEncoder(
  encode: (text: string) => readonly number[],
  pattern: string = defaultWordPattern,
): (text: string) => number[] {
  const pieces = new RegExp(pattern, "gu");
  const cache = new Map<string, readonly number[]>();
  return (text) => {
    const ids: number[] = [];
    for (const [piece] of text.matchAll(pieces)) {
      let encoded = cache.get(piece);
      if (encoded === undefined) {
        encoded = encode(piece);
        cache.set(piece, encoded);
      }
      for (const id of encoded) ids.push(id);
    }
    return ids;
  };
}
