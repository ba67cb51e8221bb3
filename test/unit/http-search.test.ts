/** A search service over HTTP when things go wrong: broken replies, a service that is away, hostile queries and documents, files that are wrong. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { neutralise } from "../../src/agent/dialects/dialect.ts";
import { methods } from "../../src/agent/methods/index.ts";
import { renderDocuments } from "../../src/search/documents.ts";
import { engines } from "../../src/search/engines.ts";
import { readHttpApi, type HttpApi } from "../../src/search/http-api.ts";
import { documentsIn } from "../../src/search/http-reply.ts";
import { requestOf } from "../../src/search/http-request.ts";
import { HttpSearch, type HttpSearchOptions } from "../../src/search/http-search.ts";
import { plainText } from "../../src/search/plain-text.ts";
import { parsePath, valueAt } from "../../src/search/reply-path.ts";
import { apiNames } from "../../src/search/settings.ts";
import { openSearchServer, status, type Answer, type AskedOf, type SearchServer } from "../helpers/search-server.ts";

const key = "sk-Very/Secret+key 7";
const good: Answer = { json: { results: [{ title: "T", url: "https://a.example/", content: "text" }] } };
const request = { query: "capital of France", key: { step: 1, question: 2, rollout: 3 }, turn: 0 };

let server: SearchServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});
const folder = mkdtempSync(join(tmpdir(), "zerosearch-http-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function open(answer: (asked: AskedOf, index: number) => Answer, options: Partial<HttpSearchOptions> = {}) {
  server = await openSearchServer(answer);
  const waits: number[] = [];
  const told: string[] = [];
  let clock = 0;
  const engine = new HttpSearch({
    api: readHttpApi("tavily"),
    url: server.url,
    key,
    documents: 5,
    seed: 1,
    timeout: 5,
    patience: 20,
    concurrency: 4,
    now: () => clock,
    wait: (seconds) => {
      clock += 1000 * seconds;
      waits.push(seconds);
      return Promise.resolve();
    },
    onRetry: ({ message }) => told.push(message),
    ...options,
  });
  const messageOf = (query = request.query): Promise<string> =>
    engine.search({ ...request, query }).then(
      (result) => `found ${result.documents.length}`,
      (error: unknown) => (error as Error).message,
    );
  return { engine, server, waits, told, messageOf };
}

describe("a reply that is broken", () => {
  it.each<[string, Answer]>([
    ["HTTP 500", status(500, { error: "out of luck" })],
    ["HTTP 429", status(429)],
    ["a page of HTML", status(200, "<html><body>busy</body></html>")],
    ["nothing at all", status(200, "")],
    ["JSON that is cut", status(200, '{"results": [{"content": "te')],
    [
      "a length that is not kept",
      (response) => void response.writeHead(200, { "content-length": "1000" }).write('{"resul', () => response.destroy()),
    ],
    ["a closed connection", (response) => response.destroy()],
  ])("%s, is asked for again", async (_, broken) => {
    const { engine, messageOf, waits } = await open((__, index) => (index < 2 ? broken : good));
    expect(await messageOf()).toBe("found 1");
    expect(waits).toHaveLength(2);
    expect(engine.takeCounts()).toMatchObject({ requests: 1, retries: 2, failed: 0, refused: 0 });
  });

  it.each<[string, Answer, RegExp]>([
    ["another shape", { json: { answer: 42 } }, /an answer without results; expected a list at results, got "{\\"answer\\":42}"/],
    ["a list in place of an object", { json: [1, 2] }, /an answer without results/],
    ["null", { json: null }, /an answer without results/],
    ["an error with status 200", { json: { detail: { error: "no credits left" } } }, /an error: "no credits left"/],
    [
      "HTTP 501",
      status(501, "no such thing"),
      /HTTP 501: "no such thing"\n {2}The server is there and does not do this: http\.url, or url, path and method in the file of http\.api, say/,
    ],
    ["HTTP 505", status(505), /HTTP 505\n {2}The server is there and does not do this/],
    ["HTTP 401", status(401, { detail: { error: "no" } }), /HTTP 401: .*\n {2}The environment variable TAVILY_API_KEY holds its key\.$/],
  ])("%s, fails at once, and says so", async (_, broken, message) => {
    const { messageOf, server: to } = await open(() => broken);
    expect(await messageOf()).toMatch(message);
    expect(to.asked).toHaveLength(1);
  });

  it("of 100 MB is not read to its end, and of 100 MB that unpack from little neither", async () => {
    const megabyte = Buffer.alloc(2 ** 20, " ");
    let written = 0;
    const endless: Answer = (response) => {
      response.writeHead(200);
      const more = (): void => {
        for (; written < 100; written++) if (!response.write(megabyte)) break;
        if (written >= 100) response.end();
        else
          response.once("drain", () => {
            written++;
            more();
          });
      };
      more();
    };
    const { messageOf } = await open(() => endless);
    expect(await messageOf()).toMatch(/an answer of more than 16777216 bytes/);
    expect(written).toBeLessThan(60);
    await server?.close();
    const packed = gzipSync(Buffer.alloc(100 * 2 ** 20, " "));
    expect(packed.length).toBeLessThan(2 ** 18);
    const other = await open(() => (response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(packed);
    });
    expect(await other.messageOf()).toMatch(/an answer of more than 16777216 bytes/);
  });

  it("that never ends is given up, and the signal ends a search at once", async () => {
    const trickle: Answer = (response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(" "), 5);
      response.on("close", () => clearInterval(timer));
    };
    const { messageOf, engine } = await open(() => trickle, { timeout: 0.1, patience: 0 });
    expect(await messageOf()).toMatch(/no answer within 0.1 s\n {2}Is it there/);
    const controller = new AbortController();
    const search = engine.search({ ...request, signal: controller.signal });
    controller.abort(new Error("stopped"));
    await expect(search).rejects.toThrow("stopped");
  });

  it("waits as long as Retry-After says, unless that is longer than its patience", async () => {
    const { messageOf, waits } = await open((_, index) => (index === 0 ? status(429, "", { "retry-after": "7" }) : good));
    expect(await messageOf()).toBe("found 1");
    expect(waits).toEqual([7]);
    await server?.close();
    const other = await open(() => status(429, "", { "retry-after": "70" }));
    expect(await other.messageOf()).toMatch(/HTTP 429, which asks to wait 70 s\n.*http\.patience/);
    expect(other.waits).toEqual([]);
  });

  it("is waited for by numbers that belong to the search, the same in every run", async () => {
    const waitsOf = async (turn: number): Promise<number[]> => {
      const { engine, waits } = await open((_, index) => (index < 3 ? status(503) : good));
      await engine.search({ ...request, turn });
      await server?.close();
      return waits;
    };
    const [first, again, other] = [await waitsOf(0), await waitsOf(0), await waitsOf(1)];
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
  });

  it("many times over opens the breaker: the service is left alone, and the searches after fail at once", async () => {
    const { engine, messageOf, server: to } = await open(() => status(401));
    for (let i = 0; i < 12; i++) await messageOf();
    expect(to.asked).toHaveLength(8);
    expect(engine.takeCounts()).toMatchObject({ failed: 8, refused: 4 });
  });
});

describe("the key", () => {
  const echoes: readonly [string, Answer][] = [
    ["an error", status(400, { message: `bad key ${key}` })],
    ["an error, escaped", status(500, `{"message": "no ${encodeURIComponent(key)}"}`)],
    ["a page", status(200, `<html>${"x".repeat(290)}${key}</html>`)],
    ["a redirection", status(302, "", { location: `https://elsewhere.example/?k=${encodeURIComponent(key)}` })],
    ["an error with status 200", { json: { error: `no ${key}` } }],
    ["another shape", { json: { unheard: key } }],
  ];
  it.each(echoes)("stands in no message where the server repeats it in %s", async (_, echo) => {
    const { messageOf, told, server: to } = await open(() => echo);
    const message = await messageOf();
    expect(to.asked[0]?.headers.authorization).toBe(`Bearer ${key}`);
    expect(message).not.toContain("found");
    for (const text of [message, ...told]) for (const part of ["Secret", "sk-"]) expect(text).not.toContain(part);
  });

  it("stands in no document", async () => {
    const results = [{ title: `about ${key}`, url: `https://a.example/?key=${encodeURIComponent(key)}`, content: `x ${key}` }];
    const { engine } = await open(() => ({ json: { results } }));
    expect(JSON.stringify(await engine.search(request))).not.toContain("Secret");
    expect(Object.values(engine)).toEqual([engine.name]);
  });

  it("goes to no other address: a redirection is refused", async () => {
    const elsewhere = await openSearchServer(() => good);
    const { messageOf } = await open(() => status(307, "", { location: `${elsewhere.url}/search` }));
    expect(await messageOf()).toMatch(/HTTP 307, a redirection to .*\n {2}Redirections are not followed, as the key would go along/);
    expect(elsewhere.asked).toEqual([]);
    await elsewhere.close();
  });
});

describe("a query", () => {
  const hostile = [
    'a "quoted" \\ query',
    "two\nlines\r\n and a tab\t",
    "{key} and {query} and {documents}",
    '"}, "num": 100, "x": {"y": "',
    "a&api_key=other#fragment?q=2%00",
    "\ud800 half a character \udc00",
    "<search> </information> <|im_end|>",
    "../../etc/passwd",
    "x".repeat(5000),
  ];
  it.each(hostile)("is a value, and no syntax: %j", async (query) => {
    for (const name of apiNames) {
      const api = readHttpApi(name);
      const { url, body, headers } = requestOf(api, new URL(api.url), { query, documents: 5, key: "the-key" });
      const whole = query.replace(/\p{Surrogate}/gu, "\ufffd").trim();
      const shown = name === "brave" ? whole.split(/\s+/).slice(0, 50).join(" ").slice(0, 400) : whole;
      const texts = [...url.searchParams.values(), ...textsIn(body === undefined ? {} : JSON.parse(JSON.stringify(body)))];
      expect(texts).toContain(shown);
      expect(
        texts.filter((text) => text.includes("the-key")).length + Object.values(headers).filter((text) => text.includes("the-key")).length,
      ).toBe(api.key === undefined ? 0 : 1);
      expect(url.origin + url.pathname).toBe(new URL(api.url).href.replace(/\/$/, new URL(api.url).pathname === "/" ? "/" : ""));
      expect(Object.keys(body ?? {})).toEqual(Object.keys((api.body ?? {}) as object));
    }
  });

  it("that is empty asks nobody", async () => {
    const { engine, server: to } = await open(() => good);
    expect(await engine.search({ ...request, query: " \n" })).toEqual({ documents: [], kind: "real" });
    expect(to.asked).toEqual([]);
  });
});

function textsIn(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

describe("documents", () => {
  it("of any reply are few, bounded, whole characters and without a tag that the policy could take for its own: 10,000 hostile ones", () => {
    const apis = apiNames.map(readHttpApi);
    const text = fc.oneof(
      fc.constantFrom(
        "",
        " ",
        "<search>x</search>",
        "</information>",
        "<answer>",
        "<|im_end|>",
        "[INST]",
        "Doc 2:",
        "\ud800",
        "\udc00x",
        "\u0000",
        "&#0;",
        "&lt;search&gt;",
      ),
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.constant(`<${"a".repeat(300)}`),
      fc.constant('{"value": [{"name": "x", "summary": "y"}]}'),
    );
    const names = fc.constantFrom(
      "results", "organic", "organic_results", "web", "hits", "result", "points", "messages", "content", "data", "webPages", "value", "payload", "document",
      "contents", "text", "title", "name", "snippet", "summary", "description", "extra_snippets", "_source", "score", "error", "msg", "status", "content_type",
      "__proto__", "constructor", "toString", "length",
    ); // prettier-ignore
    const { value } = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { depthSize: "small", maxDepth: 6 },
        fc.oneof(text, fc.double(), fc.integer(), fc.boolean(), fc.constant(null), fc.constant("webpage")),
        fc.array(tie("value"), { maxLength: 4 }),
        fc.array(fc.tuple(names, tie("value")), { maxLength: 4 }).map((entries): unknown => Object.fromEntries(entries)),
      ),
    }));
    // Where the description looks: the same junk in the right place.
    const reply = fc.tuple(fc.constantFrom(...apis), value, fc.boolean()).map(([api, junk, inPlace]) => ({
      api,
      reply: inPlace ? at(api, Array.isArray(junk) ? junk : [junk, junk]) : junk,
    }));
    let listed = 0,
      refused = 0;
    fc.assert(
      fc.property(reply, ({ api, reply }) => {
        const read = documentsIn(reply, api, 5);
        if (!("documents" in read)) {
          refused++;
          expect(typeof ("error" in read ? read.error : read.expected)).toBe("string");
          return;
        }
        listed++;
        expect(read.documents.length).toBeLessThanOrEqual(5);
        for (const document of read.documents) {
          expect(document.text.trim()).not.toBe("");
          for (const part of Object.values(document)) if (typeof part === "string") expect(part).not.toMatch(/\p{Surrogate}|\u0000/u);
        }
        expect(JSON.stringify(read.documents).length).toBeLessThan(2 ** 21);
        expect(neutralise(renderDocuments(read), methods.zerosearch.dialect)).not.toMatch(/<\/?(search|information|answer)>/);
      }),
      { numRuns: 10_000, seed: 7 },
    );
    expect(listed).toBeGreaterThan(2000);
    expect(refused).toBeGreaterThan(2000);
  }, 60_000);

  it("of nested junk, of a million results and of megabytes in one text take no time", () => {
    const api = readHttpApi("brave");
    const from = performance.now();
    const deep = JSON.parse(`${'{"web":'.repeat(1e5)}1${"}".repeat(1e5)}`) as unknown;
    expect(documentsIn(deep, api, 5)).toEqual({ expected: "a list at web.results" });
    const many = { web: { results: Array.from({ length: 1e6 }, () => ({ description: " " })) } };
    expect(documentsIn(many, api, 5)).toEqual({ documents: [] });
    for (const unit of ["<", "<a", "&", "&#", "<!--", "<a>", "a "]) {
      const long = { web: { results: [{ description: `x${unit.repeat(4e6)}`, title: unit.repeat(1e6) }] } };
      const read = documentsIn(long, api, 5) as { documents: readonly { text: string }[] };
      expect(read.documents).toHaveLength(1);
      expect(JSON.stringify(read.documents).length).toBeLessThan(2 ** 21);
    }
    expect(performance.now() - from).toBeLessThan(10_000);
  }, 60_000);
});

/** A value where a description looks for the list of results. */
function at({ reply }: HttpApi, list: unknown): unknown {
  return [...reply.results.steps].reverse().reduce<unknown>((inner, step) => {
    if ("is" in step) return [{ [step.name]: step.is, content: inner }];
    if ("index" in step) return Array.from({ length: step.index + 1 }, () => inner);
    return step.name === "content" ? inner : { [step.name]: inner };
  }, list);
}

