/**
 * What a dialect is: the exact strings between policy and environment. In prompts and observations, what comes from outside is marked
 * as foreign: no tokenizer reads a token of its own in it.
 */
import type { SearchResult } from "../../search/search-engine.ts";
import { fillPrompt, foreign, ours, type PromptPart } from "../../text/prompt.ts";

/** What a turn of the policy asks for. */
export type Action =
  | { readonly kind: "answer"; readonly text: string }
  | { readonly kind: "search"; readonly query: string }
  /** Whole pages, by their addresses. */
  | { readonly kind: "fetch"; readonly addresses: readonly string[] }
  /** Several calls in one turn. */
  | { readonly kind: "calls"; readonly calls: readonly Call[] }
  | { readonly kind: "invalid" };

/** One call of a tool: a search, or what is wrong with it. */
export type Call = { readonly query: string } | { readonly problem: string };

/** What a prompt tells. What of it comes from outside (question, documents) arrives with the dialect's tags neutralised. */
export interface PromptValues {
  /** Otherwise as in its row. */
  readonly question: string;
  /** Where a method searches before it asks: `Doc 1: ...\nDoc 2: ...`. */
  readonly documents?: string;
  /** Searches that the rollout may make. */
  readonly maxSearches?: number;
  /** The set that the question is of, as in its row. */
  readonly dataSource?: string;
}

/** One file each in this folder; a method names the one it speaks. */
export interface Dialect {
  /** Under which a set of prompts has its text for this dialect. */
  readonly name: string;
  /** It calls tools: its prompt is put through the chat template with the tool `search`. False unless given. */
  readonly tools?: boolean;
  /** Names of its tags, such as `answer`: in text from outside they are made harmless. */
  readonly tags: readonly string[];
  /** What ends a turn. The order gives `Generated.stopIndex`. */
  readonly stops: readonly string[];
  /** The first prompt; `template`, where it is given, in place of the dialect's own words. */
  prompt(values: PromptValues, template?: string): PromptPart[];
  /** Reads the action of one turn from the text of the policy's own tokens of that turn. */
  parse(text: string): Action;
  /** What is shown of a search's result; `renderDocuments` unless given. It is neutralised afterwards. */
  render?(result: Pick<SearchResult, "documents" | "text">): string;
  /** Shows documents, which arrive neutralised, in one foreign part. Where they are cut, what stands before and after them stays whole. */
  observe(documents: string): PromptPart[];
  /** What is appended after a turn that asked for nothing. */
  readonly correction: readonly PromptPart[];
}

/** A prompt by a template with the placeholders `{question}` (stripped, ends in "?"), `{documents}` and `{maxSearches}`. */
export function templatePrompt(own: string | ((values: PromptValues) => string)): Dialect["prompt"] {
  return (values, template = typeof own === "string" ? own : own(values)) => {
    const { question, documents = "", maxSearches } = values;
    const stripped = question.trim();
    const asked = stripped.endsWith("?") ? stripped : `${stripped}?`;
    const limit = maxSearches === undefined ? {} : { maxSearches: ours(String(maxSearches)) };
    return fillPrompt(template, { question: foreign(asked), documents: foreign(documents.trim()), ...limit });
  };
}

/** A tag's name as a pattern: bars, as of `<|end_url|>`, may be wide and have space around them. */
function spellings(tag: string): string {
  const escaped = tag.replace(/[\\^$.*+?()[\]{}]/g, "\\$&");
  return escaped.replace(/\|/g, `${between}[|｜]${between}`);
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
    const names = tags.map(spellings).join("|");
    pattern = new RegExp(`[<＜]${between}(${names})${between}[>＞]`, "gi");
    patterns.set(tags, pattern);
  }
  return text.replace(pattern, (tag) => `[${tag.slice(1, -1)}]`);
}
