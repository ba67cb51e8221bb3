/**
 * The protocol of tags between policy and environment: its exact strings, how a turn is read, and how foreign text is kept from
 * speaking it. In prompts and observations, what comes from outside is marked as foreign: no tokenizer reads a token of its own in it.
 *
 * Source: ZeroSearch (arXiv 2505.04588) and its code; the strings are those released checkpoints were trained on.
 */
import { fillPrompt, foreign, ours, type Prompt, type PromptEncoding, type PromptPart } from "../text/prompt.ts";

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
 * `src/text/prompt.ts`.)
 */
export function neutralise(text: string): string {
  return text.replace(TAG, (tag) => `[${tag.slice(1, -1)}]`);
}

/** The observation that shows documents, which are neutralised here. */
export function observation(documents: string): PromptPart[] {
  return [ours(observationOpen), foreign(neutralise(documents).trim()), ours(observationClose)];
}

/** The prompts of a family of models. The question arrives neutralised, otherwise as in its row. */
export interface PromptStyle {
  /** Search with tags. */
  policyPrompt(question: string): Prompt;
  /** Answer from memory. */
  directPrompt(question: string): Prompt;
  /** Answer from documents that are given at once, neutralised, in the form `Doc 1: ...\nDoc 2: ...`. */
  ragPrompt(question: string, documents: string): Prompt;
  /** How these prompts become ids; without a beginning-of-sequence token unless given. */
  readonly encoding?: PromptEncoding;
}

function asked(question: string): string {
  const stripped = question.trim();
  return stripped.endsWith("?") ? stripped : `${stripped}?`;
}

const answerFormat = "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>.";

const fill = (template: string, question: string, documents = ""): PromptPart[] =>
  fillPrompt(template, { question: foreign(asked(question)), documents: foreign(documents.trim()) });

/**
 * The paper's policy prompt, exact ("as your want" is the original's). The direct and RAG prompts, which it does not print, are ours
 * in its words. As raw text, for models without a chat template, it begins as their tokenizer begins a text.
 */
export const paperStyle: PromptStyle = {
  policyPrompt: (question) =>
    fill(
      "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new information. " +
        "After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query </search> and it will return " +
        "the top searched results between <information> and </information>. You can search as many times as your want. " +
        "If you find no further external knowledge needed, you can directly provide the answer " +
        `${answerFormat} Question: {question}\n`,
      question,
    ),
  directPrompt: (question) =>
    fill(`Answer the given question. Directly provide the answer ${answerFormat} Question: {question}\n`, question),
  ragPrompt: (question, documents) =>
    fill(
      "Answer the given question with the help of the documents between <information> and </information>. " +
        `Directly provide the answer ${answerFormat}${observationOpen}{documents}${observationClose}Question: {question}\n`,
      question,
      documents,
    ),
  encoding: { begin: true },
};

/** A style from template strings with the placeholders `{question}` (stripped, ends in "?") and `{documents}`; for small models with short prompts. */
export function templateStyle(templates: {
  readonly policyPrompt: string;
  readonly directPrompt: string;
  readonly ragPrompt: string;
}): PromptStyle {
  return {
    policyPrompt: (question) => fill(templates.policyPrompt, question),
    directPrompt: (question) => fill(templates.directPrompt, question),
    ragPrompt: (question, documents) => fill(templates.ragPrompt, question, documents),
  };
}

/**
 * A style whose prompts go through a chat template as one user message; what the policy writes after it is one assistant turn. The
 * template writes its own beginning of sequence, where the model has one.
 */
export function chatStyle(style: PromptStyle, render: (userText: Prompt) => Prompt): PromptStyle {
  return {
    policyPrompt: (question) => render(style.policyPrompt(question)),
    directPrompt: (question) => render(style.directPrompt(question)),
    ragPrompt: (question, documents) => render(style.ragPrompt(question, documents)),
  };
}
