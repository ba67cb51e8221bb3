/**
 * SQuAD's normal form of an answer, and what is compared in it. Pure text, for the reward and for the leak meter alike.
 *
 * Source: Rajpurkar et al. 2016, evaluation script v1.1: lower case, delete ASCII punctuation, replace the articles by a space,
 * collapse white space, in this order. Word boundaries are Unicode ones, as in Python ("éa" holds no article).
 */

const PUNCTUATION = /[!-/:-@[-`{-~]/g;
const ARTICLES = /(?<![\p{L}\p{N}_])(?:an|a|the)(?![\p{L}\p{N}_])/gu;

/** The normal form; idempotent. */
export function normaliseAnswer(text: string): string {
  return text
    .toLowerCase()
    .replace(PUNCTUATION, "")
    .replace(ARTICLES, " ")
    .split(/\s+/)
    .filter((word) => word !== "")
    .join(" ");
}

/** Whether an answer occurs in a text as whole words, both normalised; never for an answer whose normal form is empty. */
export function containsAnswer(text: string, goldenAnswers: readonly string[]): boolean {
  const words = ` ${normaliseAnswer(text)} `;
  return goldenAnswers.some((golden) => {
    const answer = normaliseAnswer(golden);
    return answer !== "" && words.includes(` ${answer} `);
  });
}
