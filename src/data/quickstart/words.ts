/** Comparing names and values as sequences of words: case, accents and punctuation have no say. */

const cache = new Map<string, string>();

/** Lower case, accents stripped, everything that is no letter and no digit one space. */
export function normalizeWords(text: string): string {
  let words = cache.get(text);
  if (words === undefined) {
    words = text
      .normalize("NFD")
      .replace(/\p{M}/gu, "")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}]+/gu, " ")
      .trim();
    if (cache.size > 200_000) cache.clear();
    cache.set(text, words);
  }
  return words;
}

/** True when the words of `part` stand in `text` in a row. An empty part is in nothing. */
export function containsWords(text: string, part: string): boolean {
  const needle = normalizeWords(part);
  return needle !== "" && ` ${normalizeWords(text)} `.includes(` ${needle} `);
}

/** True when any of the parts stands in the text. */
export function containsAny(text: string, parts: readonly string[]): boolean {
  return parts.some((part) => containsWords(text, part));
}
