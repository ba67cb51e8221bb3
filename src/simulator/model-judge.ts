/** A language model says whether a document is useful for its query. Source: ZeroSearch (arXiv 2505.04588) judges each document by itself; its prompt is not published, this one is ours. */
import type { SearchDocument } from "../rl/trajectory.ts";
import { fillPrompt, foreign, type PromptPart } from "../text/prompt.ts";
import { withoutThoughts } from "../text/thinking.ts";
import { ConfigError } from "../util/errors.ts";
import type { Label } from "./collected.ts";
import { judgedText } from "./rule-judge.ts";

export const usualJudgePrompt = `You judge the results of a search engine.

Query: {query}
Document: {document}

Does this document by itself hold enough information to answer the query? A document that is only about the same subject does not.
Reply with one word: useful if it does, noisy if it does not.
`;

/** Characters of a document that a judge reads. */
const mostCharacters = 8000;

/** @throws ConfigError where the prompt has no place for query or document. */
export function checkJudgePrompt(template: string, where: string): void {
  for (const name of ["{query}", "{document}"])
    if (!template.includes(name))
      throw new ConfigError({ where, what: "a placeholder is missing", expected: name, got: JSON.stringify(template.slice(0, 80)) });
}

export function judgePrompt(template: string, query: string, document: SearchDocument): PromptPart[] {
  return fillPrompt(template, { query: foreign(query), document: foreign(judgedText(document).slice(0, mostCharacters)) });
}

/** What a judge says: the last useful or noisy outside of its thoughts; null where there is none. */
export function labelIn(reply: string): Label {
  const said = (withoutThoughts(reply) ?? "")
    .toLowerCase()
    .match(/\b(useful|noisy)\b/g)
    ?.at(-1);
  return said === undefined ? null : said === "useful";
}