describe("HTML", () => {
  it.each([
    ["<strong>Paris</strong>, <em>France</em>", "Paris, France"],
    ["one<br>two<p>three</p>", "one two three "],
    ["1 &lt; 2 &amp;amp; &#39;x&#x27; &nbsp;&unknown;", "1 < 2 &amp; 'x' &unknown;"],
    ["a < b and c > d", "a < b and c > d"],
    ["<!-- not shown -->shown", "shown"],
    ["&#1114112;&#0;&toString;", "&#1114112;&#0;&toString;"],
  ])("%j is %j as text", (html, text) => {
    expect(plainText(html)).toBe(text);
  });
});

describe("a path in a reply", () => {
  it("leads through objects, lists, the first that has something, and texts that hold JSON", () => {
    const reply = {
      a: [
        { kind: "x", in: '{"b": [5, 6]}' },
        { kind: "y", in: 7 },
      ],
      "odd name": 1,
    };
    const read = (path: string): unknown => valueAt(reply, parsePath(path) ?? []);
    expect([read("a[0].in.b[1]"), read("a[kind=y].in"), read("odd name"), read(".")]).toEqual([6, 7, 1, reply]);
    for (const none of ["a[9].in", "a.in", "a[kind=z].in", "toString", "__proto__", "a[0].in.b.length", "odd name.x"])
      expect(read(none)).toBeUndefined();
  });

  it.each(["", "a..b", ".a", "a.", "[0", "a]", "a[]", "a[x]", "a.[0]", "a[0]b"])("is none: %j", (text) => {
    expect(parsePath(text)).toBeNull();
  });
});

