/** Embeddings by a server with OpenAI's `/embeddings` (vLLM, llama.cpp, a service): batches of texts, tried again while the server is away. */
import { DataError, RequestError, ServerError, show } from "../../util/errors.ts";
import { philox, streamKey, uniform } from "../../util/philox.ts";
import { quote, requestJson, type JsonFailure } from "../http-json.ts";
import { wellFormed } from "../http-request.ts";
import { ofOneRequest, Remote, type RemoteOptions, type Tried } from "../remote.ts";
import { hider } from "../secret.ts";
import { promptText } from "../../text/prompt.ts";
import { cutText, putText, unitVector, type Embedder, type EmbedderAbout, type Embeddings, type TextKind } from "./embedder.ts";

export interface EndpointEmbedderOptions extends RemoteOptions {
  /** Base URL. */
  readonly endpoint: URL;
  readonly model: string;
  readonly key?: string | undefined;
  readonly encoding: "float" | "base64";
  /** Texts of a request. */
  readonly batch: number;
  /** Seconds after which a try is given up. */
  readonly timeout: number;
  readonly about: EmbedderAbout;
  readonly instruction: string;
  readonly seed: number;
}

/** In what is told behind its address. */
const server = "the server";
/** Its tokenizer is not known: of a text so many characters a token are sent. */
const CHARACTERS = 4;

interface Answer {
  readonly vectors: readonly Float32Array[];
  readonly tokens: number;
}

export class EndpointEmbedder implements Embedder {
  readonly about: EmbedderAbout;
  readonly #options: EndpointEmbedderOptions;
  readonly #remote: Remote;
  readonly #url: URL;
  readonly #hide: (text: string) => string;
  /** Numbers of every embedding, once one is known. */
  #width: number | null = null;
  #asked = 0;
  #tokens = 0;

  constructor(options: EndpointEmbedderOptions) {
    this.about = options.about;
    this.#options = options;
    this.#remote = new Remote(options);
    this.#url = new URL(options.endpoint);
    this.#url.pathname = `${this.#url.pathname.replace(/\/+$/, "")}/embeddings`;
    this.#hide = hider(options.key);
  }

  async embed(texts: readonly string[], kind: TextKind, signal?: AbortSignal): Promise<Embeddings> {
    const { about, instruction, batch } = this.#options;
    const room = CHARACTERS * about.maxTokens;
    const inputs = texts.map((text) => promptText(putText(about.form, instruction, kind, wellFormed(cutText(text, room)))));
    // What fails gives the others up.
    const failed = new AbortController();
    const limit = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
    const parts: Promise<Answer>[] = [];
    for (let from = 0; from < inputs.length; from += batch) parts.push(this.#ask(inputs.slice(from, from + batch), limit));
    try {
      const answers = await Promise.all(parts);
      const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0);
      return { vectors: answers.flatMap(({ vectors }) => vectors), truncated: texts.filter(({ length }) => length > room).length, tokens };
    } catch (error) {
      failed.abort(error);
      await Promise.allSettled(parts);
      throw error;
    }
  }

  takeCounts(): Readonly<Record<string, number>> {
    const counts = Object.entries(this.#remote.takeCounts()).map(([name, count]) => [`dense_${name}`, count] as const);
    const tokens = this.#tokens;
    this.#tokens = 0;
    return Object.fromEntries([...counts, ["dense_tokens", tokens] as const]);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #ask(input: readonly string[], signal: AbortSignal): Promise<Answer> {
    const { model, key, encoding, timeout, seed } = this.#options;
    const where = `${this.#url.origin}${this.#url.pathname}`;
    // A stream of this request alone, for the waits.
    const stream = philox(streamKey(seed, "engineWait"), [this.#asked++, 0, 0, 0]);
    const answer = await this.#remote.call<Answer>({
      where,
      send: async () => {
        const sent = await requestJson(this.#url, {
          method: "POST",
          headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
          body: { model, input, encoding_format: encoding },
          timeout,
          hide: this.#hide,
          signal,
        });
        return "failure" in sent ? sent : this.#read(sent, input.length);
      },
      jitter: (n) => uniform([stream[0], stream[1]], [n, 0, 0, 0]),
      error: (failure, tried) => this.#error(where, failure, tried),
      signal,
    });
    this.#tokens += answer.tokens;
    return answer;
  }

