/** Every description in configs/engines, against a server that answers as the vendor's page says: what is asked, and what is made of the reply. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { packageFolder } from "../../src/config/index.ts";
import { engines } from "../../src/search/engines.ts";
import { readHttpApi } from "../../src/search/http-api.ts";
import { ask } from "../../src/search/search-engine.ts";
import { apiNames } from "../../src/search/settings.ts";
import { openSearchServer, type SearchServer } from "../helpers/search-server.ts";

const query = 'who wrote "Emma"?\nand {key} when & why';
const key = "k-of-this-test";

interface Case {
  readonly asked: {
    readonly method: string;
    readonly path: string;
    readonly query?: object;
    readonly body?: unknown;
    readonly headers?: object;
  };
  readonly reply: unknown;
  readonly documents: readonly object[];
  /** A reply that has found nothing. */
  readonly nothing: unknown;
}

const cases: Readonly<Record<string, Case>> = {
  serper: {
    asked: { method: "POST", path: "/search", headers: { "x-api-key": key }, body: { q: query, num: 3 } },
    reply: {
      searchParameters: { q: query, type: "search" },
      organic: [
        { title: "Emma", link: "https://a.example/emma", snippet: "A novel by Jane Austen.", position: 1 },
        { title: "A page without a snippet", link: "https://a.example/", position: 2 },
      ],
    },
    documents: [{ title: "Emma", url: "https://a.example/emma", text: "A novel by Jane Austen." }],
    nothing: { searchParameters: { q: query, type: "search" } },
  },
  serpapi: {
    asked: { method: "GET", path: "/search.json", query: { engine: "google", q: query, num: "3", api_key: key } },
    reply: {
      search_metadata: { id: "1", status: "Success" },
      organic_results: [
        { position: 1, title: "Emma", link: "https://a.example/", snippet: "By Jane Austen.", snippet_highlighted_words: ["Emma"] },
      ],
    },
    documents: [{ title: "Emma", url: "https://a.example/", text: "By Jane Austen." }],
    nothing: { search_metadata: { status: "Success" }, error: "Google hasn't returned any results for this query." },
  },
  tavily: {
    asked: {
      method: "POST",
      path: "/search",
      headers: { authorization: `Bearer ${key}` },
      body: { query, max_results: 3, search_depth: "basic" },
    },
    reply: { query, results: [{ title: "Emma", url: "https://a.example/", content: "By Jane Austen.", score: 0.81 }], response_time: 1.2 },
    documents: [{ title: "Emma", url: "https://a.example/", text: "By Jane Austen.", score: 0.81 }],
    nothing: { query, results: [], response_time: 1 },
  },
  brave: {
    asked: {
      method: "GET",
      path: "/res/v1/web/search",
      headers: { "x-subscription-token": key },
      query: { q: query.replace("\n", " "), count: "3", result_filter: "web", extra_snippets: "true" },
    },
    reply: {
      type: "search",
      query: { original: query },
      web: {
        results: [
          {
            title: "Emma &amp; others",
            url: "https://a.example/",
            description: "<strong>Emma</strong> is by Jane&nbsp;Austen.",
            extra_snippets: ["It appeared in <strong>1815</strong>.", "1 &lt; 2"],
          },
        ],
      },
    },
    documents: [{ title: "Emma & others", url: "https://a.example/", text: "Emma is by Jane Austen. It appeared in 1815. 1 < 2" }],
    nothing: { type: "search", query: { original: query } },
  },
  bocha: {
    asked: {
      method: "POST",
      path: "/v1/web-search",
      headers: { authorization: `Bearer ${key}` },
      body: { query, count: 3, freshness: "noLimit", summary: true },
    },
    reply: {
      code: 200,
      msg: null,
      data: {
        _type: "SearchResponse",
        queryContext: { originalQuery: query },
        webPages: {
          value: [
            { id: "1", name: "\u827e\u739b", url: "https://a.example/", snippet: "short", summary: "longer" },
            { id: "2", name: "B", url: "https://b.example/", snippet: "short alone", summary: null },
          ],
        },
      },
    },
    documents: [
      { title: "\u827e\u739b", url: "https://a.example/", text: "longer" },
      { title: "B", url: "https://b.example/", text: "short alone" },
    ],
    nothing: { code: 200, msg: null, data: { queryContext: { originalQuery: query }, webPages: null } },
  },
  "bocha-ai": {
    asked: {
      method: "POST",
      path: "/v1/ai-search",
      headers: { authorization: `Bearer ${key}` },
      body: { query, count: 3, freshness: "noLimit", answer: false, stream: false },
    },
    reply: {
      code: 200,
      messages: [
        { role: "assistant", type: "source", content_type: "weather_china", content: "[]" },
        {
          role: "assistant",
          type: "source",
          content_type: "webpage",
          content: JSON.stringify({ value: [{ name: "Emma", url: "https://a.example/", snippet: "s", summary: "By Jane Austen." }] }),
        },
      ],
    },
    documents: [{ title: "Emma", url: "https://a.example/", text: "By Jane Austen." }],
    nothing: { code: 200, messages: [] },
  },
  searxng: {
    asked: { method: "GET", path: "/search", query: { q: query, format: "json" } },
    reply: {
      query,
      results: [
        { url: "https://a.example/", title: "Emma", content: "By Jane Austen.", engine: "x", score: 4 },
        ...Array.from({ length: 20 }, (_, i) => ({ url: `https://b.example/${i}`, title: `${i}`, content: `page ${i}` })),
      ],
      unresponsive_engines: [],
    },
    documents: [
      { title: "Emma", url: "https://a.example/", text: "By Jane Austen.", score: 4 },
      { title: "0", url: "https://b.example/0", text: "page 0" },
      { title: "1", url: "https://b.example/1", text: "page 1" },
    ],
    nothing: { query, results: [] },
  },
  opensearch: {
    asked: {
      method: "POST",
      path: "/_search",
      headers: { authorization: `Basic ${key}` },
      body: { size: 3, query: { match: { text: { query } } } },
    },
    reply: {
      took: 3,
      timed_out: false,
      hits: {
        total: { value: 1, relation: "eq" },
        max_score: 1.5,
        hits: [{ _index: "passages", _id: "7", _score: 1.5, _source: { title: "Emma", text: "By Jane Austen." } }],
      },
    },
    documents: [{ id: "7", title: "Emma", text: "By Jane Austen.", score: 1.5 }],
    nothing: { took: 1, hits: { total: { value: 0, relation: "eq" }, max_score: null, hits: [] } },
  },
  qdrant: {
    asked: {
      method: "POST",
      path: "/points/query",
      headers: { "api-key": key },
      body: { query: { text: query, model: "qdrant/bm25" }, using: "text", limit: 3, with_payload: true },
    },
    reply: {
      result: { points: [{ id: 7, version: 3, score: 0.75, payload: { title: "Emma", text: "By Jane Austen." } }] },
      status: "ok",
      time: 0.001,
    },
    documents: [{ id: "7", title: "Emma", text: "By Jane Austen.", score: 0.75 }],
    nothing: { result: { points: [] }, status: "ok", time: 0.001 },
  },
  "search-r1": {
    asked: { method: "POST", path: "/retrieve", body: { queries: [query], topk: 3, return_scores: true } },
    reply: {
      result: [
        [
          { document: { id: "12", contents: '"Emma (novel)"\nEmma is a novel\nby Jane Austen.' }, score: 0.9 },
          { document: { id: "13", contents: "a passage without a title" }, score: 0.5 },
        ],
      ],
    },
    documents: [
      { id: "12", title: "Emma (novel)", text: "Emma is a novel\nby Jane Austen.", score: 0.9 },
      { id: "13", text: "a passage without a title", score: 0.5 },
    ],
    nothing: { result: [[]] },
  },
  zerosearch: {
    asked: { method: "POST", path: "/retrieve", body: { query, top_k: 3 } },
    reply: [{ text: "Emma is by Jane Austen." }, { text: "" }, { text: "It appeared in 1815." }],
    documents: [{ text: "Emma is by Jane Austen." }, { text: "It appeared in 1815." }],
    nothing: [],
  },
};

