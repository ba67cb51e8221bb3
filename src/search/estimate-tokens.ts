/**
 * How many tokens a text is, where the server that reads or writes it does not say: by o200k_base, OpenAI's, whatever the model's own tokenizer is. The
 * table of its merges is loaded when it is first needed (0.2 s, 60 MB).
 */

/** Characters that are counted; longer texts are taken to go on as they begin. */
const mostCounted = 2 ** 18;
/** A run without breaks is counted in pieces: what it takes grows with the square of its length. */
const longRun = /\S{200}|\s{200}/;
const pieceLength = 256;
/** In text from outside, `<|endoftext|>` is text. */
const asText = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };

export type CountTokens = (text: string) => number;

let loaded: Promise<CountTokens> | null = null;

/** Loads the counter, once. */
export function tokenCounter(): Promise<CountTokens> {
  loaded ??= import("gpt-tokenizer/encoding/o200k_base").then(
    ({ countTokens }) =>
      (text) =>
        estimate(text, (piece) => countTokens(piece, asText)),
  );
  return loaded;
}

/** Ids of o200k_base, for texts whose own tokenizer is not known. What is cut inside a character ends in U+FFFD. */
export async function o200k(): Promise<{ encode(text: string): number[]; decode(ids: readonly number[]): string }> {
  const { encode, decode } = await import("gpt-tokenizer/encoding/o200k_base");
  return {
    encode(text) {
      if (!longRun.test(text)) return encode(text, asText);
      const ids: number[] = [];
      for (let i = 0; i < text.length; i += pieceLength) for (const id of encode(text.slice(i, i + pieceLength), asText)) ids.push(id);
      return ids;
    },
    decode: (ids) => decode(ids),
  };
}

function estimate(text: string, count: CountTokens): number {
  const counted = text.slice(0, mostCounted);
  let tokens = 0;
  if (!longRun.test(counted)) tokens = count(counted);
  else for (let i = 0; i < counted.length; i += pieceLength) tokens += count(counted.slice(i, i + pieceLength));
  return text.length <= mostCounted ? tokens : Math.round((tokens * text.length) / mostCounted);
}