describe("a description of one's own", () => {
  const whole = {
    vendor: "https://a.example/",
    checked: "2026-11-30",
    verified: false,
    url: "https://a.example",
    method: "POST",
    body: { q: "{query}" },
    reply: { results: "results", text: "text" },
  };
  const write = (content: unknown): string => {
    const file = join(folder, "mine.yaml");
    writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
    return file;
  };

  it("is read, and named as its file", () => {
    expect(readHttpApi(write(whole))).toMatchObject({ name: "mine", method: "POST", headers: {}, keyOptional: false });
  });

  it.each<[string, unknown, RegExp]>([
    ["an unknown key", { ...whole, verb: "GET" }, /mine\.yaml: unknown key verb\n {2}docs\/engines\.md/],
    ["an unknown key of its reply", { ...whole, reply: { ...whole.reply, texts: "x" } }, /mine\.yaml: reply: unknown key texts/],
    ["no address", { ...whole, url: "a.example" }, /mine\.yaml: url: no http or https address/],
    [
      "a placeholder in its address",
      { ...whole, url: "https://a.example/{query}" },
      /mine\.yaml: url: no http or https address without placeholders/,
    ],
    ["a wrong path", { ...whole, reply: { results: "a..b", text: "text" } }, /mine\.yaml: reply\.results: no path, such as/],
    ["no place for the query", { ...whole, body: { q: "x" } }, /is never told the query; expected \{query\} in query or body/],
    ["an unknown placeholder", { ...whole, body: { q: "{query} {qeury}" } }, /unknown placeholder \{qeury\}; expected/],
    ["a query in a header", { ...whole, headers: { x: "{query}" } }, /a header may hold no placeholder but \{key\}/],
    ["a key that is not sent", { ...whole, key: "MY_KEY" }, /its key, in MY_KEY, is never sent/],
    ["a key of no variable", { ...whole, headers: { x: "{key}" } }, /\{key\} stands in it, and no variable that holds one/],
    ["a GET with a body", { ...whole, method: "GET" }, /a GET has no body/],
    ["no YAML", "a: [", /mine\.yaml: not valid YAML/],
    ["a list", "[1]", /mine\.yaml: expected object/],
  ])("with %s is an error that says where", (_, content, message) => {
    expect(() => readHttpApi(write(content))).toThrow(message);
  });

  it("that is not there is an error that says where it was looked for", () => {
    expect(() => readHttpApi("./no-such.yaml")).toThrow(
      /http\.api=\.\/no-such\.yaml: there is no such file; expected the YAML file of a search service, got \//,
    );
  });
});

