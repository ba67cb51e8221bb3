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
  /** The key that says how many tokens it may write: `maxNewTokens` of the section unless given. */
  readonly lengthKey?: string;
  readonly key?: string | undefined;
  /** Seconds after which a try is given up. */
  readonly timeout: number;
  /** Of several endpoints: told when one is away and others take its requests, and when it answers again. */
  readonly onAway?: (away: { readonly message: string }) => void;
  readonly onBack?: (back: { readonly endpoint: string }) => void;
}

export interface ChatMessageText {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
  /** Of the assistant: the calls that it made. */
  readonly toolCalls?: readonly ToolCall[];
  /** Of a tool: the call that this is the result of. */
  readonly toolCallId?: string;
}

/** A call of a tool, its arguments as the model wrote them: JSON, or what should have been. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

export interface ChatReply {
  readonly text: string;
  readonly toolCalls: readonly ToolCall[];
  /** Why it ended, in the server's word: stop, length, tool_calls ...; "" where it does not say. */
  readonly finish: string;
  /** The stop string that ended it, where the server tells (vLLM and SGLang do). */
  readonly stopped: string | null;
}

export interface ChatCompletionRequest {
  readonly messages: readonly ChatMessageText[];
  /** In place of messages: a text that is gone on with, by the server's /completions. */
  readonly prompt?: string | undefined;
  /** Goes on in the last message, which is the assistant's, in place of opening a turn (vLLM, SGLang). */
  readonly continues?: boolean | undefined;
  /** Tools that may be called, as OpenAI describes them. */
  readonly tools?: readonly object[] | undefined;
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
  /** Whether a reply without a text is one where it says why: `length` (a thought that took all tokens), `content_filter`. Else it is a failure. */
  readonly mayBeEmpty?: boolean | undefined;
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
  readonly #lengthKey: string;
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
    this.#lengthKey = options.lengthKey ?? `${this.#section}.maxNewTokens`;
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
  async complete(request: ChatCompletionRequest): Promise<string> {
    return (await this.reply(request)).text;
  }

