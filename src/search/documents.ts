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

/**
 * A result of at most `most` characters (UTF-16 units), cut from the end, and how many were left out: a page of megabytes must not be read
 * token by token. Results that are no longer come back as they are.
 */
export function boundResult(result: SearchResult, most: number): { readonly result: SearchResult; readonly leftOut: number } {
  const { documents, text = "" } = result;
  const whole = documents.reduce((sum, document) => sum + lengthOf(document), 0);
  if (whole + documents.length <= most && text.length <= most) return { result, leftOut: 0 };
  let room = most;
  const kept: SearchDocument[] = [];
  for (const document of documents) {
    // One more for each, as there may be a million empty ones.
    if (--room < 0) break;
    // A text of megabytes leaves room for its title, and a title of megabytes for its text.
    const fits = lengthOf(document) <= room;
    const cut = (name: string, value: string): string => {
      const part = cutText(value, fits || name === "text" ? room : Math.floor(room / 2));
      room -= part.length;
      return part;
    };
    const texts = Object.entries(document).filter((entry): entry is [string, string] => typeof entry[1] === "string");
    const short = new Map(
      [...texts]
        .sort(([one], [other]) => Number(one === "text") - Number(other === "text"))
        .map(([name, value]) => [name, cut(name, value)]),
    );
    const parts = Object.entries(document)
      .map(([name, value]): [string, unknown] => [name, short.get(name) ?? value])
      .filter(([name, value]) => name === "text" || value !== "" || document[name as keyof SearchDocument] === "");
    kept.push(Object.fromEntries(parts) as unknown as SearchDocument);
  }
  const shown = result.text === undefined ? {} : { text: cutText(text, most) };
  const left = kept.reduce((sum, document) => sum + lengthOf(document), 0);
  return {
    result: { ...result, documents: kept, ...shown },
    leftOut: result.text === undefined ? whole - left : text.length - cutText(text, most).length,
  };
}

/** Characters of a document's texts. */
function lengthOf(document: SearchDocument): number {
  return Object.values(document).reduce<number>((sum, value) => sum + (typeof value === "string" ? value.length : 0), 0);
}

/** The first `most` units of a text, no half character at the end. */
function cutText(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = text.charCodeAt(most - 1);
  return text.slice(0, end >= 0xd800 && end < 0xdc00 ? most - 1 : most);
}
