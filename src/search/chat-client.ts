/**
 * Asks an OpenAI-compatible server for chat completions: so many requests at a time, each with a time limit, and tried again at growing
 * intervals while the server is away, for a bounded time: a server may be restarted. Every request and every retry is counted; the key is
 * sent and never shown. docs/endpoints.md says what becomes of each reply.
 */
import { ConfigError, ServerError, TooLongError } from "../util/errors.ts";
import { sleep } from "../util/abort.ts";
import type { TemplateVariables } from "../text/chat-template.ts";
import { writtenIn } from "../text/thinking.ts";
import { quote, requestJson, type JsonFailure } from "./http-json.ts";
import { Slots } from "../util/slots.ts";

export interface ChatClientOptions {
  /** Base URL, such as `http://127.0.0.1:6001/v1`. */
  readonly endpoint: string;
  /** Name of the model there; "" takes the only one there is. */
  readonly model: string;
  readonly key?: string | undefined;
  /** Requests under way at a time. */
  readonly concurrency: number;
  /** Seconds after which a try is given up. */
  readonly timeout: number;
  /** Seconds after its first failure in which a request is tried again, the last time when they are over. */
  readonly patience: number;
  /** Milliseconds of a steady clock. */
  readonly now: () => number;
  /** Waits; a test's own. */
  readonly wait?: typeof sleep;
  /** Told of every retry before its wait. */
  readonly onRetry?: (retry: Retry) => void;
  /** Told when waiting for the server starts. Of outages that a few retries mend, the 1st, 2nd, 4th, 8th ... */
  readonly onOutage?: (outage: { readonly message: string }) => void;
  /** Told when the server answers again after an outage that was told of. */
  readonly onAnswer?: (outage: Outage) => void;
  /** Seconds before the first retry, on average; doubled for each one after. 0.5 unless given. */
  readonly firstWait?: number;
}

export interface Retry {
  /** What went wrong, and where. */
  readonly message: string;
  /** Tries so far. */
  readonly tries: number;
  /** Seconds until the next. */
  readonly wait: number;
}

/** A time in which the server was away. */
export interface Outage {
  readonly seconds: number;
  /** Tries again, over all requests. */
  readonly retries: number;
}

export interface ChatMessageText {
  readonly role: "system" | "user";
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
  readonly stop: string;
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
  /** As the server counts them; 0 where it does not. */
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** The longest wait of ours, on average; a server may ask for a longer one. Seconds. */
const longestWait = 30;
/** Tries of a request that is answered without a text: each has a seed of its own, as a server may repeat itself. */
const triesForText = 3;
/** Tries of one request after which an outage is told of in any case. */
const manyTries = 4;
const noCounts: ChatCounts = { requests: 0, retries: 0, seconds: 0, promptTokens: 0, completionTokens: 0 };

export class ChatClient {
  readonly #options: ChatClientOptions;
  readonly #base: URL;
  readonly #slots: Slots;
  #model: string;
  #counts: ChatCounts = noCounts;
  #outage: { readonly from: number; retries: number; told: boolean } | null = null;
  #outages = 0;
  /** When the newest outage ended. */
  #ended = -Infinity;

  /** @throws ConfigError when the endpoint is no base URL. */
  constructor(options: ChatClientOptions) {
    this.#options = options;
    this.#base = baseUrl(options.endpoint);
    this.#slots = new Slots(options.concurrency);
    this.#model = options.model;
  }

  /** What requests name: the configured model, or the only one there is. */
  get model(): string {
    return this.#model;
  }

