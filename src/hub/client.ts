/**
 * Requests to the Hub. The access token goes to the Hub's own origin and nowhere else, whatever redirects and links say; every request
 * has an end: answers that stop coming are given up, and what can pass is tried again a few times, at growing intervals.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { HubSettings } from "./settings.ts";

/** How long is waited. Milliseconds. */
export interface Patience {
  /** Without a byte for so long, a request is given up. */
  readonly stall: number;
  /** Before each further try; as many tries as there are waits. */
  readonly waits: readonly number[];
}

export const patience: Patience = { stall: 30_000, waits: [1000, 2000, 4000, 8000, 16_000] };

/** The Hub, or what stands before it, answered with an error. */
export class HubStatusError extends Error {
  readonly status: number;
  /** The Hub's own name for the fault: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound. */
  readonly code: string | null;
  /** What the server said, in one line, fit to be printed. */
  readonly said: string;
  readonly retryAfter: number | null;
  constructor(url: string, response: Response, said: string) {
    super(`${url} answered ${response.status}${said === "" ? "" : `: ${said}`}`);
    this.status = response.status;
    this.code = response.headers.get("x-error-code");
    this.said = said;
    const seconds = Number(response.headers.get("retry-after") ?? NaN);
    this.retryAfter = Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 120) * 1000 : null;
  }
}

/** No answer, or one that stopped. */
export class HubConnectionError extends Error {
  /** Whether the first word already failed: no network, no such server. */
  readonly unreachable: boolean;
  constructor(message: string, unreachable: boolean, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.unreachable = unreachable;
  }
}

/** What came is not what the Hub sends: a login page, an answer that is too long. */
export class HubAnswerError extends Error {}

const REDIRECTS = 8;
/** The longest answer that is read whole: bytes. */
const LONGEST = 64 * 2 ** 20;
/** The most pages of a list: 200,000 files. */
const PAGES = 200;

export interface HubClientOptions {
  readonly patience?: Patience | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of every further try. */
  readonly onNote?: ((note: string) => void) | undefined;
}

export class HubClient {
  readonly #settings: HubSettings;
  readonly #origin: string;
  readonly #patience: Patience;
  readonly #signal: AbortSignal | undefined;
  readonly #note: (note: string) => void;

  constructor(settings: HubSettings, options: HubClientOptions = {}) {
    this.#settings = settings;
    this.#origin = new URL(settings.endpoint).origin;
    this.#patience = options.patience ?? patience;
    this.#signal = options.signal;
    this.#note = options.onNote ?? (() => undefined);
  }

  /**
   * `fetch` for @huggingface/hub, for its GET requests that answer in JSON. The library is given no token: it would send it along to
   * wherever a Link header points, and takes none that does not start with hf_, as those of a company's own mirror.
   */
  readonly json: typeof fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : input;
    return this.retry(`asking ${shown(url)}`, async () => {
      const headers = new Headers(init?.headers);
      headers.delete("range");
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      const response = await this.read(url, headers, async (chunk) => {
        bytes += chunk.length;
        if (bytes > LONGEST) throw new HubAnswerError(`${shown(url)} answered with more than ${LONGEST} bytes`);
        chunks.push(chunk);
      });
      const text = Buffer.concat(chunks).toString("utf8");
      try {
        JSON.parse(text);
      } catch (cause) {
        const said = JSON.stringify(this.#printable(text).slice(0, 80));
        throw new HubAnswerError(`${shown(url)} did not answer with JSON, but ${said}`, { cause });
      }
      return new Response(text, { status: response.status, headers: response.headers });
    });
  };

  /** `json` for one list in pages: an end is certain, whatever the pages say of the next one. Each list needs its own. */
  pages(): typeof fetch {
    const asked = new Set<string>();
    return async (input, init) => {
      const url = input instanceof Request ? input.url : String(input);
      if (asked.has(url)) throw new HubAnswerError(`${shown(url)} answers with a list of files whose next page is one of those before it`);
      if (asked.size === PAGES) throw new HubAnswerError(`${shown(url)} answers with a list of files of more than ${PAGES} pages`);
      asked.add(url);
      return this.json(input, init);
    };
  }

