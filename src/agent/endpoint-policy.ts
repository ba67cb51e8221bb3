/**
 * A policy behind an OpenAI-compatible endpoint, as a generator: every method runs on it as on a model in this process. Its tokens are not known: texts are
 * counted in those of o200k_base (OpenAI's), log-probabilities are 0, and nothing of it can be trained on.
 */
import type { Generated, GenerateRequest, Generator, GeneratorCounts, OpenOptions, Sequence, StopTable } from "../generate/types.ts";
import type { ChatClient, ChatMessageText, ToolCall } from "../search/chat-client.ts";
import { spelled } from "../search/endpoint.ts";
import type { TemplateVariables } from "../text/chat-template.ts";
import { partsOf, type TextCodec } from "../text/prompt.ts";
import { openedThought } from "../text/thinking.ts";
import { RequestError, TooLongError } from "../util/errors.ts";
import { philox, streamKey, uniform } from "../util/philox.ts";
import { messagesOf, withoutOffer, writtenReply } from "./endpoint-tools.ts";

/**
 * How a rollout is put to the server. `messages`: each turn of the policy is a message of the assistant, what it is told one of the user (any server). `continued`:
 * all after the prompt is one turn of the assistant, as in training (vLLM and SGLang). `text`: everything is one text that /completions goes on with: base models.
 */
export const endpointTurns = ["messages", "continued", "text"] as const;

export type CutReason = "tooLong" | "onlyThought" | "filtered" | "ignoredStop";

export interface EndpointPolicyOptions {
  readonly client: Pick<ChatClient, "reply">;
  readonly codec: TextCodec;
  readonly turns: (typeof endpointTurns)[number];
  readonly templateVariables?: TemplateVariables;
  /** The server's chat template opens a thought, so that texts begin inside it. */
  readonly opensThought?: boolean;
  /** Told of turns that the server cut short: the rollout was too long for it, the turn's tokens went into a thought, a filter took the text; or did not: what it wrote after a stop string is cut here. */
  readonly onCut?: (why: CutReason) => void;
}

/** A stop table that is sent as it is written. Nothing compiles it. */
export function textStops(texts: readonly string[]): StopTable {
  return { states: 0, vocabulary: 0, start: 0, transitions: new Uint32Array(0), accepts: new Uint32Array(0), texts };
}

/** Ids of o200k_base for texts as a server is sent them: what looks like a special token in text from outside is taken apart. */
export function endpointCodec(codec: { encode(text: string): number[]; decode(ids: readonly number[]): string }): TextCodec {
  return { encodePrompt: (prompt) => codec.encode(spelled(partsOf(prompt))), decode: (ids) => codec.decode(ids) };
}

export class EndpointGenerator implements Generator {
  readonly #options: EndpointPolicyOptions;

  constructor(options: EndpointPolicyOptions) {
    this.#options = options;
  }

  open(options: OpenOptions): Sequence {
    return new EndpointSequence(this.#options, options);
  }

  /** The client counts. */
  takeCounts(): ReadonlyMap<string, GeneratorCounts> {
    return new Map();
  }
}

/** A turn that the policy wrote, or what was put in after it. */
interface Piece {
  readonly by: "policy" | "environment";
  readonly text: string;
  readonly calls: readonly ToolCall[];
}

class EndpointSequence implements Sequence {
  readonly ids: number[];
  readonly #options: EndpointPolicyOptions;
  readonly #open: OpenOptions;
  readonly #prompt: string;
  readonly #tools: readonly object[] | undefined;
  readonly #pieces: Piece[] = [];
  readonly #controller = new AbortController();
  #full = false;

  constructor(options: EndpointPolicyOptions, open: OpenOptions) {
    this.#options = options;
    this.#open = open;
    this.ids = [...open.prompt];
    const { text, tools } = withoutOffer(options.codec.decode(open.prompt));
    this.#prompt = text;
    this.#tools = tools;
  }

  /** The server's context is not known before it refuses. */
  get room(): number {
    return this.#full ? 0 : 2 ** 30;
  }

  append(ids: readonly number[]): void {
    this.ids.push(...ids);
    this.#pieces.push({ by: "environment", text: this.#options.codec.decode(ids), calls: [] });
  }