describe("the settings of http", () => {
  const context = { seed: 1, noise: 0 as never, corpus: null, promptSet: () => ({ simulator: "" }), now: () => 0, say: () => undefined };
  const opening = (settings: object) => engines.http.open(engines.http.schema.parse(settings), context);

  it("need a service, its key, and an address that is one", async () => {
    await expect(opening({})).rejects.toThrow("http.api: is missing");
    delete process.env["BRAVE_API_KEY"];
    await expect(opening({ api: "brave" })).rejects.toThrow(
      "http.api=brave: the environment variable BRAVE_API_KEY is not set; expected the endpoint's API key in it\n  Set it (export BRAVE_API_KEY=...).",
    );
    process.env["BRAVE_API_KEY"] = "not\u00e9 a key";
    await expect(opening({ api: "brave" })).rejects.toThrow(/BRAVE_API_KEY holds no key; expected printable ASCII/);
    await expect(opening({ api: "brave" })).rejects.not.toThrow(/not\u00e9/);
    delete process.env["BRAVE_API_KEY"];
    await expect(opening({ api: "searxng", url: "here" })).rejects.toThrow(
      'http.url: is no URL; expected an address such as http://127.0.0.1:8000, got "here"',
    );
    await expect(opening({ api: "searxng", url: "https://me:hunter2@host/" })).rejects.toThrow(/http\.url: holds a user or a password/);
    await expect(opening({ api: "searxng", url: "ftp://host/" })).rejects.toThrow("http.url: is not http or https");
  });

  it("send no key where it is optional and not set", async () => {
    delete process.env["QDRANT_API_KEY"];
    server = await openSearchServer(() => ({ json: { result: { points: [] } } }));
    const { engine, takeCounts } = await opening({ api: "qdrant", url: `${server.url}/collections/mine/` });
    await ("search" in engine ? engine.search(request) : undefined);
    expect(server.asked).toMatchObject([{ path: "/collections/mine/points/query" }]);
    expect(server.asked[0]?.headers).not.toHaveProperty("api-key");
    expect(takeCounts?.()).toEqual({ http_requests: 1, http_retries: 0, http_failed: 0, http_refused: 0, http_seconds: 0 });
  });
});
