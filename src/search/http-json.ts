/** One request to a JSON server, and what its answer means for whoever asked: a value, or a failure that may or may not pass. */
import { abortReason, withTimeout } from "../util/abort.ts";

interface JsonRequest {
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Seconds. */
  readonly timeout: number;
  /** Takes what is secret out of a text: whatever failures and `text` show goes through it. */
  readonly hide?: (text: string) => string;
  readonly signal?: AbortSignal | undefined;
}

export interface JsonFailure {
  readonly what: string;
  readonly expected?: string;
  readonly got?: string;
  /** What may help. */
  readonly hint?: string;
  /** Whether the same request may succeed later. */
  readonly passing: boolean;
  /** Passes seldom where the server has never answered as it should: then there may be something else at this address. */
  readonly doubtful?: boolean;
  /** Undefined where there was no answer. */
  readonly status?: number;
  /** Seconds the server asks to wait. */
  readonly retryAfter?: number;
}

/** `text` is for messages. */
export type JsonAnswer = { readonly value: unknown; readonly text: string } | { readonly failure: JsonFailure };

/** An answer holds a few hundred tokens; more than this is something else. */
const mostBytes = 16 * 2 ** 20;

/** Sends a request once. @throws the signal's reason when it fires; every other trouble is a failure. */
export async function requestJson(
  url: URL,
  { method, headers, body, timeout, hide = (text) => text, signal }: JsonRequest,
): Promise<JsonAnswer> {
  const sent = await withTimeout(timeout, signal, async (limit) => {
    const response = await fetch(url, {
      method,
      headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: "manual",
      signal: limit,
    });
    return { response, text: await readText(response) };
  });
  if (signal?.aborted === true) throw abortReason(signal);
  if ("error" in sent) {
    if (sent.timedOut) return { failure: { what: `no answer within ${timeout} s`, passing: true } };
    return { failure: { what: `no answer (${hide(rootCause(sent.error))})`, passing: true } };
  }
  const { response, text } = sent.value;
  if (text === null) return { failure: { what: `an answer of more than ${mostBytes} bytes`, passing: false, status: response.status } };
  if (!response.ok) return { failure: failureOf(response, text, hide) };
  try {
    return { value: JSON.parse(text), text: hide(text) };
  } catch {
    // A proxy's page while the server behind it is away, or an answer that was cut short.
    const what = `an answer that is not JSON: ${quote(hide(text))}`;
    return { failure: { what, passing: true, doubtful: true, status: response.status } };
  }
}

/** The start of a text, on one line, in quotes. */
export function quote(text: string, length = 300): string {
  const line = text.replace(/\s+/g, " ").trim();
  return JSON.stringify(line.length > length ? `${line.slice(0, length)}...` : line);
}

/** Null where it is too long. */
async function readText(response: Response): Promise<string | null> {
  if (response.body === null) return "";
  const decoder = new TextDecoder();
  let text = "",
    bytes = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > mostBytes) return null;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** What an answer with an error's status means. */
export function failureOf(response: Response, text: string, hide: (text: string) => string): JsonFailure {
  const { status } = response;
  const location = response.headers.get("location");
  const what =
    location === null || status < 300 || status >= 400
      ? `HTTP ${status}${text.trim() === "" ? "" : `: ${quote(hide(messageIn(text)))}`}`
      : `HTTP ${status}, a redirection to ${hide(location)}`;
  const retryAfter = retryAfterOf(response.headers);
  return {
    what,
    passing: [408, 425, 429].includes(status) || (status >= 500 && !isNotOffered(status)),
    status,
    ...(retryAfter === undefined ? {} : { retryAfter }),
  };
}

/** Not implemented, or not in this version of HTTP: the server is there, and does not do such a thing. */
export function isNotOffered(status: number): boolean {
  return status === 501 || status === 505;
}

/** The message in the usual forms of an error, `{error: {message}}`, `{message}`, `{detail}`; else the whole text. */
function messageIn(text: string): string {
  try {
    const { error, message, detail } = JSON.parse(text) as { error?: unknown; message?: unknown; detail?: unknown };
    const inner = (error as { message?: unknown } | null | undefined)?.message ?? error ?? message ?? detail;
    if (typeof inner === "string") return inner;
    if (inner !== undefined && inner !== null) return JSON.stringify(inner);
  } catch {
    // Not JSON: the text is the message.
  }
  return text;
}

/** `Retry-After` in seconds; a date is measured against the answer's own `Date`, so that no clock of ours is needed. */
function retryAfterOf(headers: Headers): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (value === undefined || value === "") return undefined;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value);
  const seconds = (Date.parse(value) - Date.parse(headers.get("date") ?? "")) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** What is at the bottom of an error. */
export function rootCause(error: unknown): string {
  let cause = error;
  while (cause instanceof Error && cause.cause !== undefined) cause = cause.cause;
  if (!(cause instanceof Error)) return String(cause);
  const { code } = cause as NodeJS.ErrnoException;
  return cause.message === "" ? (code ?? cause.name) : cause.message;
}
