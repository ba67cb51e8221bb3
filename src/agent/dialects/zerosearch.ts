/**
 * ZeroSearch's tags: think, search, information, answer.
 *
 * Source: ZeroSearch (arXiv 2505.04588) and its code; the strings are those released checkpoints were trained on ("as your want" is the
 * original's).
 */
import { foreign, ours, type PromptPart } from "../../text/prompt.ts";
import { templatePrompt, type Action, type Dialect } from "./dialect.ts";

/** How every prompt in these tags asks for the answer. */
export const answerFormat = "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>.";

/** The first closed search or answer tag is the action. An empty query is a search, an empty answer an answer. */
export function parseAction(text: string): Action {
  const match = /<(search|answer)>(.*?)<\/\1>/s.exec(text);
  if (match === null) return { kind: "invalid" };
  const content = (match[2] as string).trim();
  return match[1] === "answer" ? { kind: "answer", text: content } : { kind: "search", query: content };
}

/** The observation that shows neutralised documents. */
export function observation(documents: string): PromptPart[] {
  return [ours("\n\n<information>"), foreign(documents.trim()), ours("</information>\n\n")];
}

export const zerosearch: Dialect = {
  name: "zerosearch",
  tags: ["think", "search", "information", "answer"],
  stops: ["</search>", "</answer>"],
  prompt: templatePrompt(
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new information. " +
      "After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query </search> and it will return " +
      "the top searched results between <information> and </information>. You can search as many times as your want. " +
      `If you find no further external knowledge needed, you can directly provide the answer ${answerFormat} Question: {question}\n`,
  ),
  parse: parseAction,
  observe: observation,
  correction: [
    ours(
      "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. " +
        "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n",
    ),
  ],
};
