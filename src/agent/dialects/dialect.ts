/**
 * What a dialect is: the exact strings between policy and environment. In prompts and observations, what comes from outside is marked
 * as foreign: no tokenizer reads a token of its own in it.
 */
import { fillPrompt, foreign, type PromptPart } from "../../text/prompt.ts";

/** What a turn of the policy asks for. */
export type Action =
  { readonly kind: "answer"; readonly text: string } | { readonly kind: "search"; readonly query: string } | { readonly kind: "invalid" };

/** What a prompt tells. It comes from outside, and arrives with the dialect's tags neutralised. */
export interface PromptValues {
  /** Otherwise as in its row. */
  readonly question: string;
  /** Where a method searches before it asks: `Doc 1: ...\nDoc 2: ...`. */
  readonly documents?: string;
}

/** One file each in this folder; a method names the one it speaks. */
export interface Dialect {
  /** Under which a set of prompts has its text for this dialect. */
  readonly name: string;
  /** Names of its tags, such as `answer`: in text from outside they are made harmless. */
  readonly tags: readonly string[];
  /** What ends a turn. The order gives `Generated.stopIndex`. */
  readonly stops: readonly string[];
  /** The first prompt; `template`, where it is given, in place of the dialect's own words. */
  prompt(values: PromptValues, template?: string): PromptPart[];
  /** Reads the action of one turn from the text of the policy's own tokens of that turn. */
  parse(text: string): Action;
  /** Shows documents, which arrive neutralised, in one foreign part. Where they are cut, what stands before and after them stays whole. */
  observe(documents: string): PromptPart[];
  /** What is appended after a turn that asked for nothing. */
  readonly correction: readonly PromptPart[];
}

/** A prompt by a template with the placeholders `{question}` (stripped, ends in "?") and `{documents}`. */
export function templatePrompt(own: string): Dialect["prompt"] {
  return ({ question, documents = "" }, template = own) => {
    const stripped = question.trim();
    const asked = stripped.endsWith("?") ? stripped : `${stripped}?`;
    return fillPrompt(template, { question: foreign(asked), documents: foreign(documents.trim()) });
  };
}

const patterns = new WeakMap<readonly string[], RegExp>();
const between = "[\\s/\\u200b-\\u200d\\u2060\\ufeff]*";

/**
 * Makes a dialect's tags inside foreign text (documents, questions) harmless: `<answer>` becomes `[answer]`, in any case, spacing or
 * width, opening or closing. The rest stays as it is. Idempotent. (Special tokens of a tokenizer are another matter: see
 * `src/text/prompt.ts`.)
 */
export function neutralise(text: string, { tags }: Pick<Dialect, "tags">): string {
  if (tags.length === 0) return text;
  let pattern = patterns.get(tags);
  if (pattern === undefined) {
    const names = tags.map((tag) => tag.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|");
    pattern = new RegExp(`[<＜]${between}(${names})${between}[>＞]`, "gi");
    patterns.set(tags, pattern);
  }
  return text.replace(pattern, (tag) => `[${tag.slice(1, -1)}]`);
}
