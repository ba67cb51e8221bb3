/**
 * The protocol of tags between policy and environment: its exact strings, how a turn is read, and how foreign text is kept from
 * speaking it.
 *
 * Source: ZeroSearch (arXiv 2505.04588) and its code; the strings are those released checkpoints were trained on.
 */
import { breakSpecialTokens, type PromptEncoding } from "../search/text-codec.ts";
import { fillTemplate } from "../util/template.ts";

/** What ends a turn. The order gives `Generated.stopIndex`. */
export const turnStops = ["</search>", "</answer>"] as const;

export const observationOpen = "\n\n<information>";
export const observationClose = "</information>\n\n";

/** What is appended after a turn that neither searched nor answered. */
export const correction =
  "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. " +
  "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n";

/** What a turn of the policy asks for. */
export type Action =
  { readonly kind: "answer"; readonly text: string } | { readonly kind: "search"; readonly query: string } | { readonly kind: "invalid" };

/**
 * Reads the action of one turn from the text of the policy's own tokens of that turn: the first closed search or answer tag. An
 * empty query is a search, an empty answer an answer.
 */
export function parseAction(text: string): Action {
  const match = /<(search|answer)>(.*?)<\/\1>/s.exec(text);
  if (match === null) return { kind: "invalid" };
  const content = (match[2] as string).trim();
  return match[1] === "answer" ? { kind: "answer", text: content } : { kind: "search", query: content };
}

const TAG = /[<＜][\s/\u200b-\u200d\u2060\ufeff]*(think|search|information|answer)[\s/\u200b-\u200d\u2060\ufeff]*[>＞]/gi;

/**
 * Makes protocol tags inside foreign text (documents, questions) harmless: `<answer>` becomes `[answer]`, in any case, spacing or
 * width, opening or closing. The rest stays as it is. Idempotent. (Special tokens of a tokenizer are another matter: see
 * `PromptStyle.encoding`.)
 */
export function neutralise(text: string): string {
  return text.replace(TAG, (tag) => `[${tag.slice(1, -1)}]`);
}

/** The observation that shows documents, which are neutralised here. */
export function observation(documents: string): string {
  return observationOpen + neutralise(documents).trim() + observationClose;
}

/** The prompts of a family of models. The question arrives neutralised, otherwise as in its row. */
export interface PromptStyle {
  /** Search with tags. */
  policyPrompt(question: string): string;
  /** Answer from memory. */
  directPrompt(question: string): string;
  /** Answer from documents that are given at once, neutralised, in the form `Doc 1: ...\nDoc 2: ...`. */
  ragPrompt(question: string, documents: string): string;
  /** How these prompts become ids: `plainText` unless given. Observations and corrections are always plain text. */
  readonly encoding?: PromptEncoding;
}

function asked(question: string): string {
  const stripped = question.trim();
  return stripped.endsWith("?") ? stripped : `${stripped}?`;
}

const answerFormat = "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>.";

/** The paper's policy prompt, exact ("as your want" is the original's). The direct and RAG prompts, which it does not print, are ours in its words. */
export const paperStyle: PromptStyle = {
  policyPrompt: (question) =>
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new information. " +
    "After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query </search> and it will return " +
    "the top searched results between <information> and </information>. You can search as many times as your want. " +
    "If you find no further external knowledge needed, you can directly provide the answer " +
    `${answerFormat} Question: ${asked(question)}\n`,
  directPrompt: (question) => `Answer the given question. Directly provide the answer ${answerFormat} Question: ${asked(question)}\n`,
  ragPrompt: (question, documents) =>
    "Answer the given question with the help of the documents between <information> and </information>. " +
    `Directly provide the answer ${answerFormat}${observationOpen}${documents.trim()}${observationClose}Question: ${asked(question)}\n`,
};

/** A style from template strings with the placeholders `{question}` (stripped, ends in "?") and `{documents}`; for small models with short prompts. */
export function templateStyle(templates: {
  readonly policyPrompt: string;
  readonly directPrompt: string;
  readonly ragPrompt: string;
}): PromptStyle {
  return {
    policyPrompt: (question) => fillTemplate(templates.policyPrompt, { question: asked(question) }),
    directPrompt: (question) => fillTemplate(templates.directPrompt, { question: asked(question) }),
    ragPrompt: (question, documents) => fillTemplate(templates.ragPrompt, { question: asked(question), documents: documents.trim() }),
  };
}

/**
 * A style whose prompts go through a chat template as one user message; what the policy writes after it is one assistant turn.
 * @param specialTokens - spellings that the template's tokenizer reads as tokens: they are broken in questions and documents
 */
export function chatStyle(style: PromptStyle, render: (userText: string) => string, specialTokens: Iterable<string>): PromptStyle {
  const tokens = [...specialTokens];
  const plain = (text: string): string => breakSpecialTokens(text, tokens);
  return {
    policyPrompt: (question) => render(style.policyPrompt(plain(question))),
    directPrompt: (question) => render(style.directPrompt(plain(question))),
    ragPrompt: (question, documents) => render(style.ragPrompt(plain(question), plain(documents))),
    encoding: { parseSpecialTokens: true },
  };
}