  /**
   * One GET request, redirects followed: `onStart` sees the answer's head, `onChunk` its body piece by piece.
   * @throws HubStatusError, HubConnectionError, HubAnswerError, and whatever the two throw.
   */
  async read(
    url: string | URL,
    headers: Headers,
    onChunk: (chunk: Uint8Array) => Promise<void>,
    onStart: (response: Response) => Promise<void> = () => Promise.resolve(),
  ): Promise<Response> {
    const signal = this.#signal;
    signal?.throwIfAborted();
    const { stall } = this.#patience;
    // Waiting ends by this promise: fetch itself may lose sight of a signal while the body is read (garbage collection in Node 20).
    let giveUp: (reason: unknown) => void = () => undefined;
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = reject;
    });
    givenUp.catch(() => undefined);
    const onAbort = (): void => giveUp(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    let begun = false;
    const timer = setTimeout(() => giveUp(new HubConnectionError(`nothing came for ${stall / 1000} s`, !begun)), stall);
    const guard = async <T>(act: Promise<T>): Promise<T> => {
      try {
        return await Promise.race([act, givenUp]);
      } catch (cause) {
        signal?.throwIfAborted();
        throw cause instanceof HubConnectionError ? cause : connectionError(cause, begun);
      }
    };
    const connection = new AbortController();
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    try {
      const response = await this.#follow(url, headers, connection.signal, guard);
      begun = true;
      timer.refresh();
      if (!response.ok) throw new HubStatusError(shown(url), response, await guard(this.#whatItSays(response)));
      await onStart(response);
      reader = response.body?.getReader();
      for (;;) {
        const piece = reader === undefined ? undefined : await guard(reader.read());
        if (piece?.value === undefined) return response;
        timer.refresh();
        await onChunk(piece.value);
        timer.refresh();
      }
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      // Ends what was not read to its end, and its connection.
      reader?.cancel().catch(() => undefined);
      connection.abort();
    }
  }

  /** Does it again where the fault may pass; `waits` of the patience are the bound. */
  async retry<T>(what: string, act: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        return await act();
      } catch (error) {
        // A server that cannot be reached at all is no passing fault: most often there is no network.
        if (error instanceof HubConnectionError && error.unreachable && isLasting(error)) throw error;
        await this.waitFor(error, tries, what);
      }
    }
  }

  /** Waits before the next try. @throws the error itself where it will not pass, or the tries are used up. */
  async waitFor(error: unknown, tries: number, what: string): Promise<void> {
    const wait = this.#patience.waits[tries];
    if (wait === undefined || !mayPass(error)) throw error;
    const time = Math.max(wait, error instanceof HubStatusError ? (error.retryAfter ?? 0) : 0);
    this.#note(`${what}: ${(error as Error).message}; again in ${time / 1000} s (${tries + 1} of ${this.#patience.waits.length})`);
    await sleep(time, undefined, this.#signal === undefined ? {} : { signal: this.#signal });
  }

  async #follow(from: string | URL, asked: Headers, signal: AbortSignal, guard: <T>(act: Promise<T>) => Promise<T>): Promise<Response> {
    let url = new URL(from);
    for (let hop = 0; hop <= REDIRECTS; hop++) {
      const headers = new Headers(asked);
      headers.delete("authorization");
      headers.set("user-agent", "zerosearch");
      const { token } = this.#settings;
      if (token !== null && url.origin === this.#origin) headers.set("authorization", token.header());
      const response = await guard(fetch(url, { headers, redirect: "manual", signal }));
      const location = [301, 302, 303, 307, 308].includes(response.status) ? response.headers.get("location") : null;
      if (location === null) return response;
      await response.body?.cancel();
      try {
        url = new URL(location, url);
      } catch (cause) {
        throw new HubAnswerError(`${shown(url)} redirects to what is no address`, { cause });
      }
      if (url.protocol !== "https:" && url.protocol !== "http:")
        throw new HubAnswerError(`${shown(from)} redirects to a ${url.protocol} address`);
    }
    throw new HubAnswerError(`${shown(from)} redirects more than ${REDIRECTS} times`);
  }

  async #whatItSays(response: Response): Promise<string> {
    const header = response.headers.get("x-error-message");
    const text = header ?? (await response.text());
    if (header === null && !text.trimStart().startsWith("{")) return "";
    let said: unknown = header;
    try {
      said ??= (JSON.parse(text) as { readonly error?: unknown }).error;
    } catch {
      return "";
    }
    return typeof said === "string" ? this.#printable(said).slice(0, 200) : "";
  }

  /** In one line, without what would move a terminal's cursor, and without the token, should a server send it back. */
  #printable(text: string): string {
    const plain = text
      .replaceAll(/[\x00-\x1f\x7f-\x9f]+/g, " ")
      .replaceAll(/\s+/g, " ")
      .trim();
    return this.#settings.token?.redact(plain) ?? plain;
  }
}

/** An address as it may be printed: without its query, which on a content server is itself a key. */
export function shown(url: string | URL): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

/** Whether another try can end otherwise. */
export function mayPass(error: unknown): boolean {
  if (error instanceof HubStatusError) return [408, 425, 429, 500, 502, 503, 504].includes(error.status);
  return error instanceof HubConnectionError;
}

/** No network, no server there, one that this machine does not trust, or an address that is not asked at all. */
function isLasting(error: HubConnectionError): boolean {
  const code = codeOf(error.cause);
  return (
    error.cause !== undefined &&
    (code === undefined || /^(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|.*CERT.*|ERR_TLS.*)$/.test(code))
  );
}

function connectionError(cause: unknown, begun: boolean): HubConnectionError {
  const code = codeOf(cause);
  const words: Readonly<Record<string, string>> = {
    ENOTFOUND: "its name is not known here (no network?)",
    EAI_AGAIN: "its name cannot be looked up (no network?)",
    ECONNREFUSED: "the connection is refused",
    ENETUNREACH: "there is no way there (no network?)",
    EHOSTUNREACH: "there is no way there (no network?)",
    ECONNRESET: "the connection was cut",
    UND_ERR_SOCKET: "the connection was cut",
    UND_ERR_CONNECT_TIMEOUT: "no connection came about in time",
  };
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const text = words[code ?? ""] ?? (begun ? "the connection was cut" : inner instanceof Error ? inner.message : String(inner));
  return new HubConnectionError(code === undefined ? text : `${text} (${code})`, !begun, cause);
}

/** The system's code of a failed fetch, which stands on one of its causes. */
function codeOf(error: unknown): string | undefined {
  for (let inner: unknown = error, depth = 0; inner instanceof Error && depth < 4; inner = inner.cause, depth++) {
    if ("code" in inner && typeof inner.code === "string") return inner.code;
    // Several addresses were tried.
    if (inner instanceof AggregateError) return codeOf(inner.errors[0]);
  }
  return undefined;
}
