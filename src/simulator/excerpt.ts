/** What of a long document a search engine would show for a query. */
import type { SearchDocument } from "../rl/trajectory.ts";

const wordsOf = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
/** Words that are in every query. */
const common = new Set([
  "a",
  "an",
  "and",
  "are",
  "by",
  "did",
  "do",
  "does",
  "for",
  "from",
  "how",
  "in",
  "is",
  "it",
  "of",
  "on",
  "or",
  "that",
]);
for (const word of ["the", "to", "was", "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "with"]) common.add(word);

/**
 * A document of at most `maxWords` words (0: any number): of a longer one the stretch that has most of the query's words, from the beginning of a
 * sentence where that costs none of them. White space becomes single spaces.
 */
export function excerpt(document: SearchDocument, query: string, maxWords: number): SearchDocument {
  const words = document.text.split(/\s+/).filter((word) => word !== "");
  if (maxWords === 0 || words.length <= maxWords) return { ...document, text: words.join(" ") };
  const asked = new Set(wordsOf(query).filter((word) => !common.has(word)));
  const held = words.map((word) => wordsOf(word).filter((one) => asked.has(one)));
  const counts = new Map<string, number>();
  const change = (at: number, by: number): void => {
    for (const word of held[at] ?? []) {
      const count = (counts.get(word) ?? 0) + by;
      if (count === 0) counts.delete(word);
      else counts.set(word, count);
    }
  };
  for (let i = 0; i < maxWords; i++) change(i, 1);
  let best = { start: 0, score: 2 * counts.size + 1 };
  for (let start = 1; start + maxWords <= words.length; start++) {
    change(start - 1, -1);
    change(start + maxWords - 1, 1);
    const opens = /[.!?]["')\]]*$/.test(words[start - 1] as string);
    const score = 2 * counts.size + (opens ? 1 : 0);
    if (score > best.score) best = { start, score };
  }
  return { ...document, text: words.slice(best.start, best.start + maxWords).join(" ") };
}