const request = { query, question: "", goldenAnswers: [], key: { step: 1, question: 2, rollout: 3 }, turn: 0 };
const context = {
  seed: 1,
  noise: { start: 0, end: 0, steps: 1 },
  corpus: null,
  promptSet: () => ({ simulator: "" }),
  now: () => 0,
  say: () => undefined,
};
const files = readdirSync(join(packageFolder, "configs", "engines")).map((name) => name.replace(/\.yaml$/, ""));
const variables = new Set(apiNames.flatMap((name) => readHttpApi(name).key ?? []));

let server: SearchServer | undefined;
beforeAll(() => {
  for (const name of variables) process.env[name] = key;
});
afterAll(() => {
  for (const name of variables) Reflect.deleteProperty(process.env, name);
});
afterEach(async () => {
  await server?.close();
  server = undefined;
});

it("every description of this package has a name for http.api, and a case here", () => {
  expect(files.sort()).toEqual([...apiNames].sort());
  expect(Object.keys(cases).sort()).toEqual(files.sort());
});

describe("docs/engines.md", () => {
  const page = readFileSync(join(packageFolder, "docs/engines.md"), "utf8");

  it("has a row for every description, with its key, date and price", () => {
    const rows = page.split("\n").flatMap((line) => {
      const [, name, , key, checked, verified, price] = line.split("|").map((cell) => cell.trim());
      return /^`[a-z0-9-]+`$/.test(name ?? "") && price !== undefined ? [[name?.slice(1, -1), key, checked, verified, price]] : [];
    });
    const expected = apiNames.map((name) => {
      const { key, keyOptional, checked, verified, price } = readHttpApi(name);
      const variable = key === undefined ? "none" : `\`${key}\`${keyOptional ? ", may be missing" : ""}`;
      const from = verified ? "" : `, ${price?.page ?? ""}`;
      const paid = price === undefined ? "" : `${price.perThousand} ${price.currency}${from}`;
      return [name, variable, checked, verified ? "yes" : "no", paid];
    });
    expect(rows).toEqual(expected);
  });

  it("shows a description that is read as it stands", () => {
    const folder = mkdtempSync(join(tmpdir(), "zerosearch-page-"));
    const file = join(folder, "my-engine.yaml");
    writeFileSync(file, /```yaml my-engine\.yaml\n([^]*?)```/.exec(page)?.[1] ?? "");
    expect(readHttpApi(file)).toMatchObject({
      name: "my-engine",
      price: { perThousand: 2 },
      mostDocuments: 20,
      reply: { html: ["title", "text"] },
    });
    rmSync(folder, { recursive: true });
  });
});