  #read({ value, text }: { readonly value: unknown; readonly text: string }, count: number) {
    const { data, usage } = (value ?? {}) as { data?: unknown; usage?: { prompt_tokens?: unknown; total_tokens?: unknown } | null };
    const wrong = (what: string, expected: string, got: string): { failure: JsonFailure } => ({
      failure: { what, expected, got, passing: false, status: 200 },
    });
    if (!Array.isArray(data)) return wrong("an answer without embeddings", "data, a list of {embedding, index}", quote(text));
    if (data.length !== count) return wrong("another number of embeddings than of texts", String(count), String(data.length));
    const vectors = new Array<Float32Array | undefined>(count).fill(undefined);
    for (const [place, one] of (data as unknown[]).entries()) {
      const { embedding, index = place } = (one ?? {}) as { embedding?: unknown; index?: unknown };
      // Their order is that of `index`, whatever that of the list.
      if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= count || vectors[index] !== undefined)
        return wrong(`data[${place}].index is wrong`, `each of 0 to ${count - 1} once`, show(index));
      const numbers = numbersIn(embedding);
      if (numbers === null) return wrong(`data[${place}].embedding is no vector`, "numbers, or Base64 of 32-bit floats", show(embedding));
      const width = (this.#width ??= numbers.length);
      if (numbers.length !== width) return wrong(`data[${place}].embedding has another length`, String(width), String(numbers.length));
      try {
        vectors[index] = unitVector(numbers, this.about.dimensions, server);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        const { where, what, expected = "", got = "" } = error.complaint;
        return wrong(where === server ? what : `${where}: ${what}`, expected, got);
      }
    }
    const tokens = usage?.prompt_tokens ?? usage?.total_tokens;
    return { value: { vectors: vectors as Float32Array[], tokens: typeof tokens === "number" && tokens > 0 ? tokens : 0 } };
  }

  #error(where: string, { what, status, retryAfter = 0, expected, got }: JsonFailure, { tries, left }: Tried): ServerError | RequestError {
    const asks = retryAfter > Math.max(0, left) ? `, which asks to wait ${retryAfter} s` : "";
    const complaint = { where, what: `${what}${asks}${tries > 1 ? ` (${tries} tries)` : ""}`, expected, got };
    if (status !== undefined && ofOneRequest.includes(status))
      return new RequestError({ ...complaint, hint: "Where a text is too long for its model, a lower dense.maxTokens cuts it." });
    return new ServerError({ ...complaint, hint: hintFor(status) });
  }
}

function hintFor(status: number | undefined): string | undefined {
  if (status === undefined)
    return "Is the server running, and dense.endpoint its base URL? A slow one needs a higher dense.endpointTimeout or a lower dense.endpointConcurrency.";
  if (status === 429 || status >= 500)
    return "A server that is away, or allows fewer requests, needs a higher dense.endpointPatience or a lower dense.endpointConcurrency.";
  if (status === 401 || status === 403) return "dense.endpointKey names the environment variable that holds its key.";
  if (status === 200 || status === 404)
    return "dense.endpoint is the base URL, such as http://127.0.0.1:8000/v1, and dense.endpointModel a model that is served there.";
  return undefined;
}

/** Numbers as `float` or `base64` (32-bit floats, little-endian) writes them; null where they are none. */
function numbersIn(embedding: unknown): ArrayLike<number> | null {
  if (typeof embedding === "string") {
    const bytes = Buffer.from(embedding, "base64");
    if (bytes.length === 0 || bytes.length % 4 !== 0) return null;
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  }
  if (!Array.isArray(embedding) || embedding.length === 0) return null;
  return embedding.every((one) => typeof one === "number" && Number.isFinite(one)) ? (embedding as number[]) : null;
}
