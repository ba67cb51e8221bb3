/** The documents in what an MCP tool answers. Whatever it is, these are few and bounded, or it is a failure in words. */
import { attempt } from "../../util/errors.ts";
import { boundResult } from "../documents.ts";
import { quote } from "../http-json.ts";
import { wellFormed } from "../http-request.ts";
import type { SearchDocument } from "../search-engine.ts";
import type { McpFailure } from "./failure.ts";
import { resultsIn } from "./json-results.ts";
import { resultsInText } from "./text-results.ts";

/** Characters of all documents, and of a plain text that is read. */
const mostCharacters = 2 ** 20;
/** Items of a reply that are read. */
const mostItems = 1000;

export type McpReply = { readonly documents: readonly SearchDocument[] } | { readonly failure: McpFailure };

interface Reading {
  /** How many are kept. */
  readonly documents: number;
  /** Takes what is secret out of messages, and out of documents. */
  readonly hide: (text: string) => string;
  readonly hideInDocuments: (text: string) => string;
}

/** @param result - of `tools/call`, not checked */
export function readReply(result: unknown, { documents, hide, hideInDocuments }: Reading): McpReply {
  const { content, structuredContent, isError } = (result ?? {}) as { content?: unknown; structuredContent?: unknown; isError?: unknown };
  const items = Array.isArray(content) ? content.slice(0, mostItems) : [];
  if (isError === true) {
    const said = items.map((item) => textOf(item).slice(0, 1000)).find((text) => text.trim() !== "") ?? "without a word";
    return { failure: { what: `the tool reports an error: ${quote(hide(said))}`, passing: true, few: true } };
  }
  if (!Array.isArray(content) && structuredContent === undefined)
    return {
      failure: {
        what: "an answer without content",
        expected: "content, a list, or structuredContent",
        got: quote(hide(attempt(() => JSON.stringify(result), undefined) ?? typeof result)),
        passing: false,
      },
    };
  const found = structured(structuredContent, documents) ?? inItems(items, documents);
  const kept: SearchDocument[] = [];
  for (const one of found) {
    if (kept.length === documents) break;
    const document = cleaned(one, hideInDocuments);
    if (document.text !== "") kept.push(document);
  }
  return { documents: boundResult({ documents: kept, kind: "real" }, mostCharacters).result.documents };
}

/** Some servers put the text of the reply, JSON or plain, under one name. */
function structured(value: unknown, most: number): readonly SearchDocument[] | null {
  if (typeof value !== "object" || value === null) return null;
  const { result } = value as { result?: unknown };
  return resultsIn(value, most) ?? (typeof result === "string" ? inText(result, most) : null);
}

function inItems(items: readonly unknown[], most: number): readonly SearchDocument[] {
  const found: SearchDocument[] = [];
  for (const item of items) {
    if (found.length >= most) break;
    const link = linkOf(item);
    found.push(...(link === null ? inText(textOf(item), most) : [link]));
  }
  return found;
}

function inText(text: string, most: number): readonly SearchDocument[] {
  // A quick look first: parsing what is no JSON costs time.
  const json = /^\s*[[{]/.test(text) ? attempt<unknown>(() => JSON.parse(text), undefined) : undefined;
  return (json === undefined ? null : resultsIn(json, most)) ?? resultsInText(text.slice(0, mostCharacters));
}

/** The text of an item, an embedded resource's too; "" for images and what nobody knows. */
function textOf(item: unknown): string {
  const { type, text, resource } = (item ?? {}) as { type?: unknown; text?: unknown; resource?: { text?: unknown } | null };
  const said = type === "text" ? text : type === "resource" ? resource?.text : undefined;
  return typeof said === "string" ? said : "";
}

/** A link to a resource, with what the server says of it. */
function linkOf(item: unknown): SearchDocument | null {
  const { type, uri, name, title, description } = (item ?? {}) as Readonly<Record<string, unknown>>;
  if (type !== "resource_link") return null;
  const [head, text] = [title ?? name, description].map((one) => (typeof one === "string" ? one : ""));
  return { text: text || head || "", ...(text && head ? { title: head } : {}), ...(typeof uri === "string" ? { url: uri } : {}) };
}

/** Whole characters, and no control characters but line breaks and tabs. */
function cleaned(document: SearchDocument, hide: (text: string) => string): SearchDocument {
  const clean = (text: string): string => hide(wellFormed(text.slice(0, mostCharacters)).replace(/[^\P{Cc}\n\t]/gu, " ")).trim();
  const { text, title, url, id, score } = document;
  const others = Object.entries({ title, url, id }).flatMap(([name, value]) => {
    const shown = value === undefined ? "" : clean(value);
    return shown === "" ? [] : [[name, shown] as const];
  });
  return { text: clean(text), ...Object.fromEntries(others), ...(score === undefined ? {} : { score }) };
}