describe.each(Object.entries(cases))("%s", (name, { asked, reply, documents, nothing }) => {
  const search = async (json: unknown) => {
    server = await openSearchServer(() => ({ json }));
    const settings = engines.http.schema.parse({ api: name, url: server.url, documents: 3 });
    return ask((await engines.http.open(settings, context)).engine, request);
  };

  it("is asked as it is documented, and its reply becomes documents", async () => {
    expect(await search(reply)).toEqual({ documents, kind: "real" });
    expect(server?.asked).toHaveLength(1);
    const [one] = server?.asked ?? [];
    expect(one).toMatchObject({ method: asked.method, path: asked.path, query: asked.query ?? {}, headers: asked.headers ?? {} });
    expect(one?.query).toEqual(asked.query ?? {});
    expect(one?.text === "" ? undefined : JSON.parse(one?.text ?? "")).toEqual(asked.body);
  });

  it("has found nothing where its reply says so", async () => {
    expect(await search(nothing)).toEqual({ documents: [], kind: "real" });
  });

  it("is wrong where its reply is another's", async () => {
    await expect(search({ unheard: "of" })).rejects.toThrow(
      /: an answer without results; expected a list at \S+, got "{\\"unheard\\":\\"of\\"}"/,
    );
  });

  it("says where it was written from, and when", () => {
    const { vendor, checked, price, verified } = readHttpApi(name);
    for (const page of vendor) expect(page).toMatch(/^https:\/\//);
    expect(checked).toBe("2026-11-30");
    // What no page of the vendor's says has no price, but for Bocha's two.
    if (!verified && price !== undefined) expect(price.page).toBe("as the description that this project began with gives it");
    if (verified && price !== undefined) expect(price.page).toMatch(/^https:\/\//);
  });
});
