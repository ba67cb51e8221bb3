/** The documents in what a search service answers. Whatever it is, these are few and bounded, or it is a failure in words. */
import { boundResult } from "./documents.ts";
import type { Field, HttpApi, Path } from "./http-api.ts";
import { wellFormed } from "./http-request.ts";
import { plainText } from "./plain-text.ts";
import { valueAt } from "./reply-path.ts";
import type { SearchDocument } from "./search-engine.ts";

/** Characters of all documents, and of any text before it is read. */
const mostCharacters = 2 ** 20;
/** Texts of a list that are joined. */
const mostParts = 100;

export type Reply = { readonly documents: readonly SearchDocument[] } | { readonly error: string } | { readonly expected: string };

/**
 * @param documents - how many are kept, of those that have a text
 * @param hide - takes the key out of a text
 * @returns documents; the service's own error; or what was expected, where it is neither.
 */
export function documentsIn(
  value: unknown,
  { reply }: Pick<HttpApi, "reply">,
  documents: number,
  hide: (text: string) => string = (text) => text,
): Reply {
  const results = valueAt(value, reply.results.steps);
  if (!Array.isArray(results)) {
    const error = reply.error?.map((one) => messageAt(value, one)).find((message) => message !== "");
    if (error !== undefined) return reply.nothing !== undefined && error.includes(reply.nothing) ? { documents: [] } : { error };
    const answered = reply.answered !== undefined && valueAt(value, reply.answered.steps) !== undefined;
    // Null, an empty list's other name, is none of the wrong things that may stand there.
    if (answered && (results === undefined || results === null)) return { documents: [] };
    return { expected: `a list at ${reply.results.written}` };
  }
  const kept: SearchDocument[] = [];
  for (const result of results as unknown[]) {
    if (kept.length === documents) break;
    const document = documentOf(result, reply, hide);
    if (document !== undefined) kept.push(document);
  }
  return { documents: boundResult({ documents: kept, kind: "real" }, mostCharacters).result.documents };
}

function documentOf(result: unknown, reply: HttpApi["reply"], hide: (text: string) => string): SearchDocument | undefined {
  const read = (name: "text" | "title" | "url" | "id"): string => {
    const at = reply[name];
    if (at === undefined) return "";
    const raw = textAt(result, at);
    const plain = reply.html.includes(name as "text") ? plainText(raw) : raw;
    // Control characters but line breaks and tabs are no text.
    return hide(wellFormed(plain).replace(/[^\P{Cc}\n\t]/gu, " ")).trim();
  };
  const text = read("text");
  if (text === "") return undefined;
  const [title, url, id] = [read("title"), read("url"), read("id")];
  const score = reply.score === undefined ? NaN : numberOf(valueAt(result, reply.score.steps));
  return {
    text,
    ...(title === "" ? {} : { title }),
    ...(url === "" ? {} : { url }),
    ...(id === "" ? {} : { id }),
    ...(Number.isFinite(score) ? { score } : {}),
  };
}

function textAt(result: unknown, field: Field): string {
  if (Array.isArray(field)) return field.map((one) => textOf(valueAt(result, one.steps))).find((text) => text.trim() !== "") ?? "";
  if ("steps" in field) return textOf(valueAt(result, field.steps));
  if ("join" in field)
    return field.join
      .map((one) => textOf(valueAt(result, one.steps), field.with))
      .filter((text) => text.trim() !== "")
      .join(field.with);
  const whole = textOf(valueAt(result, field.path.steps));
  const end = whole.indexOf("\n");
  // One line alone is text, without a title before it.
  if (end < 0) return field.line === "first" ? "" : whole;
  return field.line === "rest"
    ? whole.slice(end + 1)
    : whole
        .slice(0, end)
        .trim()
        .replace(/^"(.*)"$/s, "$1");
}

/** A text, a number, or a list of them joined; "" for anything else. */
function textOf(value: unknown, between = " "): string {
  if (typeof value === "string") return value.slice(0, mostCharacters);
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (!Array.isArray(value)) return "";
  return value
    .slice(0, mostParts)
    .map((one) => (typeof one === "string" || typeof one === "number" ? String(one).slice(0, mostCharacters) : ""))
    .filter((one) => one.trim() !== "")
    .join(between)
    .slice(0, mostCharacters);
}

function numberOf(value: unknown): number {
  return typeof value === "string" && value.trim() !== "" ? Number(value) : typeof value === "number" ? value : NaN;
}

/** An error's message: a text, or what an object there has as `message`. */
function messageAt(value: unknown, { steps }: Path): string {
  const found = valueAt(value, steps);
  const inner = typeof found === "object" && found !== null ? (found as { message?: unknown }).message : found;
  return typeof inner === "string" ? inner : "";
}