  /** One completion, with its tool calls and how it ended. @throws as `complete` */
  async reply({ signal, jitter, seed, mayBeEmpty = false, ...request }: ChatCompletionRequest): Promise<ChatReply> {
    const { timeout } = this.#options;
    const path = request.prompt === undefined ? "chat/completions" : "completions";
    const urls = this.#bases.map((base) => shown(below(base, path)));
    const where = urls.length === 1 ? (urls[0] as string) : `${this.#section}.endpoint`;
    let textless = 0;
    return this.#remote.call({
      where,
      send: async () => {
        const body = this.#body({ ...request, seed: (seed + textless) % 2 ** 31 });
        const sent = { method: "POST", headers: this.#headers(), body, timeout, hide: this.#hide, signal } as const;
        const answer = await this.#balance.send(async (base) => {
          const url = below(base, path);
          return saying(urls.length > 1 ? url : null, await requestJson(url, sent));
        }, signal);
        if ("failure" in answer) return answer;
        const reply = replyIn(answer.value, mayBeEmpty);
        const read = request.prompt === undefined ? request.messages.map(({ content }) => content) : [request.prompt];
        await this.#countTokens(answer.value, read, reply === null ? "" : writtenOf(reply));
        if (reply === null) return { failure: withoutText(answer.value, answer.text, ++textless < triesForText, this.#lengthKey) };
        return { value: reply };
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

  async #countTokens(value: unknown, read: readonly string[], text: string): Promise<void> {
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
    if (prompt === undefined) add({ estimatedPromptTokens: read.reduce((sum, one) => sum + count(one), 0) });
    if (completion === undefined) add({ estimatedCompletionTokens: count(text) });
  }

  #body(request: Omit<ChatCompletionRequest, "signal" | "jitter">): object {
    const { messages, prompt, continues = false, tools, maxTokens, temperature, topP, topK, stop, seed, templateVariables = {} } = request;
    return {
      model: this.#model,
      ...(prompt === undefined ? { messages: messages.map(messageBody) } : { prompt }),
      ...(continues ? { continue_final_message: true, add_generation_prompt: false } : {}),
      ...(tools === undefined ? {} : { tools }),
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
    if (isTooLong(failure)) return new TooLongError({ ...complaint, hint: tooLongHint(this.#section, this.#lengthKey) });
    return new ServerError({ ...complaint, hint: hint ?? hintFor(status, waits, this.#section) });
  }
}

const tooLongHint = (section: string, lengthKey: string): string =>
  `The prompt${section === "simulator" ? " (question, answer and the policy's query)" : ""} and ${lengthKey} must fit the context that the server runs its model with.`;

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

function messageBody({ role, content, toolCalls, toolCallId }: ChatMessageText): object {
  if (toolCallId !== undefined) return { role, content, tool_call_id: toolCallId };
  if (toolCalls === undefined) return { role, content };
  const calls = toolCalls.map((one) => ({ id: one.id, type: "function", function: { name: one.name, arguments: one.arguments } }));
  return { role, content: content === "" ? null : content, tool_calls: calls };
}

/** What a completion says; null where it has neither a text nor a call, nor a reason for that. */
function replyIn(value: unknown, mayBeEmpty: boolean): ChatReply | null {
  const { choices } = (value ?? {}) as { choices?: unknown };
  const first = ((Array.isArray(choices) ? choices[0] : undefined) ?? {}) as Readonly<Record<string, unknown>>;
  const { message, text, finish_reason: finish, stop_reason: stopReason, matched_stop: matchedStop } = first;
  const toolCalls = toolCallsIn(message);
  // A model that thought before it called has said all with its calls; one that called nothing may have thought to its end.
  const said = toolCalls.length > 0 ? ((message as { content?: unknown } | null)?.content ?? "") : writtenIn(message);
  const content = message === undefined ? text : said;
  const isExplained = mayBeEmpty && (finish === "length" || finish === "content_filter");
  if (typeof content !== "string" && toolCalls.length === 0 && !isExplained) return null;
  const stopped = stopReason ?? matchedStop;
  return {
    text: typeof content === "string" ? content : "",
    toolCalls,
    finish: typeof finish === "string" ? finish : "",
    stopped: typeof stopped === "string" ? stopped : null,
  };
}

function toolCallsIn(message: unknown): ToolCall[] {
  const calls = (message as { tool_calls?: unknown } | null | undefined)?.tool_calls;
  if (!Array.isArray(calls)) return [];
  return calls.flatMap((call: unknown, i): ToolCall[] => {
    const { id, function: called } = (call ?? {}) as { id?: unknown; function?: { name?: unknown; arguments?: unknown } | null };
    if (typeof called?.name !== "string") return [];
    const given = called.arguments;
    const text = typeof given === "string" ? given : JSON.stringify(given ?? {});
    return [{ id: typeof id === "string" ? id : `call_${i}`, name: called.name, arguments: text }];
  });
}

/** All that a model wrote, for counting. */
function writtenOf({ text, toolCalls }: ChatReply): string {
  return toolCalls.reduce((all, call) => `${all}\n${call.name}${call.arguments}`, text);
}

function withoutText(value: unknown, whole: string, passing: boolean, lengthKey: string): JsonFailure {
  const { choices } = (value ?? {}) as { choices?: unknown };
  const first = (Array.isArray(choices) ? choices[0] : undefined) as { readonly finish_reason?: unknown } | null | undefined;
  const thought = first !== undefined && first !== null && first.finish_reason !== "stop" && first.finish_reason !== "content_filter";
  return {
    what: "an answer without a text",
    expected: "choices[0].message.content",
    got: quote(whole),
    ...(thought ? { hint: `Models that think before they answer may spend ${lengthKey} on it.` } : {}),
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
