/** What a search service is sent. Query, number and key are put in as values, once: nothing in a query is syntax, nor another placeholder. */
import type { HttpApi } from "./http-api.ts";

export interface HttpRequest {
  readonly url: URL;
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

interface Values {
  readonly query: string;
  readonly documents: number;
  readonly key: string | undefined;
}

type Json = Exclude<HttpApi["body"], undefined>;

/** `base` replaces the address of the description. */
export function requestOf(api: HttpApi, base: URL, values: Values): HttpRequest {
  const told = { ...values, query: shortened(values.query, api), documents: Math.min(values.documents, api.mostDocuments ?? Infinity) };
  const url = new URL(base);
  for (const [name, value] of sent(api.query, told)) url.searchParams.append(name, String(fill(value, told)));
  const headers = Object.fromEntries(sent(api.headers, told).map(([name, value]) => [name, String(fill(value, told))]));
  return { url, method: api.method, headers, ...(api.body === undefined ? {} : { body: fill(api.body, told) }) };
}

/** Without what would hold a key where there is none. */
function sent<T>(part: Readonly<Record<string, T>>, { key }: Values): [string, T][] {
  return Object.entries(part).filter(([, value]) => key !== undefined || !String(value).includes("{key}"));
}

/** A text that is one placeholder becomes its value, a number where it is one; inside a longer text it becomes text. */
function fill(value: Json, values: Values): Json {
  if (typeof value === "string") {
    const [, alone] = /^\{(query|documents|key)\}$/.exec(value) ?? [];
    if (alone !== undefined) return values[alone as keyof Values] ?? "";
    return value.replace(/\{(query|documents|key)\}/g, (_, name: keyof Values) => String(values[name] ?? ""));
  }
  if (Array.isArray(value)) return value.map((one) => fill(one, values));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, fill(one, values)]));
}

/** A query as services take them: whole characters, no longer than they allow. */
function shortened(query: string, { mostCharacters = Infinity, mostWords = Infinity }: HttpApi): string {
  const whole = wellFormed(query).trim();
  const words = mostWords === Infinity ? whole : whole.split(/\s+/).slice(0, mostWords).join(" ");
  return words.length <= mostCharacters
    ? words
    : wellFormed(words.slice(0, mostCharacters))
        .replace(/\ufffd$/, "")
        .trim();
}

/** A text in which no half of a character stands alone: no server takes one. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}
