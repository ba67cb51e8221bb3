/**
 * A search engine behind Search-R1's protocol, which verl's search tool speaks too: POST /retrieve {queries, topk, return_scores}.
 *
 * Source: search_r1/search/retrieval_server.py of Search-R1.
 */
import { setMaxListeners } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Bm25Search } from "../search/bm25.ts";
import { DenseSearch } from "../search/dense.ts";
import { joinContents } from "../search/passages.ts";
import { ask, type SearchDocument, type SearchEngine } from "../search/search-engine.ts";
import { abortReason } from "../util/abort.ts";
import { ConfigError, show, ZeroSearchError } from "../util/errors.ts";
import { readJson, Refusal, sendJson } from "./json-body.ts";

/** Of one request. */
const MOST_BYTES = 16 * 2 ** 20;
const MOST_QUERIES = 8192;
const MOST_DOCUMENTS = 100;
/** Milliseconds that requests under way are given when the server closes. */
const PATIENCE = 5000;

export interface RetrieverOptions {
  readonly engine: SearchEngine;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Documents of a query where a request does not say. */
  readonly documents: number;
  /** Told of requests that failed by no fault of theirs. */
  readonly say: (text: string) => void;
}

export interface Retriever {
  /** `http://127.0.0.1:8000` */
  readonly address: string;
  /** Takes no more requests, and lets those under way end. */
  close(): Promise<void>;
}

interface RetrieveRequest {
  readonly queries: readonly string[];
  readonly documents: number;
  readonly scores: boolean;
}

/** Resolves when it listens. @throws ConfigError where it cannot. */
export async function serveRetriever(options: RetrieverOptions): Promise<Retriever> {
  const { host, port } = options;
  let asked = 0;
  const server = createServer((request, response) => {
    void answer(request, response, options, () => asked++);
  });
  server.on("clientError", (_, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const taken = cause.code === "EADDRINUSE";
      const what = taken ? `port ${port} is taken` : `cannot listen on ${host}, port ${port}: ${cause.message}`;
      reject(new ConfigError({ where: "zerosearch retriever", what, hint: "Name another one: --port PORT, --host ADDRESS." }, { cause }));
    });
    // A thousand clients may come at once.
    server.listen({ host, port, backlog: 4096 }, resolve);
  });
  const { address, port: given, family } = server.address() as AddressInfo;
  return { address: `http://${family === "IPv6" ? `[${address}]` : address}:${given}`, close: () => close(server) };
}

async function answer(request: IncomingMessage, response: ServerResponse, options: RetrieverOptions, next: () => number): Promise<void> {
  try {
    sendJson(request, response, 200, await route(request, response, options, next));
  } catch (error) {
    // Who has gone is not answered.
    if (response.destroyed) return;
    const status = error instanceof Refusal ? error.status : error instanceof ZeroSearchError ? 502 : 500;
    const message = error instanceof Error ? error.message : String(error);
    if (status >= 500) options.say(`a request failed: ${message}`);
    sendJson(request, response, status, { error: message });
  }
}

async function route(request: IncomingMessage, response: ServerResponse, options: RetrieverOptions, next: () => number): Promise<unknown> {
  const path = (request.url ?? "").replace(/\?.*$/s, "");
  const methods: Readonly<Record<string, string>> = { "/retrieve": "POST", "/health": "GET" };
  const method = Object.hasOwn(methods, path) ? methods[path] : undefined;
  if (method === undefined) throw new Refusal(404, "there are POST /retrieve and GET /health");
  if (request.method !== method) throw new Refusal(405, `${path} takes ${method}`);
  const { engine } = options;
  if (path === "/health") return { status: "ok", engine: engine.name, ...(isLocal(engine) ? { passages: engine.size } : {}) };
  const { queries, documents, scores } = readRequest(await readJson(request, MOST_BYTES), options.documents);
  const gone = new AbortController();
  setMaxListeners(0, gone.signal); // each of its queries listens
  response.once("close", () => gone.abort(new Error("the client has gone")));
  const search = async (query: string): Promise<readonly SearchDocument[]> => {
    if (gone.signal.aborted) throw abortReason(gone.signal);
    if (isLocal(engine)) return engine.find(query, documents, gone.signal);
    const key = { step: 0, question: next(), rollout: 0 };
    const result = await ask(engine, { query, key, turn: 0, signal: gone.signal, question: "", goldenAnswers: [] });
    return result.documents.slice(0, documents);
  };
  const found = await Promise.all(queries.map(search));
  const shown = (one: SearchDocument): unknown => (scores ? { document: documentOf(one), score: one.score ?? null } : documentOf(one));
  return { result: found.map((list) => list.map(shown)) };
}

/** One over passages of this process, which gives as many documents as it is asked for. */
function isLocal(engine: SearchEngine): engine is Bm25Search | DenseSearch {
  return engine instanceof Bm25Search || engine instanceof DenseSearch;
}

/** Title and text in one, as the rows of Search-R1's corpora. */
function documentOf({ id, title, text, url }: SearchDocument): Readonly<Record<string, unknown>> {
  return {
    ...(id === undefined ? {} : { id }),
    contents: joinContents({ ...(title === undefined ? {} : { title }), text }),
    ...(url === undefined ? {} : { url }),
  };
}

/** @throws Refusal 400 naming the field that is wrong */
function readRequest(body: unknown, documents: number): RetrieveRequest {
  const wrong = (field: string, expected: string, got: unknown): Refusal =>
    new Refusal(400, `${field}: expected ${expected}, got ${show(got)}`);
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw wrong("body", '{"queries": ["..."], "topk": 3}', body);
  const { queries, topk, return_scores: scores = false } = body as { queries?: unknown; topk?: unknown; return_scores?: unknown };
  if (!Array.isArray(queries)) throw wrong("queries", "a list of texts", queries);
  if (queries.length > MOST_QUERIES) throw wrong("queries", `at most ${MOST_QUERIES}`, queries.length);
  const other = queries.findIndex((query) => typeof query !== "string");
  if (other >= 0) throw wrong(`queries[${other}]`, "a text", queries[other]);
  if (scores !== null && typeof scores !== "boolean") throw wrong("return_scores", "true or false", scores);
  // As there: 0 is as if it were not given.
  const most = topk === undefined || topk === null || topk === 0 ? documents : topk;
  if (typeof most !== "number" || !Number.isInteger(most) || most < 1 || most > MOST_DOCUMENTS)
    throw wrong("topk", `a whole number from 1 to ${MOST_DOCUMENTS}`, topk);
  return { queries: queries as string[], documents: most, scores: scores === true };
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(() => server.closeAllConnections(), PATIENCE);
    server.close(() => {
      clearTimeout(late);
      resolve();
    });
    server.closeIdleConnections();
  });
}
