/**
 * What the baselines of Search-o1 share: the words that they ask for an answer with, and how it is read.
 *
 * Source: Search-o1 (arXiv 2501.05366), `scripts/prompts.py` and `scripts/evaluate.py` at github.com/sunnynexus/Search-o1 (6ced48f, MIT licence), whose baselines
 * the ZeroSearch paper compares with. Its prompts are carried over word for word.
 */
import { lastAnswer } from "./answer-tag.ts";
import type { Action } from "./dialect.ts";

/** Without reasoning: the task of its models that reason by themselves. */
export const directTask =
  "Please answer the following question. You should provide your final answer in the format \\boxed{YOUR_ANSWER}.\n\n" +
  "Question:\n{question}\n\n";

export const reasoningTask =
  "Please answer the following question. You should think step by step to solve it.\n\n" +
  "Provide your final answer in the format \\boxed{YOUR_ANSWER}.\n\n" +
  "Question:\n{question}\n\n";

/**
 * The text in the last `\boxed{...}` that is closed, braces inside it in pairs, and of `\text{...}` in it what stands there; undefined for none.
 * (The original takes all to the last brace of the line.)
 */
export function lastBoxed(text: string): string | undefined {
  let found: string | undefined;
  const open = /\\boxed\s*\{/g;
  for (let match = open.exec(text); match !== null; match = open.exec(text)) {
    const content = toClosingBrace(text, open.lastIndex);
    if (content === undefined) break;
    found = content;
  }
  if (found === undefined) return undefined;
  const inner = /\\text\s*\{/.exec(found);
  const plain = inner === null ? undefined : toClosingBrace(found, inner.index + inner[0].length);
  return (plain ?? found).trim();
}

/** What stands from there to the brace that closes it. */
function toClosingBrace(text: string, from: number): string | undefined {
  let depth = 1;
  for (let at = from; at < text.length; at++) {
    if (text[at] === "{") depth++;
    else if (text[at] === "}" && --depth === 0) return text.slice(from, at);
  }
  return undefined;
}

/** An answer in tags, as sets of prompts of one's own may ask for it, or else in a box. */
export function parseAnswer(text: string): Action {
  const answer = lastAnswer(text) ?? lastBoxed(text);
  return answer === undefined ? { kind: "invalid" } : { kind: "answer", text: answer };
}
