/**
 * Asks an OpenAI-compatible server, or several that serve the same model, for chat completions, each with a time limit; `Remote` is how they are tried
 * again, `Balance` which server is asked. The key is sent and never shown. docs/endpoints.md says what becomes of each reply.
 */
import { ConfigError, ServerError, TooLongError } from "../util/errors.ts";
import type { TemplateVariables } from "../text/chat-template.ts";
import { writtenIn } from "../text/thinking.ts";
import { isNotOffered, quote, requestJson, type JsonAnswer, type JsonFailure } from "./http-json.ts";
import { Balance } from "./balance.ts";
import { tokenCounter } from "./estimate-tokens.ts";
import { Remote, type RemoteOptions } from "./remote.ts";
import { hider } from "./secret.ts";
import { serverUrl } from "./server-url.ts";

export type { Outage, Retry } from "./remote.ts";

export interface ChatClientOptions extends RemoteOptions {
  /** Base URL, such as `http://127.0.0.1:6001/v1`; or several. */
  readonly endpoint: string | readonly string[];
  /** Name of the model there; "" takes the only one there is. */
  readonly model: string;
  /** The section of the configuration that names it, for errors: "simulator" unless given. */
  readonly section?: string;
  readonly key?: string | undefined;
  /** Seconds after which a try is given up. */
  readonly timeout: number;
  /** Of several endpoints: told when one is away and others take its requests, and when it answers again. */
  readonly onAway?: (away: { readonly message: string }) => void;
  readonly onBack?: (back: { readonly endpoint: string }) => void;
}

export interface ChatMessageText {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface ChatCompletionRequest {
  readonly messages: readonly ChatMessageText[];
  readonly maxTokens: number;
  readonly temperature: number;
  /** 1 is off, and not sent. */
  readonly topP: number;
  /** 0 is off, and not sent: not every server knows it. */
  readonly topK: number;
  /** None where there are none. */
  readonly stop: string | readonly string[];
  /** Further variables of the server's chat template (`chat_template_kwargs`); not sent where there are none. */
  readonly templateVariables?: TemplateVariables | undefined;
  /** Servers that honour it repeat themselves. */
  readonly seed: number;
  /** 0 to 1, for the n-th wait: spreads the retries of many requests over time. */
  readonly jitter: (n: number) => number;
  readonly signal?: AbortSignal | undefined;
}

/** Since they were last taken. */
export interface ChatCounts {
  /** Answered. */
  readonly requests: number;
  /** Tries after a first that failed. */
  readonly retries: number;
  /** From first try to answer, waits included, over all answered requests. */
  readonly seconds: number;
  /** As the server counts them (`usage`), of every completion, those without a text too. */
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Estimated, of completions that it does not count: the texts of the messages, without what its template adds, and of the answer. */
  readonly estimatedPromptTokens: number;
  readonly estimatedCompletionTokens: number;
}

/** Tries of a request that is answered without a text: each has a seed of its own, as a server may repeat itself. */
const triesForText = 3;
const noTokens = { promptTokens: 0, completionTokens: 0, estimatedPromptTokens: 0, estimatedCompletionTokens: 0 };

export class ChatClient {
  readonly #options: ChatClientOptions;
  readonly #section: string;
  readonly #bases: readonly URL[];
  readonly #balance: Balance;
  readonly #remote: Remote;
  #model: string;
  readonly #hide: (text: string) => string;
  #tokens = noTokens;

