/** The retriever, over real sockets. */
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Bm25Search } from "../../src/search/bm25.ts";
import { readHttpApi } from "../../src/search/http-api.ts";
import { HttpSearch } from "../../src/search/http-search.ts";
import type { SearchEngine } from "../../src/search/search-engine.ts";
import { serveRetriever, type Retriever } from "../../src/serve/retriever.ts";
import { ServerError } from "../../src/util/errors.ts";
import { openSearchServer } from "../helpers/search-server.ts";

const passages = [
  { id: "a", title: "France", text: "The capital of France is Paris." },
  { id: "b", text: "The capital of Germany is Berlin." },
  ...Array.from({ length: 50 }, (_, i) => ({ id: `n${i}`, text: `number${i} of many` })),
];
let engine: Bm25Search;
let server: Retriever;
const said: string[] = [];
beforeAll(async () => {
  engine = await Bm25Search.inMemory(passages, 5);
  server = await serveRetriever({ engine, host: "127.0.0.1", port: 0, documents: 3, say: (text) => said.push(text) });
});
afterAll(async () => {
  await server.close();
  await engine.close();
});

async function post(body: unknown, { to = server, path = "/retrieve", method = "POST" } = {}): Promise<{ status: number; body: unknown }> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(`${to.address}${path}`, { method, ...(method === "GET" ? {} : { body: text }) });
  return { status: response.status, body: await response.json() };
}

