/** Documents as text, and the documents in a simulator's text. */
import type { SearchDocument, SearchResult } from "./search-engine.ts";

/** What is shown when nothing matches. */
const noDocuments = "No information available";

/** What the policy is shown: a simulator's own text, else `Doc i: title text`, one document a line; `noDocuments` when there is none. */
export function renderDocuments({ documents, text }: Pick<SearchResult, "documents" | "text">): string {
  if (text !== undefined) return text;
  if (documents.length === 0) return noDocuments;
  return documents
    .map(({ title, text: body }, i) => `Doc ${i + 1}: ${title === undefined ? "" : `${title} `}${body}`.replace(/\s+/g, " ").trim())
    .join("\n");
}

/** A view of a text as documents: what follows each `Doc i:` that begins a line; without any, the whole text is one. Takes any text. */
export function parseDocuments(text: string): SearchDocument[] {
  const whole = text.trim();
  if (whole === "" || whole === noDocuments) return [];
  const [before = "", ...bodies] = whole.split(/^[ \t]*Doc \d+:/m);
  return (bodies.length === 0 ? [before] : bodies).map((body) => ({ text: body.trim() }));
}