  async generate({ stop, maxNewTokens, sampling, onSampled }: GenerateRequest): Promise<Generated> {
    const { client, codec, opensThought = false, templateVariables } = this.#options;
    if (this.#controller.signal.aborted) throw new RequestError({ where: "sequence of an endpoint", what: "generate() after close()" });
    const { key, seed, purpose, turn = 0 } = this.#open;
    const turns = this.#pieces.filter(({ by }) => by === "policy").length;
    const [word, ...own] = philox(streamKey(seed, purpose), [key.step, key.question, key.rollout, (turn << 16) | turns]);
    const texts = stop.texts ?? [];
    try {
      const reply = await client.reply({
        ...this.#asked(),
        tools: this.#tools,
        maxTokens: maxNewTokens,
        ...sampling,
        templateVariables,
        stop: texts,
        mayBeEmpty: true,
        seed: word >>> 1,
        jitter: (n) => uniform([own[0], own[1]], [n, 0, 0, 0]),
        signal: this.#controller.signal,
      });
      if (reply.finish === "content_filter") this.#options.onCut?.("filtered");
      else if (reply.finish === "length" && reply.text === "") this.#options.onCut?.("onlyThought");
      const all = (opensThought ? openedThought : "") + writtenReply(reply);
      // A server that says where it stopped has stopped there.
      const early = reply.stopped === null ? firstStop(all, texts) : null;
      if (early !== null && all.slice(early.end).trim() !== "") this.#options.onCut?.("ignoredStop");
      const written = early === null ? all : all.slice(0, early.end);
      const stopped =
        early?.stop ?? (reply.finish === "length" ? undefined : (texts.find((one) => one === reply.stopped) ?? unclosed(written, texts)));
      const text = early === null ? written + (stopped ?? "") : written;
      const ids = codec.encodePrompt([{ text, foreign: false }]);
      this.ids.push(...ids);
      this.#pieces.push({ by: "policy", text, calls: reply.toolCalls });
      onSampled?.();
      const reason = stopped !== undefined ? "stop" : reply.finish === "length" ? "length" : "eos";
      return { ids, logProbs: ids.map(() => 0), reason, stopIndex: stopped === undefined ? -1 : texts.indexOf(stopped) };
    } catch (error) {
      if (!(error instanceof TooLongError)) throw error;
      this.#full = true;
      this.#options.onCut?.("tooLong");
      return { ids: [], logProbs: [], reason: "length", stopIndex: -1 };
    }
  }

  close(): void {
    this.#controller.abort();
  }

  #asked(): { readonly messages: ChatMessageText[]; readonly prompt?: string; readonly continues?: boolean } {
    const { turns } = this.#options;
    const rest = this.#pieces.map(({ text }) => text).join("");
    if (turns === "text") return { messages: [], prompt: this.#prompt + rest };
    const user: ChatMessageText = { role: "user", content: this.#prompt };
    if (turns === "continued" && this.#tools === undefined)
      return rest === "" ? { messages: [user] } : { messages: [user, { role: "assistant", content: rest }], continues: true };
    const messages = [user];
    let calls: readonly ToolCall[] = [];
    for (const piece of this.#pieces) {
      if (piece.by === "environment") {
        messages.push(...messagesOf(piece.text, calls));
        continue;
      }
      calls = piece.calls;
      // Calls are sent as calls, not as the text that stands for them.
      const at = calls.length === 0 ? -1 : piece.text.indexOf("<tool_call>");
      const content = at < 0 ? piece.text : piece.text.slice(0, at).trim();
      messages.push({ role: "assistant", content, ...(calls.length === 0 ? {} : { toolCalls: calls }) });
    }
    return { messages };
  }
}

/** The stop string that a text holds first, and where it ends: a server that stops has none, or one at the end. Null where there is none. */
function firstStop(text: string, stops: readonly string[]): { readonly stop: string; readonly end: number } | null {
  const found = stops.flatMap((stop) => {
    const at = text.indexOf(stop);
    return at < 0 || stop === "" ? [] : [{ stop, end: at + stop.length }];
  });
  return found.reduce<(typeof found)[number] | null>((first, one) => (first === null || one.end < first.end ? one : first), null);
}

/** The stop string whose opening tag is open at the end of a text: servers leave out the one that ended it. */
function unclosed(text: string, stops: readonly string[]): string | undefined {
  return stops.find((stop) => {
    const opening = openingOf(stop);
    return opening !== undefined && text.lastIndexOf(opening) > text.lastIndexOf(stop);
  });
}

/** `<search>` of `</search>`, `<|begin_url|>` of `<|end_url|>`. */
function openingOf(stop: string): string | undefined {
  const [, tag] = /^<\/(\w+)>$/.exec(stop) ?? [];
  if (tag !== undefined) return `<${tag}>`;
  const [, name] = /^<\|end_(\w+)\|>$/.exec(stop) ?? [];
  return name === undefined ? undefined : `<|begin_${name}|>`;
}
