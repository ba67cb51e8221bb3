/**
 * The RAG agent of Search-o1: it searches, sees titles, addresses and the beginnings of texts, and may fetch whole pages. Source and licence: `search-o1.ts`.
 */
import { renderDocuments } from "../../search/documents.ts";
import type { SearchDocument } from "../../search/search-engine.ts";
import { foreign, ours, type PromptPart } from "../../text/prompt.ts";
import { reasoningTask } from "./boxed.ts";
import { templatePrompt, type Dialect } from "./dialect.ts";
import { byHops, lastBetween, multiBeginning, parseSearchO1, searchO1, single as beginningOfOne } from "./search-o1.ts";

const beginning =
  "You are a reasoning assistant with the ability to perform web searches and retrieve webpage content to help you answer the user’s question accurately. You have special tools:\n\n" +
  "- To perform a search: write <|begin_search_query|> your query here <|end_search_query|>.\n" +
  "Then, the system will call the web search API with your query and return the search results to you in the format <|begin_search_result|> ...search results... <|end_search_result|>.\n" +
  "  The search results will contain a list of webpages with titles, URLs, and snippets (but not full content).\n\n" +
  "- After receiving the search results, if you need more detailed information from one or more specific URLs, write <|begin_url|> url1, url2, ... <|end_url|>.\n" +
  "  The system will fetch the full page content of those URLs and return it to you as <|begin_full_page|> ...full page content... <|end_full_page|>.\n\n" +
  "You can repeat the search process multiple times if necessary. The maximum number of search attempts is limited to {maxSearches}.\n" +
  "You can fetch up to {maxSearches} URLs for detailed information.\n\n" +
  "Once you have all the information you need, continue your reasoning.\n\n";

const shownResults =
  "(System returns search results)\n\nAssistant:\n<|begin_search_result|> ...search results without full page... <|end_search_result|>\n\n";

const shownPage =
  "(System returns full page content)\n\n" +
  "Assistant:\n" +
  "<|begin_full_page|> ...full page content... <|end_full_page|>\n\n" +
  "Now the assistant has enough info and can continue reasoning.\n\n" +
  "Remember:\n" +
  "- Use <|begin_search_query|> to request a web search and end with <|end_search_query|>.\n" +
  "- Use <|begin_url|> to request full page content and end with <|end_url|>.\n" +
  "- When done retrieving information, continue your reasoning.\n\n";

const single =
  beginningOfOne +
  shownResults +
  "Assistant thinks: The search results mention several URLs. I want full details from one of them.\n\n" +
  "Assistant:\n" +
  "<|begin_url|>http://example.com/first_nobel_physics.html<|end_url|>\n\n";

const multi =
  multiBeginning +
  "<|begin_search_query|>voice actor of Lara Croft<|end_search_query|>\n\n" +
  shownResults +
  "Assistant thinks: The search results provide names of voice actors for Lara Croft. I need to confirm if Alice David is one of them.\n\n" +
  "Assistant:\n" +
  "<|begin_search_query|>Alice David Lara Croft voice<|end_search_query|>\n\n" +
  shownResults +
  "Assistant thinks: The search results indicate that Alice David is the voice of Lara Croft in a specific video game. Now, I need to find out which company developed that game.\n\n" +
  "Assistant:\n" +
  "<|begin_search_query|>video game developed by Alice David Lara Croft<|end_search_query|>\n\n" +
  shownResults +
  "Assistant thinks: The search results mention the company that developed the video game featuring Alice David as Lara Croft.\n\n" +
  "Assistant:\n" +
  "<|begin_url|>http://example.com/lara_croft_voice_actor.html, http://example.com/game_developer.html<|end_url|>\n\n";

/** Characters of a document that a list of results shows: about what search engines show of a page. */
const snippetLength = 300;

/** What a document is fetched by. */
export function addressOf({ url, id }: SearchDocument): string | undefined {
  return url ?? id;
}

/** What is shown of pages that were fetched. */
export function pageParts(pages: string): PromptPart[] {
  return [ours("\n<|begin_full_page|>\n"), foreign(pages.trim()), ours("\n<|end_full_page|>\n")];
}

export const raAgent: Dialect = {
  ...searchO1,
  name: "ra-agent",
  tags: [...searchO1.tags, "|begin_url|", "|end_url|", "|begin_full_page|", "|end_full_page|"],
  stops: ["<|end_search_query|>", "<|end_url|>"],
  prompt: templatePrompt((values) => `${beginning}${byHops(single, multi)(values)}${shownPage}${reasoningTask}`),
  parse(text) {
    const search = parseSearchO1(text);
    if (search.kind === "search") return search;
    const addresses = (lastBetween(text, "<|begin_url|>", "<|end_url|>") ?? "").split(",").map((one) => one.trim());
    const given = [...new Set(addresses)].filter((one) => one !== "");
    return given.length === 0 ? search : { kind: "fetch", addresses: given };
  },
  render: (result) =>
    result.text !== undefined || result.documents.length === 0
      ? renderDocuments(result)
      : JSON.stringify(
          result.documents.map((document, i) => ({
            id: i + 1,
            title: document.title ?? "",
            url: addressOf(document) ?? "",
            snippet: document.text.slice(0, snippetLength),
          })),
          null,
          2,
        ),
  observe: (text) => [ours("\n<|begin_search_result|>\n"), foreign(text.trim()), ours("\n<|end_search_result|>\n")],
};
