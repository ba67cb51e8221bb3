/** The results in JSON of no known shape: under the names that search tools use, looked for in a bounded part of it. */
import type { SearchDocument } from "../search-engine.ts";

const listNames = [
  "results",
  "documents",
  "docs",
  "items",
  "hits",
  "passages",
  "chunks",
  "organic",
  "organic_results",
  "webPages",
  "web",
  "pages",
  "matches",
  "entries",
  "sources",
  "value",
  "data",
  "result",
  "response",
];
const names = {
  text: [
    "text",
    "content",
    "contents",
    "snippet",
    "description",
    "summary",
    "body",
    "passage",
    "chunk",
    "page_content",
    "pageContent",
    "markdown",
    "extract",
    "abstract",
    "raw_content",
    "highlights",
  ],
  title: ["title", "name", "heading"],
  url: ["url", "link", "href", "uri", "source"],
  id: ["id", "_id", "docid", "doc_id"],
  score: ["score", "relevance", "similarity"],
} as const;
/** Where a result keeps what it is about, beside its score. */
const inner = ["document", "payload", "_source", "item", "node", "metadata"];
/** Objects that are looked at for a list, and how deep. */
const mostLooked = 1000;
const mostDeep = 5;
/** Texts of a list that are joined. */
const mostParts = 100;

/**
 * The documents in a value; null where it holds no results that anybody would know as such.
 * @param most - how many are read
 */
export function resultsIn(value: unknown, most: number): readonly SearchDocument[] | null {
  if (Array.isArray(value)) return listOf(value, most);
  const list = findList(value);
  if (list !== null) return listOf(list, most);
  const alone = documentOf(value);
  return alone === null || alone.title === alone.text ? null : [alone];
}

/** Null where none of a list that has some is a document. */
function listOf(list: readonly unknown[], most: number): readonly SearchDocument[] | null {
  const found: SearchDocument[] = [];
  for (const one of list.slice(0, 100 * most)) {
    if (found.length === most) break;
    const document = documentOf(one);
    if (document !== null) found.push(document);
  }
  return found.length === 0 && list.length > 0 ? null : found;
}

/** The nearest list under one of the names; of those that are equally near, the first that has something. */
function findList(value: unknown): readonly unknown[] | null {
  let [level, looked]: [unknown[], number] = [[value], 0];
  for (let depth = 0; depth < mostDeep && level.length > 0; depth++) {
    const lists: unknown[][] = [];
    const next: unknown[] = [];
    for (const one of level) {
      if (!isObject(one) || ++looked > mostLooked) continue;
      for (const name of listNames) {
        const child = Object.hasOwn(one, name) ? one[name] : undefined;
        if (Array.isArray(child)) lists.push(child);
        else if (isObject(child)) next.push(child);
      }
    }
    const found = lists.find((list) => list.length > 0) ?? lists[0];
    if (found !== undefined) return found;
    level = next;
  }
  return null;
}

/** A result: a text, or an object that has one somewhere; a title alone is its text. */
function documentOf(value: unknown): SearchDocument | null {
  if (typeof value === "string") return value.trim() === "" ? null : { text: value };
  if (!isObject(value)) return null;
  const places = [value, ...inner.map((name) => (Object.hasOwn(value, name) ? value[name] : undefined)).filter(isObject)];
  const read = (wanted: readonly string[]): string => {
    for (const place of places)
      for (const name of wanted) {
        const text = Object.hasOwn(place, name) ? textOf(place[name]) : "";
        if (text.trim() !== "") return text;
      }
    return "";
  };
  const [title, url, id] = [read(names.title), read(names.url), read(names.id)];
  const text = read(names.text) || title;
  if (text === "") return null;
  const score = Number(read(names.score) || NaN);
  return {
    text,
    ...(title === "" || title === text ? {} : { title }),
    ...(url === "" ? {} : { url }),
    ...(id === "" ? {} : { id }),
    ...(Number.isFinite(score) ? { score } : {}),
  };
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (!Array.isArray(value)) return "";
  return value
    .slice(0, mostParts)
    .filter((one) => typeof one === "string")
    .join(" ");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
