/**
 * Search-o1's tags: `<|begin_search_query|>`, `<|begin_search_result|>` and, of its RAG agent, `<|begin_url|>`, `<|begin_full_page|>`.
 *
 * Source: Search-o1 (arXiv 2501.05366), `scripts/prompts.py`, `run_search_o1.py` and `run_rag_agent.py` at github.com/sunnynexus/Search-o1 (6ced48f, MIT
 * licence). The prompts are carried over word for word. Which of two examples they hold is a matter of the set, there as here: one hop for NQ, TriviaQA and (as it
 * has no PopQA) PopQA, two for all others.
 */
import { renderDocuments } from "../../search/documents.ts";
import { foreign, ours, type PromptPart } from "../../text/prompt.ts";
import { lastBoxed, reasoningTask } from "./boxed.ts";
import { templatePrompt, type Action, type Dialect } from "./dialect.ts";

const singleHop = /nq|natural.?questions|triviaqa|popqa/i;

/** One of two texts, by the set of a question. */
export function byHops(single: string, multi: string): (values: { readonly dataSource?: string }) => string {
  return ({ dataSource = "" }) => (singleHop.test(dataSource) ? single : multi);
}

const beginning =
  "You are a reasoning assistant with the ability to perform web searches to help you answer the user's question accurately. You have special tools:\n\n" +
  "- To perform a search: write <|begin_search_query|> your query here <|end_search_query|>.\n" +
  "Then, the system will search and analyze relevant web pages, then provide you with helpful information in the format <|begin_search_result|> ...search results... <|end_search_result|>.\n\n" +
  "You can repeat the search process multiple times if necessary. The maximum number of search attempts is limited to {maxSearches}.\n\n" +
  "Once you have all the information you need, continue your reasoning.\n\n";

const ending =
  "(System returns processed information from relevant web pages)\n\n" +
  "Assistant continues reasoning with the new information...\n\n" +
  "Remember:\n" +
  "- Use <|begin_search_query|> to request a web search and end with <|end_search_query|>.\n" +
  "- When done searching, continue your reasoning.\n\n";

/** Of one hop: how both examples begin. */
export const single =
  "Example:\n" +
  'Question: "Who got the first Nobel Prize in Physics?"\n' +
  "Assistant thinking steps:\n" +
  "- I need to find out who was awarded the first Nobel Prize in Physics.\n\n" +
  "Assistant:\n" +
  "<|begin_search_query|>first Nobel Prize in Physics winner<|end_search_query|>\n\n";

/** Of two. */
export const multiBeginning =
  "Example:\n" +
  'Question: "Alice David is the voice of Lara Croft in a video game developed by which company?"\n' +
  "Assistant thinking steps:\n" +
  "- I need to find out who voices Lara Croft in the video game.\n" +
  "- Then, I need to determine which company developed that video game.\n\n" +
  "Assistant:\n";

const multi =
  multiBeginning +
  "<|begin_search_query|>Alice David Lara Croft voice<|end_search_query|>\n\n" +
  "(System returns processed information from relevant web pages)\n\n" +
  "Assistant thinks: The search results indicate that Alice David is the voice of Lara Croft in a specific video game. Now, I need to find out which company developed that game.\n\n" +
  "Assistant:\n" +
  "<|begin_search_query|>video game developed by Alice David Lara Croft<|end_search_query|>\n\n";

/** The text between two tags, the last one of a turn. */
export function lastBetween(text: string, open: string, close: string): string | undefined {
  const end = text.lastIndexOf(close);
  const start = end < 0 ? -1 : text.lastIndexOf(open, end);
  return start < 0 ? undefined : text.slice(start + open.length, end).trim();
}

/** A turn that ends with a search asks for it; another answers with what it holds in a box. */
export function parseSearchO1(text: string): Action {
  const query = lastBetween(text, "<|begin_search_query|>", "<|end_search_query|>");
  // Without a query in it nothing is asked for, as there.
  if (query !== undefined && query !== "") return { kind: "search", query };
  const answer = lastBoxed(text);
  return answer === undefined ? { kind: "invalid" } : { kind: "answer", text: answer };
}

/** What comes between the tags of a search's result. */
export function resultParts(text: string, around = "\n\n"): PromptPart[] {
  return [ours(`${around}<|begin_search_result|>`), foreign(text.trim()), ours(`<|end_search_result|>${around}`)];
}

export const searchO1: Dialect = {
  name: "search-o1",
  tags: ["|begin_search_query|", "|end_search_query|", "|begin_search_result|", "|end_search_result|"],
  stops: ["<|end_search_query|>"],
  prompt: templatePrompt((values) => `${beginning}${byHops(single, multi)(values)}${ending}${reasoningTask}`),
  parse: parseSearchO1,
  /** For the second pass: the policy is shown what that makes of it. At most 3,000 characters of each, as there. */
  render: (result) =>
    result.text !== undefined || result.documents.length === 0
      ? renderDocuments(result)
      : result.documents
          .map(({ id, title, url, text }, i) => {
            const shown = { id: id ?? i + 1, ...(title === undefined ? {} : { title }), ...(url === undefined ? {} : { url }) };
            return `**Web Page ${i + 1}:**\n${JSON.stringify({ ...shown, context: text.slice(0, 3000) }, null, 2)}\n`;
          })
          .join(""),
  observe: (text) => resultParts(text),
  /** The original has none: a turn without a search is the last one. */
  correction: [],
};
