/**
 * Asks an OpenAI-compatible server for chat completions: so many requests at a time, each with a time limit and a bounded number of
 * tries at growing intervals. Every request and every retry is counted; the key is sent and never shown.
 */
import { ConfigError, ServerError } from "../util/errors.ts";
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
  /** Tries after the first. */
  readonly retries: number;
  /** Milliseconds of a steady clock, for the counts only. */
  readonly now: () => number;
  /** Told of every retry before its wait. */
  readonly onRetry?: (retry: Retry) => void;
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

/** The longest wait of ours. A server may ask for one up to `longestAskedWait`. Seconds. */
const longestWait = 30;
const longestAskedWait = 300;
const noCounts: ChatCounts = { requests: 0, retries: 0, seconds: 0, promptTokens: 0, completionTokens: 0 };

export class ChatClient {
  readonly #options: ChatClientOptions;
  readonly #base: URL;
  readonly #slots: Slots;
  #model: string;
  #counts: ChatCounts = noCounts;

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
      throw this.#error(url, answer.failure, 1);
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
   * @throws ServerError when the server refuses, answers nonsense, or has not answered in all its tries; the signal's reason when it fires.
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

  async #complete({ signal, jitter, ...request }: ChatCompletionRequest): Promise<string> {
    const { timeout, retries, now, onRetry, firstWait = 0.5 } = this.#options;
    const url = this.#url("chat/completions");
    const body = this.#body(request);
    const from = now();
    for (let tries = 1; ; tries++) {
      const answer = await requestJson(url, { method: "POST", headers: this.#headers(), body, timeout, signal });
      if (!("failure" in answer)) {
        const text = this.#read(url, answer.value, answer.text);
        this.#count({ requests: 1, seconds: (now() - from) / 1000 });
        return text;
      }
      const { failure } = answer;
      const asked = failure.retryAfter ?? 0;
      if (!failure.passing || tries > retries || asked > longestAskedWait) throw this.#error(url, failure, tries);
      const wait = Math.max(asked, Math.min(longestWait, firstWait * 2 ** (tries - 1)) * (0.5 + jitter(tries)));
      this.#count({ retries: 1 });
      onRetry?.({ message: `${shown(url)}: ${this.#hide(failure.what)}`, tries, wait });
      await sleep(wait, signal);
    }
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

  #read(url: URL, value: unknown, whole: string): string {
    const answer = value as { choices?: unknown; usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null } | null;
    const first = (Array.isArray(answer?.choices) ? answer.choices[0] : undefined) as { message?: unknown } | undefined;
    const content = writtenIn(first?.message);
    if (typeof content !== "string") {
      throw new ServerError({
        where: shown(url),
        what: "an answer without a text",
        expected: "choices[0].message.content",
        got: this.#hide(quote(whole)),
        hint: "Models that think before they answer may spend simulator.maxNewTokens on it.",
      });
    }
    const tokens = (count: unknown): number => (typeof count === "number" ? count : 0);
    this.#count({ promptTokens: tokens(answer?.usage?.prompt_tokens), completionTokens: tokens(answer?.usage?.completion_tokens) });
    return content;
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

  #error(url: URL, failure: JsonFailure, tries: number): ServerError {
    const { what, status, retryAfter } = failure;
    const waits = retryAfter !== undefined && retryAfter > longestAskedWait ? `, which asks to wait ${retryAfter} s` : "";
    const hint =
      status === undefined
        ? "Is the server running, and simulator.endpoint its base URL? A slow one needs a higher simulator.endpointTimeout or a lower simulator.endpointConcurrency."
        : status === 401 || status === 403
          ? "simulator.endpointKey names the environment variable that holds its key."
          : status === 404
            ? "simulator.endpoint is the base URL, such as http://127.0.0.1:6001/v1, and simulator.endpointModel a model that is served there."
            : undefined;
    return new ServerError({ where: shown(url), what: `${this.#hide(what)}${waits}${tries > 1 ? ` (${tries} tries)` : ""}`, hint });
  }
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
