/**
 * The normal form of an answer, and what is compared in it. Pure text, for scores and for the leak meter alike. docs/scores.md has examples.
 *
 * Source of `squad`: Rajpurkar et al. 2016, evaluation script v1.1: lower case, delete ASCII punctuation, replace the articles by a space,
 * collapse white space, in this order. Word boundaries are Unicode ones, as in Python ("éa" holds no article).
 */

export const normalizers = ["squad", "unicode"] as const;
export type Normalizer = (typeof normalizers)[number];

/** How answers are compared, by every score and by the leak meter. */
export interface ScoreRules {
  readonly normalizer: Normalizer;
  /** True compares answers whose normal form is empty as SQuAD's script does: in that form. */
  readonly emptyAnswersAsSquad: boolean;
  /** True calls containment exact match, as the released code does. False unless told. */
  readonly containmentAsEm?: boolean;
}

/** The paper's, but for golden answers whose normal form is empty. */
export const usualRules: ScoreRules = { normalizer: "squad", emptyAnswersAsSquad: false };

/** The normal form; idempotent. Words, with one space between. */
export function normaliseAnswer(text: string, normalizer: Normalizer = "squad"): string {
  return normalizer === "squad" ? squad(text) : unicode(text);
}

/** Lower case and white space alone: what is compared where the normal form is empty. */
export function plainAnswer(text: string): string {
  return text.toLowerCase().trim().replace(/\s+/g, " ");
}

/** Whether an answer occurs in a text as whole words, both normalised; never for an answer whose normal form is empty: "A" is in most texts. */
export function containsAnswer(text: string, goldenAnswers: readonly string[], { normalizer }: ScoreRules = usualRules): boolean {
  const words = ` ${normaliseAnswer(text, normalizer)} `;
  return goldenAnswers.some((golden) => {
    const answer = normaliseAnswer(golden, normalizer);
    return answer !== "" && words.includes(` ${answer} `);
  });
}

const asciiPunctuation = /[!-/:-@[-`{-~]/g;
const articles = /(?<![\p{L}\p{N}_])(?:an|a|the)(?![\p{L}\p{N}_])/gu;

function squad(text: string): string {
  return text
    .toLowerCase()
    .replace(asciiPunctuation, "")
    .replace(articles, " ")
    .split(/\s+/)
    .filter((word) => word !== "")
    .join(" ");
}

/** Full-width, half-width and small forms, and the ideographic space. */
const widths = /[\u3000\ufe50-\ufe6f\uff00-\uffef]+/g;
/** Zero-width characters, soft hyphens, marks of direction. */
const invisible = /\p{Cf}+/gu;
/** A character of a script that is written without spaces, with its marks. */
const unspaced =
  /(?!\p{M})[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}](?<!\p{P})\p{M}*/gu;
/** Of all scripts; ASCII's as in `squad`, other currencies as "$", letters that stand for quotes, and the minus sign. */
const punctuation = /[\p{P}\p{Sc}+<=>^`|~\u00b4\u02b9-\u02bd\u2212]/u;
const articleWords = ["a", "an", "the"];
const minus = "[-\\u2010-\\u2013\\u2212]";
const minusBefore = new RegExp(`${minus}\\p{Sc}?$`, "u");
const minusAfter = new RegExp(`^${minus}(?!${minus})`, "u");

/**
 * NFC, and of compatibility forms the widths only: NFKC would make "10²" into "102". Signs that carry meaning stay: a minus before a
 * number, a decimal point, "+" and "#" at the end of a word, "-" after one or two letters (A-, AB-).
 */
function unicode(text: string): string {
  return text
    .replace(widths, (wide) => wide.normalize("NFKC"))
    .replace(invisible, "")
    .toLowerCase()
    .normalize("NFC")
    .replace(unspaced, " $& ")
    .split(/\s+/)
    .map(unicodeWord)
    .filter((one) => one !== "")
    .join(" ")
    .normalize("NFC");
}

/** "" for an article and for punctuation alone. */
function unicodeWord(text: string): string {
  if (!punctuation.test(text)) return articleWords.includes(text) ? "" : text;
  const characters = Array.from(text);
  const isSign = characters.map((one) => punctuation.test(one));
  const first = isSign.indexOf(false),
    last = isSign.lastIndexOf(false);
  if (first < 0) return "";
  const part = (from: number, to: number, keep: (one: string, i: number) => boolean = () => true): string =>
    characters.filter((one, i) => i >= from && i < to && keep(one, i)).join("");
  const core = withDecimalPoints(part(first, last + 1, (one, i) => isSign[i] === false || one === "."));
  const before = minusBefore.test(part(0, first)) && /^\p{Nd}/u.test(core) ? "-" : "";
  const rest = part(last + 1, characters.length);
  const after = /^[+#]+/.exec(rest)?.[0] ?? (/^\p{L}{1,2}$/u.test(core) && minusAfter.test(rest) ? "-" : "");
  return before === "" && after === "" && articleWords.includes(core) ? "" : before + core + after;
}

/** Of full stops, only the one between the digits of a number stays: "3.5", not "1.2.3". */
function withDecimalPoints(text: string): string {
  return text.replace(/\.{2,}/g, "").replace(/\d+(?:\.\d+)*|\./g, (run) => (/^\d+\.\d+$/.test(run) ? run : run.replaceAll(".", "")));
}