describe("the retriever", () => {
  it("answers as Search-R1's server does: documents with id and contents, scores where they are asked for", async () => {
    const { status, body } = await post({ queries: ["Paris", "zebra", "Berlin"], topk: 1, return_scores: true });
    expect(status).toBe(200);
    const [paris] = await engine.find("Paris", 1);
    const [berlin] = await engine.find("Berlin", 1);
    expect(body).toEqual({
      result: [
        [{ document: { id: "a", contents: '"France"\nThe capital of France is Paris.' }, score: paris?.score }],
        [],
        [{ document: { id: "b", contents: "The capital of Germany is Berlin." }, score: berlin?.score }],
      ],
    });
    const plain = await post({ queries: ["Paris"], topk: 1, return_scores: false });
    expect(plain.body).toEqual({ result: [[{ id: "a", contents: '"France"\nThe capital of France is Paris.' }]] });
    expect((await post({ queries: [] })).body).toEqual({ result: [] });
  });

  it("gives its own number of documents where topk is missing, null or 0", async () => {
    for (const topk of [undefined, null, 0]) {
      const { body } = await post({ queries: ["many"], topk });
      expect((body as { result: unknown[][] }).result[0]).toHaveLength(3);
    }
    const { body } = await post({ queries: ["many"], topk: 20 });
    expect((body as { result: unknown[][] }).result[0]).toHaveLength(20);
  });

  it("refuses what is no request, naming what is wrong", async () => {
    for (const [body, message] of [
      ["{", "the body is not JSON"],
      ["[]", "body: expected"],
      [{ queries: "one" }, 'queries: expected a list of texts, got "one"'],
      [{ queries: ["one", 2] }, "queries[1]: expected a text, got 2"],
      [{ queries: ["one"], topk: 1.5 }, "topk: expected a whole number from 1 to 100, got 1.5"],
      [{ queries: ["one"], topk: -1 }, "topk: expected"],
      [{ queries: ["one"], topk: 101 }, "topk: expected"],
      [{ queries: ["one"], return_scores: "yes" }, 'return_scores: expected true or false, got "yes"'],
      [{ queries: Array.from({ length: 8193 }, () => "") }, "queries: expected at most 8192, got 8193"],
    ] as const) {
      const { status, body: answer } = await post(body);
      expect(status).toBe(400);
      expect((answer as { error: string }).error).toContain(message);
    }
    expect(await post({ queries: [] }, { path: "/elsewhere" })).toMatchObject({ status: 404 });
    expect(await post("", { method: "GET" })).toMatchObject({ status: 405, body: { error: "/retrieve takes POST" } });
    const bytes = await fetch(`${server.address}/retrieve`, { method: "POST", body: Buffer.from([0x7b, 0xff, 0x7d]) });
    expect([bytes.status, await bytes.json()]).toEqual([400, { error: "the body is not UTF-8" }]);
  });

  it("reads no body of more than 16 MiB, told or streamed", async () => {
    const piece = Buffer.alloc(2 ** 20, "a");
    for (const header of [`content-length: ${2 ** 30}`, "transfer-encoding: chunked"]) {
      const status = await new Promise<string>((resolve, reject) => {
        const { hostname, port } = new URL(server.address);
        const socket = connect(Number(port), hostname);
        socket.write(`POST /retrieve HTTP/1.1\r\nhost: x\r\n${header}\r\n\r\n`);
        const chunked = header.startsWith("transfer");
        // One byte too many, and then silence: the answer must not wait for the end.
        for (let sent = 0; chunked && sent < 16; sent++)
          socket.write(Buffer.concat([Buffer.from("100000\r\n"), piece, Buffer.from("\r\n")]));
        if (chunked) socket.write("1\r\na\r\n");
        socket.once("data", (data) => {
          resolve(data.toString("latin1").split("\r\n")[0] ?? "");
          socket.destroy();
        });
        socket.once("error", reject);
      });
      expect(status).toBe("HTTP/1.1 413 Payload Too Large");
    }
  });

  it("answers 1,000 requests at once, each as it would alone, and says that it is well meanwhile", async () => {
    const asked = Array.from({ length: 1000 }, (_, i) => post({ queries: [`number${i % 50}`], topk: 1, return_scores: true }));
    const health = await post("", { path: "/health", method: "GET" });
    expect(health).toEqual({ status: 200, body: { status: "ok", engine: "bm25", passages: 52 } });
    for (const [i, { status, body }] of (await Promise.all(asked)).entries()) {
      expect(status).toBe(200);
      expect(body).toMatchObject({ result: [[{ document: { id: `n${i % 50}`, contents: `number${i % 50} of many` } }]] });
    }
  });

  it("serves other engines, says when they fail, and lets requests under way end when it closes", async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const own: SearchEngine = {
      name: "own",
      async search({ query }) {
        if (query === "fail") throw new ServerError({ where: "own", what: "is away" });
        if (query === "wait") await held;
        return { documents: [{ text: `about ${query}`, url: "http://x/" }, { text: "second" }], kind: "real" };
      },
      close: () => Promise.resolve(),
    };
    const other = await serveRetriever({ engine: own, host: "127.0.0.1", port: 0, documents: 1, say: (text) => said.push(text) });
    expect(await post({ queries: ["x"], return_scores: true }, { to: other })).toEqual({
      status: 200,
      body: { result: [[{ document: { contents: "about x", url: "http://x/" }, score: null }]] },
    });
    expect(await post({ queries: ["x", "fail"] }, { to: other })).toEqual({ status: 502, body: { error: "own: is away" } });
    expect(said).toEqual(["a request failed: own: is away"]);
    const last = post({ queries: ["wait"] }, { to: other });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const closed = other.close();
    release();
    expect((await last).status).toBe(200);
    await closed;
    await expect(post({ queries: [] }, { to: other })).rejects.toThrow();
  });

  it("gives a document its title where its text is too long for the service's reply to be taken whole", async () => {
    const found = { title: "Nile", url: "http://a/", content: "x".repeat(2 ** 21) };
    const service = await openSearchServer(() => ({ json: { results: [found] } }));
    const search = new HttpSearch({
      ...{ api: readHttpApi("tavily"), url: service.url, key: "secret", documents: 1, seed: 1 },
      ...{ timeout: 5, patience: 0, concurrency: 1, now: () => 0 },
    });
    const other = await serveRetriever({ engine: search, host: "127.0.0.1", port: 0, documents: 1, say: (text) => said.push(text) });
    const { body } = await post({ queries: ["river"] }, { to: other });
    const { contents = "", url } = (body as { result: { contents: string; url: string }[][] }).result[0]?.[0] ?? {};
    expect(contents.slice(0, 10)).toBe('"Nile"\nxxx');
    expect(contents.length).toBeGreaterThan(2 ** 20 - 100);
    expect(contents.length).toBeLessThanOrEqual(2 ** 20);
    expect(url).toBe("http://a/");
    await other.close();
    await service.close();
  });

  it("says when its port is taken", async () => {
    const port = Number(new URL(server.address).port);
    const again = serveRetriever({ engine, host: "127.0.0.1", port, documents: 1, say: () => undefined });
    await expect(again).rejects.toThrow(`zerosearch retriever: port ${port} is taken`);
  });
});