  /** @throws ConfigError when the endpoint is no base URL. */
  constructor(options: ChatClientOptions) {
    this.#options = options;
    const { endpoint, concurrency, now, onAway, onBack } = options;
    this.#section = options.section ?? "simulator";
    this.#bases = baseUrls(typeof endpoint === "string" ? [endpoint] : endpoint, this.#section);
    this.#remote = new Remote({ ...options, concurrency: concurrency * this.#bases.length });
    this.#balance = new Balance(this.#bases, {
      concurrency,
      now,
      onAway: (message) => onAway?.({ message }),
      onBack: (server) => onBack?.({ endpoint: shown(server) }),
    });
    this.#model = options.model;
    this.#hide = hider(options.key);
  }

  /** What requests name: the configured model, or the only one there is. */
  get model(): string {
    return this.#model;
  }

  /**
   * Asks every server what it serves, once, before anything depends on it. A server that does not say is taken at its word.
   * @throws ServerError when one cannot be reached or refuses; ConfigError when one does not serve the model, or several and none is named.
   */
  async probe(): Promise<void> {
    for (const base of this.#bases) await this.#probe(base);
  }

  async #probe(base: URL): Promise<void> {
    const url = below(base, "models");
    const { timeout } = this.#options;
    const answer = await requestJson(url, { method: "GET", headers: this.#headers(), timeout, hide: this.#hide });
    if ("failure" in answer) {
      // Some servers offer completions only.
      if ([404, 405, 501].includes(answer.failure.status ?? 0)) return;
      throw this.#error(shown(url), answer.failure, 1, Infinity, false);
    }
    const models = (answer.value as { data?: unknown } | null)?.data;
    const names = Array.isArray(models) ? models.flatMap((one: unknown) => nameOf(one) ?? []) : [];
    if (names.length === 0 || names.includes(this.#model)) return;
    const listed = names.slice(0, 20).join(", ");
    if (this.#model === "" && names.length === 1) this.#model = names[0] as string;
    else
      throw new ConfigError({
        where: `${this.#section}.endpointModel`,
        what: this.#model === "" ? `names none of the models at ${shown(base)}` : `is not served at ${shown(base)}`,
        expected: `one of ${listed}${names.length > 20 ? ", ..." : ""}`,
        got: JSON.stringify(this.#model),
      });
  }

  /**
   * The text of one completion.
   * @throws TooLongError when the prompt is too long for the model's context; ServerError when the server refuses, answers nonsense, or has
   *   not answered in all its tries; the signal's reason when it fires.
   */
  async complete({ signal, jitter, seed, ...request }: ChatCompletionRequest): Promise<string> {
    const { timeout } = this.#options;
    const urls = this.#bases.map((base) => shown(below(base, "chat/completions")));
    const where = urls.length === 1 ? (urls[0] as string) : `${this.#section}.endpoint`;
    let textless = 0;
    return this.#remote.call({
      where,
      send: async () => {
        const body = this.#body({ ...request, seed: (seed + textless) % 2 ** 31 });
        const sent = { method: "POST", headers: this.#headers(), body, timeout, hide: this.#hide, signal } as const;
        const answer = await this.#balance.send(async (base) => {
          const url = below(base, "chat/completions");
          return saying(urls.length > 1 ? url : null, await requestJson(url, sent));
        }, signal);
        if ("failure" in answer) return answer;
        const written = textIn(answer.value);
        await this.#countTokens(answer.value, request.messages, written ?? "");
        if (written === null) return { failure: withoutText(answer.text, ++textless < triesForText, this.#section) };
        return { value: written };
      },
      jitter,
      error: (failure, { tries, left }) => this.#error(where, failure, tries, left),
      signal,
    });
  }

  /** What happened since the last call. */
  takeCounts(): ChatCounts {
    const { requests, retries, seconds } = this.#remote.takeCounts();
    const tokens = this.#tokens;
    this.#tokens = noTokens;
    return { requests, retries, seconds, ...tokens };
  }

  /** Requests that another endpoint took since the last call, as theirs was away. */
  takeMoved(): number {
    return this.#balance.takeMoved();
  }

  async #countTokens(value: unknown, messages: readonly ChatMessageText[], text: string): Promise<void> {
    const usage = (value as { usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null } | null)?.usage;
    const [prompt, completion] = [usage?.prompt_tokens, usage?.completion_tokens].map(countIn);
    const add = (more: Partial<typeof noTokens>): void => {
      const sum = { ...this.#tokens };
      for (const name of Object.keys(noTokens) as (keyof typeof noTokens)[]) sum[name] += more[name] ?? 0;
      this.#tokens = sum;
    };
    if (prompt !== undefined) add({ promptTokens: prompt });
    if (completion !== undefined) add({ completionTokens: completion });
    if (prompt !== undefined && completion !== undefined) return;
    const count = await tokenCounter();
    if (prompt === undefined) add({ estimatedPromptTokens: messages.reduce((sum, { content }) => sum + count(content), 0) });
    if (completion === undefined) add({ estimatedCompletionTokens: count(text) });
  }

  #body(request: Omit<ChatCompletionRequest, "signal" | "jitter">): object {
    const { messages, maxTokens, temperature, topP, topK, stop, seed, templateVariables = {} } = request;
    return {
      model: this.#model,
      messages,
      max_tokens: maxTokens,
      temperature,
      ...(topP === 1 ? {} : { top_p: topP }),
      ...(topK === 0 ? {} : { top_k: topK }),
      ...(stop.length === 0 ? {} : { stop: typeof stop === "string" ? [stop] : stop }),
      seed,
      ...(Object.keys(templateVariables).length === 0 ? {} : { chat_template_kwargs: templateVariables }),
    };
  }

  #headers(): Record<string, string> {
    const { key } = this.#options;
    return key === undefined ? {} : { authorization: `Bearer ${key}` };
  }

  /** `left`: seconds of patience. */
  #error(where: string, failure: JsonFailure, tries: number, left: number, waits = true): ServerError | TooLongError {
    const { what, status, retryAfter = 0, expected, got, hint } = failure;
    const asks = retryAfter > Math.max(0, left) ? `, which asks to wait ${retryAfter} s` : "";
    const complaint = { where, what: `${what}${asks}${tries > 1 ? ` (${tries} tries)` : ""}`, expected, got };
    if (isTooLong(failure)) return new TooLongError({ ...complaint, hint: tooLongHint(this.#section) });
    return new ServerError({ ...complaint, hint: hint ?? hintFor(status, waits, this.#section) });
  }
}

const tooLongHint = (section: string): string =>
  `The prompt${section === "simulator" ? " (question, answer and the policy's query)" : ""} and ${section}.maxNewTokens must fit the context that the server runs its model with.`;

/** Whether a server says that a request does not fit its model's context: the same request never will. */
function isTooLong({ status, what }: JsonFailure): boolean {
  return (
    (status === 400 || status === 413 || status === 422) &&
    /context.?(length|size|window)|maximum (model|context|input)? ?length|max_model_len|(prompt|input|request) (is|was) too long|too many tokens/i.test(
      what,
    )
  );
}

/** `waits`: whether such a request is tried again. */
function hintFor(status: number | undefined, waits: boolean, section: string): string | undefined {
  const away = waits
    ? `one that is away for longer needs a higher ${section}.endpointPatience`
    : "at the start of a run it must be there, later it is waited for";
  if (status === undefined)
    return `Is the server running, and ${section}.endpoint its base URL? A slow one needs a higher ${section}.endpointTimeout or a lower ${section}.endpointConcurrency; ${away}.`;
  if (isNotOffered(status))
    return `The server is there and does not do this: ${section}.endpoint is the base URL of one that offers chat completions.`;
  if (status === 429 || status >= 500)
    return waits ? `A server is waited for: ${away}.` : `${away[0]?.toUpperCase() ?? ""}${away.slice(1)}.`;
  if (status === 401 || status === 403) return `${section}.endpointKey names the environment variable that holds its key.`;
  if (status === 200 || status === 404)
    return `${section}.endpoint is the base URL, such as http://127.0.0.1:6001/v1, and ${section}.endpointModel a model that is served there.`;
  return undefined;
}

/** The text of a completion; null where there is none. */
function textIn(value: unknown): string | null {
  const { choices } = (value ?? {}) as { choices?: unknown };
  const first = (Array.isArray(choices) ? choices[0] : undefined) as { message?: unknown } | null | undefined;
  const content = writtenIn(first?.message);
  return typeof content === "string" ? content : null;
}

function withoutText(whole: string, passing: boolean, section: string): JsonFailure {
  return {
    what: "an answer without a text",
    expected: "choices[0].message.content",
    got: quote(whole),
    hint: `Models that think before they answer may spend ${section}.maxNewTokens on it.`,
    passing,
    status: 200,
  };
}

/** A server's count; undefined where it is none. */
function countIn(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function nameOf(model: unknown): string | undefined {
  const id = (model as { id?: unknown } | null)?.id;
  return typeof id === "string" ? id : undefined;
}

function below(base: URL, path: string): URL {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/${path}`;
  return url;
}

/** A failure that says whose it is, where there are several. */
function saying(url: URL | null, answer: JsonAnswer): JsonAnswer {
  if (url === null || !("failure" in answer)) return answer;
  return { failure: { ...answer.failure, what: `${shown(url)}: ${answer.failure.what}` } };
}

/** Without what may hold a secret. */
function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

function baseUrls(texts: readonly string[], section: string): URL[] {
  const urls = texts.map((text) => baseUrl(text, section));
  const places = urls.map((url) => url.href.replace(/\/+$/, ""));
  const twice = urls.find((_, i) => places.indexOf(places[i] as string) < i);
  if (twice === undefined) return urls;
  throw new ConfigError({ where: `${section}.endpoint`, what: "names one server twice", expected: "different ones", got: shown(twice) });
}

function baseUrl(text: string, section: string): URL {
  const [where, expected] = [`${section}.endpoint`, "a base URL such as http://127.0.0.1:6001/v1"];
  const url = serverUrl(where, text, expected, `of ${section}.endpointKey`);
  if (/\/(chat\/)?completions\/*$/.test(url.pathname))
    throw new ConfigError({ where, what: "is the address of one method", expected, got: JSON.stringify(shown(url)) });
  return url;
}
