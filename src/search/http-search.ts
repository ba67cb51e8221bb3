/** A real search engine behind HTTP, as its description says: one request for each search, tried again while the service is away. */
import { philox, streamKey, uniform } from "../util/philox.ts";
import { ServerError } from "../util/errors.ts";
import type { HttpApi } from "./http-api.ts";
import { isNotOffered, quote, requestJson, type JsonFailure } from "./http-json.ts";
import { documentsIn } from "./http-reply.ts";
import { requestOf } from "./http-request.ts";
import { Remote, type RemoteCounts, type RemoteOptions, type Tried } from "./remote.ts";
import type { SearchDocument, SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";
import { hider } from "./secret.ts";

export interface HttpSearchOptions extends RemoteOptions {
  readonly api: HttpApi;
  /** The address, in place of the description's: what `path` comes after. */
  readonly url?: string | undefined;
  readonly key?: string | undefined;
  /** Documents of a search, at most. */
  readonly documents: number;
  /** Seconds after which a try is given up. */
  readonly timeout: number;
  readonly seed: number;
}

/** A key shorter than this stands in ordinary texts: it is taken out of messages, and not out of documents. */
const shortestSecret = 6;

export class HttpSearch implements SearchEngine {
  readonly name: string;
  readonly #options: HttpSearchOptions;
  readonly #remote: Remote;
  readonly #base: URL;
  readonly #hide: (text: string) => string;
  readonly #hideInDocuments: (text: string) => string;

  constructor(options: HttpSearchOptions) {
    const { api, url = api.url, key = "" } = options;
    this.name = `http (${api.name})`;
    this.#options = options;
    this.#remote = new Remote(options);
    this.#base = new URL(url);
    if (api.path !== undefined) this.#base.pathname = `${this.#base.pathname.replace(/\/+$/, "")}${api.path}`;
    this.#hide = hider(key);
    this.#hideInDocuments = hider(key.length < shortestSecret ? undefined : key);
  }

  /** None where the query is empty: no service takes such a one. @throws ServerError when the service refuses, answers nonsense, or has not answered in all its tries. */
  async search({ query, key, turn, signal }: SearchRequest): Promise<SearchResult> {
    const { api, documents, timeout, seed, key: secret } = this.#options;
    if (query.trim() === "") return { documents: [], kind: "real" };
    const { url, ...request } = requestOf(api, this.#base, { query, documents, key: secret });
    // A stream of this search alone, for the waits.
    const stream = philox(streamKey(seed, "engineWait"), [key.step, key.question, key.rollout, turn]);
    const where = `${this.#base.origin}${this.#base.pathname}`;
    const found = await this.#remote.call<readonly SearchDocument[]>({
      where,
      send: async () => {
        const answer = await requestJson(url, { ...request, timeout, hide: this.#hide, signal });
        return "failure" in answer ? answer : this.#read(answer);
      },
      jitter: (n) => uniform([stream[0], stream[1]], [n, 0, 0, 0]),
      error: (failure, tried) => this.#error(where, failure, tried),
      signal,
    });
    return { documents: found, kind: "real" };
  }

  /** What happened since the last call. */
  takeCounts(): RemoteCounts {
    return this.#remote.takeCounts();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #read({ value, text }: { readonly value: unknown; readonly text: string }) {
    const { api, documents } = this.#options;
    const read = documentsIn(value, api, documents, this.#hideInDocuments);
    if ("documents" in read) return { value: read.documents };
    if ("error" in read) return { failure: { what: `an error: ${quote(this.#hide(read.error))}`, passing: false, status: 200 } };
    return { failure: { what: "an answer without results", expected: read.expected, got: quote(text), passing: false, status: 200 } };
  }

  #error(where: string, { what, status, retryAfter = 0, expected, got }: JsonFailure, { tries, left }: Tried): ServerError {
    const asks = retryAfter > Math.max(0, left) ? `, which asks to wait ${retryAfter} s` : "";
    const whole = `${what}${asks}${tries > 1 ? ` (${tries} tries)` : ""}`;
    return new ServerError({ where, what: whole, expected, got, hint: this.#hintFor(status) });
  }

  #hintFor(status: number | undefined): string | undefined {
    const { key } = this.#options.api;
    if (status === undefined)
      return "Is it there, and http.url its address? A slow one needs a higher http.timeout or a lower http.concurrency.";
    if (isNotOffered(status))
      return "The server is there and does not do this: http.url, or url, path and method in the file of http.api, say what is asked of it.";
    if (status === 429 || status >= 500)
      return "A service that is away, or allows fewer requests, needs a higher http.patience or a lower http.concurrency.";
    if (status >= 300 && status < 400)
      return "Redirections are not followed, as the key would go along: http.url, or url in the file of http.api, is the address itself.";
    if ([401, 402, 403].includes(status) && key !== undefined) return `The environment variable ${key} holds its key.`;
    if (status === 404) return "http.url, or url in the file of http.api, is the address.";
    return undefined;
  }
}
