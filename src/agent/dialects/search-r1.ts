/**
 * Search-R1's tags and prompt are those that ZeroSearch took over; documents are shown with their titles in brackets.
 *
 * Source: Search-R1 (arXiv 2503.09516), `scripts/data_process/nq_search.py` and `search_r1/llm_agent/generation.py` at
 * github.com/PeterGriffinJin/Search-R1 (Apache-2.0).
 */
import { renderDocuments } from "../../search/documents.ts";
import type { Dialect } from "./dialect.ts";
import { zerosearch } from "./zerosearch.ts";

export const searchR1: Dialect = {
  ...zerosearch,
  name: "search-r1",
  /** What a simulator wrote is shown as it wrote it. Titles stand in quotes in wiki-18, the corpus of Search-R1; our reader takes them off. */
  render: ({ documents, text }) =>
    text !== undefined || documents.length === 0
      ? renderDocuments({ documents, ...(text === undefined ? {} : { text }) })
      : documents.map(({ title, text: body }, i) => `Doc ${i + 1}(Title: ${title === undefined ? "" : `"${title}"`}) ${body}\n`).join(""),
};
