/** Embeddings by a server: what it is asked, and what becomes of replies of every kind. */
import { writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { EndpointEmbedder, type EndpointEmbedderOptions } from "../../src/search/dense/endpoint-embedder.ts";
import type { DenseSearch } from "../../src/search/dense.ts";
import type { EngineContext } from "../../src/search/engine-kind.ts";
import { engines } from "../../src/search/engines.ts";
import { RequestError, ServerError } from "../../src/util/errors.ts";
import { bodyOf, embedded, numbersOf, openEmbeddingsServer, vectorOf } from "../helpers/embeddings-server.ts";
import { errorOf, messageOf } from "../helpers/message-of.ts";
import { status, type Answer, type AskedOf, type SearchServer } from "../helpers/search-server.ts";
import { ReferenceDevice } from "../reference/device.ts";

const key = "sk-Very/Secret+key 7";
let server: SearchServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});
const folder = mkdtempSync(join(tmpdir(), "zerosearch-dense-endpoint-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function open(answer?: (asked: AskedOf, index: number) => Answer | null, options: Partial<EndpointEmbedderOptions> = {}) {
  server = await openEmbeddingsServer(answer);
  const waits: number[] = [];
  let clock = 0;
  const embedder = new EndpointEmbedder({
    endpoint: new URL(`${server.url}/v1`),
    model: "m",
    key,
    encoding: "float",
    batch: 3,
    timeout: 5,
    patience: 20,
    concurrency: 4,
    seed: 1,
    about: { model: "m", sha256: "0".repeat(64), pooling: "server", form: "instruct", maxTokens: 16, dimensions: 0 },
    instruction: "Find it",
    now: () => clock,
    wait: (seconds) => {
      clock += 1000 * seconds;
      waits.push(seconds);
      return Promise.resolve();
    },
    ...options,
  });
  return { embedder, server, waits };
}

const five = ["one", "two", "three", "four", "five"];

function expectNear(vectors: readonly Float32Array[], expected: readonly (readonly number[])[]): void {
  expect(vectors).toHaveLength(expected.length);
  vectors.forEach((vector, i) => vector.forEach((value, c) => expect(value).toBeCloseTo(expected[i]![c]!, 6)));
}

describe("a server's embeddings", () => {
  it.each(["float", "base64"] as const)("are asked for in batches, with the key, as %s, and made of length 1", async (encoding) => {
    const { embedder, server: to } = await open(undefined, { encoding });
    const { vectors, tokens, truncated } = await embedder.embed(five, "passage");
    expectNear(vectors, five.map(vectorOf));
    expect({ tokens, truncated }).toEqual({ tokens: five.join("").length, truncated: 0 });
    expect(to.asked.map((one) => bodyOf(one).input)).toEqual([five.slice(0, 3), five.slice(3)]);
    for (const one of to.asked) {
      expect([one.method, one.path, one.headers.authorization]).toEqual(["POST", "/v1/embeddings", `Bearer ${key}`]);
      expect(bodyOf(one)).toMatchObject({ model: "m", encoding_format: encoding });
    }
    expect(embedder.takeCounts()).toMatchObject({ dense_requests: 2, dense_retries: 0, dense_failed: 0, dense_tokens: tokens });
    expect(embedder.takeCounts()).toMatchObject({ dense_requests: 0, dense_tokens: 0 });
  });

  it("are those of queries behind their instruction; a text that is too long is cut, and halves of characters are mended", async () => {
    const { embedder, server: to } = await open();
    const long = `${"a".repeat(63)}\u{1f600}${"b".repeat(100_000)}`;
    expect(await embedder.embed(["x", long, "half \ud83d"], "query")).toMatchObject({ truncated: 1 });
    expect(bodyOf(to.asked[0]!).input).toEqual([
      "Instruct: Find it\nQuery:x",
      `Instruct: Find it\nQuery:${"a".repeat(63)}`,
      "Instruct: Find it\nQuery:half \ufffd",
    ]);
  });

  it("keep their places when the list is in another order, and need no index where there is none", async () => {
    const shuffled = await open((asked) => ({ json: { ...embedded(asked), data: embedded(asked).data.reverse() } }));
    expectNear((await shuffled.embedder.embed(five, "passage")).vectors, five.map(vectorOf));
    await server?.close();
    const bare = await open((asked) => ({ json: { data: embedded(asked).data.map(({ embedding }) => ({ embedding })) } }));
    const { vectors, tokens } = await bare.embedder.embed(five, "passage");
    expectNear(vectors, five.map(vectorOf));
    expect(tokens).toBe(0);
  });

  it("are cut to the numbers that are asked for, and have length 1 again", async () => {
    const about = { model: "m", sha256: "0".repeat(64), pooling: "server", form: "bare", maxTokens: 16, dimensions: 4 } as const;
    const { embedder } = await open(undefined, { about });
    const first = numbersOf("one").slice(0, 4);
    expectNear((await embedder.embed(["one"], "query")).vectors, [first.map((value) => value / Math.hypot(...first))]);
    const more = await open(undefined, { about: { ...about, dimensions: 9 } });
    expect(await messageOf(more.embedder.embed(["one"], "query"))).toMatch(
      /^http:[^ ]*: dense\.dimensions: the server makes embeddings that are shorter; expected at most 8, got 9/,
    );
  });
});

describe("a reply that is wrong", () => {
  const edit =
    (change: (reply: ReturnType<typeof embedded>) => unknown) =>
    (asked: AskedOf): Answer => ({ json: change(embedded(asked)) });
  const withFirst = (one: object) => edit(({ data, ...rest }) => ({ ...rest, data: [{ ...data[0], ...one }, ...data.slice(1)] }));

  it.each<[string, (asked: AskedOf) => Answer, RegExp]>([
    [
      "has one embedding too few",
      edit((reply) => ({ data: reply.data.slice(1) })),
      /another number of embeddings than of texts; expected 3, got 2/,
    ],
    ["has one too many", edit(({ data }) => ({ data: [...data, data[0]] })), /expected 3, got 4/],
    ["has no list", edit(() => ({ error: "none", value: `key ${key}` })), /an answer without embeddings; expected data, .*key \[key\]/],
    ["is null", edit(() => null), /an answer without embeddings/],
    ["names one place twice", withFirst({ index: 1 }), /data\[1\]\.index is wrong; expected each of 0 to 2 once, got 1/],
    ["names a place that is none", withFirst({ index: 3 }), /data\[0\]\.index is wrong; .* got 3/],
    ["names a place by a text", withFirst({ index: "0" }), /data\[0\]\.index is wrong/],
    ["is shorter in one place", withFirst({ index: 0, embedding: [1, 2] }), /data\[1\]\.embedding has another length; expected 2, got 8/],
    ["holds null where NaN was", withFirst({ embedding: [1, null, 3] }), /data\[0\]\.embedding is no vector; expected numbers/],
    ["holds texts", withFirst({ embedding: ["1", "2"] }), /data\[0\]\.embedding is no vector/],
    ["holds nothing", withFirst({ embedding: [] }), /data\[0\]\.embedding is no vector/],
    [
      "holds zeros",
      withFirst({ embedding: [0, 0, 0, 0, 0, 0, 0, 0] }),
      /^http:[^ ]*: an embedding is no vector; expected finite numbers, not all 0, got length 0\n/,
    ],
    [
      "holds NaN in Base64",
      withFirst({ embedding: Buffer.from(Float32Array.of(1, NaN).buffer).toString("base64") }),
      /an embedding is no vector; .*got length NaN/,
    ],
    ["holds half a float in Base64", withFirst({ embedding: "AAAAAAA=" }), /data\[0\]\.embedding is no vector/],
    ["has an embedding that is null", edit(({ data }) => ({ data: [null, ...data.slice(1)] })), /data\[0\]\.embedding is no vector/],
    ["is a redirection", () => status(307, "", { location: "http://127.0.0.1:1/" }), /HTTP 307, a redirection/],
    ["refuses the key", () => status(401, { error: { message: `no ${key}` } }), /HTTP 401: "no \[key\]"\n {2}dense\.endpointKey names/],
    [
      "knows no such model",
      () => status(404, { error: { message: "no model m" } }),
      /HTTP 404: "no model m"\n {2}dense\.endpoint is the base URL/,
    ],
  ])("%s, fails at once, and says so", async (_, answer, message) => {
    const { embedder, server: to } = await open(answer);
    const error = await errorOf(() => embedder.embed(five.slice(0, 3), "passage"));
    expect(error).toBeInstanceOf(ServerError);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain(key);
    expect(to.asked).toHaveLength(1);
  });

  it("has another length than the first one had", async () => {
    const { embedder } = await open((asked, index) => (index === 0 ? null : withFirst({ embedding: [1, 2, 3] })(asked)));
    await embedder.embed(["a"], "passage");
    expect(await messageOf(embedder.embed(["b"], "query"))).toMatch(/has another length; expected 8, got 3/);
  });

  it("finds fault with the texts: that is no server that is away", async () => {
    const { embedder, server: to } = await open(() => status(400, { error: { message: "maximum context length is 512" } }));
    const error = await errorOf(() => embedder.embed(["a"], "query"));
    expect(error).toBeInstanceOf(RequestError);
    expect(error.message).toMatch(/HTTP 400: "maximum context length is 512"\n {2}.*a lower dense\.maxTokens cuts it/);
    for (let i = 0; i < 9; i++) await errorOf(() => embedder.embed(["a"], "query"));
    expect(to.asked).toHaveLength(10);
    expect(embedder.takeCounts()).toMatchObject({ dense_failed: 10, dense_refused: 0 });
  });
});

describe("a server that is away", () => {
  it.each<[string, Answer]>([
    ["HTTP 500", status(500, { error: "out of luck" })],
    ["HTTP 429", status(429)],
    ["HTTP 503 with Retry-After", status(503, "", { "retry-after": "7" })],
    ["a page of HTML", status(200, "<html><body>busy</body></html>")],
    ["JSON that is cut", status(200, '{"data": [{"embedding": [0.1, 0.')],
    [
      "a length that is not kept",
      (response) => void response.writeHead(200, { "content-length": "1000" }).write('{"da', () => response.destroy()),
    ],
    ["a closed connection", (response) => response.destroy()],
    ["no answer in time", () => undefined],
  ])("%s, is asked again, and the embeddings are the same", async (name, broken) => {
    const { embedder, waits } = await open((_, index) => (index < 2 ? broken : null), { timeout: name === "no answer in time" ? 0.2 : 5 });
    expectNear((await embedder.embed(["a"], "passage")).vectors, [vectorOf("a")]);
    expect(waits).toHaveLength(2);
    if (name.includes("Retry-After")) expect(Math.min(...waits)).toBeGreaterThanOrEqual(7);
    expect(embedder.takeCounts()).toMatchObject({ dense_requests: 1, dense_retries: 2, dense_failed: 0 });
  });

  it("is asked for as long as patience lasts; one request that fails gives the others up", async () => {
    const { embedder, waits, server: to } = await open(() => status(503), { batch: 1, concurrency: 1 });
    const error = await errorOf(() => embedder.embed(five, "passage"));
    expect(error).toBeInstanceOf(ServerError);
    expect(error.message).toMatch(/HTTP 503 \(\d+ tries\)\n {2}A server that is away, .* needs a higher dense\.endpointPatience/);
    expect(waits.reduce((sum, one) => sum + one, 0)).toBeCloseTo(20, 6);
    expect(to.asked).toHaveLength(waits.length + 1);
  });

  it("is not asked any more when nobody waits", async () => {
    const { embedder } = await open(() => () => undefined);
    const gone = new AbortController();
    const asked = embedder.embed(["a"], "query", gone.signal);
    setTimeout(() => gone.abort(new Error("no longer")), 50);
    expect(await messageOf(asked)).toBe("no longer");
  });
});

describe("the engine over a server", () => {
  const corpus = join(folder, "corpus.jsonl");
  const rows = Array.from({ length: 30 }, (_, i) => ({ id: `p${i}`, text: `passage ${i}` }));
  writeFileSync(corpus, rows.map((row) => JSON.stringify(row)).join("\n"));
  const context = (said: string[] = []): EngineContext => ({
    seed: 1,
    noise: { start: 0, end: 0, steps: 1 },
    corpus,
    promptSet: () => ({ simulator: "" }),
    now: () => performance.now(),
    say: (text) => said.push(text),
    embedding: { device: new ReferenceDevice(), model: null },
  });
  const settingsFor = (url: string, more: object = {}) =>
    engines.dense.schema.parse({ endpoint: url, endpointModel: "m", form: "bare", documents: 3, endpointBatch: 7, ...more });

  it("finds the passages nearest to a query", async () => {
    server = await openEmbeddingsServer();
    const { engine, takeCounts } = await engines.dense.open(settingsFor(server.url), context());
    const passages = rows.map(({ text }) => vectorOf(text));
    for (const query of ["passage 7", "something else"]) {
      const scores = passages.map((one) => one.reduce((sum, value, c) => sum + value * vectorOf(query)[c]!, 0));
      const best = scores
        .map((_, i) => i)
        .sort((a, b) => scores[b]! - scores[a]!)
        .slice(0, 3);
      const hits = await (engine as DenseSearch).find(query);
      expect(hits.map(({ id }) => id)).toEqual(best.map((i) => `p${i}`));
      hits.forEach(({ score }, i) => expect(score).toBeCloseTo(scores[best[i]!]!, 5));
    }
    expect(takeCounts?.()).toMatchObject({ dense_queries: 2, dense_requests: 7 });
    await engine.close();
  });

  it("answers the others where the server finds fault with one query", async () => {
    server = await openEmbeddingsServer((asked) => (bodyOf(asked).input.includes("bad") ? status(413, "too long") : null));
    const { engine } = await engines.dense.open(settingsFor(server.url), context());
    const asked = ["a", "bad", "c"].map((query) => (engine as DenseSearch).find(query));
    const ends = await Promise.allSettled(asked);
    expect(ends.map((one) => one.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(await (engine as DenseSearch).find("c")).toEqual((ends[2] as PromiseFulfilledResult<unknown>).value);
    await engine.close();
  });

  it("fails a search as the server does, and says of an outage that it waits", async () => {
    let away = false;
    server = await openEmbeddingsServer(() => (away ? status(500, "away") : null));
    const said: string[] = [];
    const { engine } = await engines.dense.open(settingsFor(server.url, { endpointPatience: 0.2 }), context(said));
    away = true;
    const error = await errorOf(() => (engine as DenseSearch).find("a"));
    expect(error).toBeInstanceOf(ServerError);
    expect(error.message).toMatch(/\/embeddings: HTTP 500: "away"/);
    expect(said.join("\n")).toMatch(/dense: .*HTTP 500.*trying again for up to 0\.2 s \(dense\.endpointPatience\)/);
    await engine.close();
  });

  it("names settings that are wrong before anything is asked", async () => {
    const check = (more: object, corpusFile: string | null = corpus) =>
      engines.dense.check?.(settingsFor("http://127.0.0.1:9/v1", more), { ...context(), corpus: corpusFile }) ?? Promise.resolve();
    expect(await messageOf(check({ endpoint: "http://127.0.0.1:9/v1/embeddings" }))).toContain(
      "dense.endpoint: is the address of one method",
    );
    expect(await messageOf(check({ endpoint: "ftp://x" }))).toContain("dense.endpoint: is not http or https");
    const secret = await messageOf(check({ endpoint: "http://me:hunter2@x/v1" }));
    expect(secret).toContain("a key goes into the variable of dense.endpointKey");
    expect(secret).not.toContain("hunter2");
    expect(await messageOf(check({ endpointKey: "ZEROSEARCH_NO_SUCH_KEY" }))).toContain(
      "the environment variable ZEROSEARCH_NO_SUCH_KEY is not set",
    );
    expect(await messageOf(check({}, null))).toContain("data.corpus: is missing");
    expect(await messageOf(check({}, join(folder, "none.jsonl")))).toContain("none.jsonl");
    expect(await messageOf(check({ index: join(folder, "none.dense") }))).toMatch(
      /none\.dense: there is no such index\n {2}npx zerosearch index CORPUS --dense/,
    );
  });

  it("that is an encoder needs a package, which is named where it is missing", async (test) => {
    const name: string = "@huggingface/transformers";
    const installed = await import(name).then(
      () => true,
      () => false,
    );
    if (installed) test.skip("@huggingface/transformers is installed");
    const settings = engines.dense.schema.parse({ encoder: "intfloat/e5-base-v2" });
    expect(await messageOf(engines.dense.open(settings, context()))).toMatch(
      /dense\.encoder: the optional package @huggingface\/transformers is not installed\n {2}npm install @huggingface\/transformers/,
    );
  });
});