  /**
   * Asks the server what it serves, once, before anything depends on it. A server that does not say is taken at its word.
   * @throws ServerError when it cannot be reached or refuses; ConfigError when it does not serve the model, or several and none is named.
   */
  async probe(): Promise<void> {
    const url = this.#url("models");
    const { timeout } = this.#options;
    const answer = await requestJson(url, { method: "GET", headers: this.#headers(), timeout });
    if ("failure" in answer) {
      // Some servers offer completions only.
      if ([404, 405, 501].includes(answer.failure.status ?? 0)) return;
      throw this.#error(url, answer.failure, 1, Infinity, false);
    }
    const models = (answer.value as { data?: unknown } | null)?.data;
    const names = Array.isArray(models) ? models.flatMap((one: unknown) => nameOf(one) ?? []) : [];
    if (names.length === 0 || names.includes(this.#model)) return;
    const listed = names.slice(0, 20).join(", ");
    if (this.#model === "" && names.length === 1) this.#model = names[0] as string;
    else
      throw new ConfigError({
        where: "simulator.endpointModel",
        what: this.#model === "" ? `names none of the models at ${shown(this.#base)}` : `is not served at ${shown(this.#base)}`,
        expected: `one of ${listed}${names.length > 20 ? ", ..." : ""}`,
        got: JSON.stringify(this.#model),
      });
  }

  /**
   * The text of one completion.
   * @throws TooLongError when the prompt is too long for the model's context; ServerError when the server refuses, answers nonsense, or has
   *   not answered in all its tries; the signal's reason when it fires.
   */
  complete(request: ChatCompletionRequest): Promise<string> {
    return this.#slots.run(() => this.#complete(request), request.signal);
  }

  /** What happened since the last call. */
  takeCounts(): ChatCounts {
    const counts = this.#counts;
    this.#counts = noCounts;
    return counts;
  }

  async #complete({ signal, jitter, seed, ...request }: ChatCompletionRequest): Promise<string> {
    const { timeout, patience, now, wait: pause = sleep, onRetry, firstWait = 0.5 } = this.#options;
    const url = this.#url("chat/completions");
    const from = now();
    let failing: number | null = null;
    let textless = 0;
    for (let tries = 1; ; tries++) {
      const sent = now();
      const body = this.#body({ ...request, seed: (seed + textless) % 2 ** 31 });
      const answer = await requestJson(url, { method: "POST", headers: this.#headers(), body, timeout, signal });
      const text = "failure" in answer ? null : textIn(answer.value);
      if (text !== null) {
        this.#answered((answer as { readonly value: unknown }).value, sent, from);
        return text;
      }
      const failure = "failure" in answer ? answer.failure : withoutText(answer.text, ++textless < triesForText);
      failing ??= now();
      const left = patience - (now() - failing) / 1000;
      const asked = failure.retryAfter ?? 0;
      if (!failure.passing || left <= 0 || asked > left) throw this.#error(url, failure, tries, left);
      // Never before the server asked for, and once more when patience ends.
      const own = Math.min(longestWait, firstWait * 2 ** (tries - 1)) * (0.5 + jitter(tries));
      const wait = Math.min(left, Math.max(asked, own));
      const message = `${shown(url)}: ${this.#hide(failure.what)}`;
      this.#count({ retries: 1 });
      this.#away(message, tries, sent);
      onRetry?.({ message, tries, wait });
      await pause(wait, signal);
    }
  }

  /** Notes that a request, last sent at `sent`, is to be tried again after so many tries. */
  #away(message: string, tries: number, sent: number): void {
    // What failed on its way while the server came back tells of no new outage.
    if (this.#outage === null && sent < this.#ended) return;
    this.#outage ??= { from: this.#options.now(), retries: 0, told: false };
    const outage = this.#outage;
    if (outage.retries++ === 0) this.#outages++;
    if (outage.told || !(tries >= manyTries || (outage.retries === 1 && (this.#outages & (this.#outages - 1)) === 0))) return;
    outage.told = true;
    this.#options.onOutage?.({ message });
  }

  /** Notes an answer to what was asked first at `from` and last at `sent`, and that an outage which began before that is over. */
  #answered(value: unknown, sent: number, from: number): void {
    const { now, onAnswer } = this.#options;
    const usage = (value as { usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null } | null)?.usage;
    const tokens = (count: unknown): number => (typeof count === "number" ? count : 0);
    this.#count({
      requests: 1,
      seconds: (now() - from) / 1000,
      promptTokens: tokens(usage?.prompt_tokens),
      completionTokens: tokens(usage?.completion_tokens),
    });
    const outage = this.#outage;
    if (outage === null || sent < outage.from) return;
    this.#outage = null;
    this.#ended = now();
    if (outage.told) onAnswer?.({ seconds: (now() - outage.from) / 1000, retries: outage.retries });
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
      stop: [stop],
      seed,
      ...(Object.keys(templateVariables).length === 0 ? {} : { chat_template_kwargs: templateVariables }),
    };
  }

  #count(more: Partial<ChatCounts>): void {
    const sum = { ...this.#counts };
    for (const name of Object.keys(noCounts) as (keyof ChatCounts)[]) sum[name] += more[name] ?? 0;
    this.#counts = sum;
  }

  #headers(): Record<string, string> {
    const { key } = this.#options;
    return key === undefined ? {} : { authorization: `Bearer ${key}` };
  }

  #url(path: string): URL {
    const url = new URL(this.#base);
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/${path}`;
    return url;
  }

  /** A server may repeat the key in its message. */
  #hide(text: string): string {
    const { key } = this.#options;
    return key === undefined || key === "" ? text : text.replaceAll(key, "[key]");
  }

  /** `left`: seconds of patience. */
  #error(url: URL, failure: JsonFailure, tries: number, left: number, waits = true): ServerError | TooLongError {
    const { what, status, retryAfter = 0, expected, got, hint } = failure;
    const asks = retryAfter > Math.max(0, left) ? `, which asks to wait ${retryAfter} s` : "";
    const complaint = {
      where: shown(url),
      what: `${this.#hide(what)}${asks}${tries > 1 ? ` (${tries} tries)` : ""}`,
      expected,
      got: got === undefined ? undefined : this.#hide(got),
    };
    if (isTooLong(failure)) return new TooLongError({ ...complaint, hint: tooLongHint });
    return new ServerError({ ...complaint, hint: hint ?? hintFor(status, waits) });
  }
}

const tooLongHint =
  "The prompt (question, answer and the policy's query) and simulator.maxNewTokens must fit the context that the server runs its model with.";

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
function hintFor(status: number | undefined, waits: boolean): string | undefined {
  const away = waits
    ? "one that is away for longer needs a higher simulator.endpointPatience"
    : "at the start of a run it must be there, later it is waited for";
  if (status === undefined)
    return `Is the server running, and simulator.endpoint its base URL? A slow one needs a higher simulator.endpointTimeout or a lower simulator.endpointConcurrency; ${away}.`;
  if (status === 429 || status >= 500)
    return waits ? `A server is waited for: ${away}.` : `${away[0]?.toUpperCase() ?? ""}${away.slice(1)}.`;
  if (status === 401 || status === 403) return "simulator.endpointKey names the environment variable that holds its key.";
  if (status === 200 || status === 404)
    return "simulator.endpoint is the base URL, such as http://127.0.0.1:6001/v1, and simulator.endpointModel a model that is served there.";
  return undefined;
}

/** The text of a completion; null where there is none. */
function textIn(value: unknown): string | null {
  const { choices } = (value ?? {}) as { choices?: unknown };
  const first = (Array.isArray(choices) ? choices[0] : undefined) as { message?: unknown } | null | undefined;
  const content = writtenIn(first?.message);
  return typeof content === "string" ? content : null;
}

function withoutText(whole: string, passing: boolean): JsonFailure {
  return {
    what: "an answer without a text",
    expected: "choices[0].message.content",
    got: quote(whole),
    hint: "Models that think before they answer may spend simulator.maxNewTokens on it.",
    passing,
    status: 200,
  };
}

function nameOf(model: unknown): string | undefined {
  const id = (model as { id?: unknown } | null)?.id;
  return typeof id === "string" ? id : undefined;
}

/** Without what may hold a secret. */
function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

function baseUrl(text: string): URL {
  const fault = (what: string, got?: string): ConfigError =>
    new ConfigError({ where: "simulator.endpoint", what, expected: "a base URL such as http://127.0.0.1:6001/v1", got });
  if (!URL.canParse(text)) throw fault("is no URL", JSON.stringify(text));
  const url = new URL(text);
  // Shown by nobody: it may be a secret.
  if (url.username !== "" || url.password !== "")
    throw fault("holds a user or a password: a key goes into the variable of simulator.endpointKey");
  if (url.protocol !== "http:" && url.protocol !== "https:") throw fault("is not http or https", url.protocol);
  if (/\/(chat\/)?completions\/*$/.test(url.pathname)) throw fault("is the address of one method", JSON.stringify(shown(url)));
  return url;
}
