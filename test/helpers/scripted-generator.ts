/**
 * A `Generator` whose models speak by script, over bytes: the rest (stops, budgets, room, closing) is as the real one. For tests of
 * the rooms above `generate/`.
 */
import { compileStops } from "../../src/generate/stop-automaton.ts";
import {
  EOS_CODE,
  FIRST_STOP_CODE,
  type Generated,
  type GenerateRequest,
  type Generator,
  type GeneratorCounts,
  type OpenOptions,
  type Sequence,
  type StopTable,
} from "../../src/generate/types.ts";
import { partsOf, type TextCodec } from "../../src/text/prompt.ts";
import { RequestError } from "../../src/util/errors.ts";

export const eosId = 256;
/** Tokens of several bytes, so that a tag may close inside one and the same text has several spellings in ids. */
const wide = ["</search>\n", "answer", "><", "Doc "];
export const vocabulary = 257 + wide.length;
const utf8 = new TextEncoder();

export const wideId = (text: string): number => {
  const index = wide.indexOf(text);
  if (index < 0) throw new Error(`no such token: ${text}`);
  return 257 + index;
};

export function tokenBytes(id: number): Uint8Array {
  if (id < 256) return Uint8Array.of(id);
  return id === eosId ? new Uint8Array(0) : utf8.encode(wide[id - 257]);
}

/** One id a byte; "<eos>" is the special token where we wrote it ourselves. */
const encode = (text: string, { parseSpecialTokens = false } = {}): number[] =>
  parseSpecialTokens
    ? text.split("<eos>").flatMap((part, i) => [...(i === 0 ? [] : [eosId]), ...utf8.encode(part)])
    : [...utf8.encode(text)];

export const byteCodec: TextCodec & { readonly encode: typeof encode } = {
  encode,
  encodePrompt: (prompt) => partsOf(prompt).flatMap(({ text, foreign }) => encode(text, { parseSpecialTokens: !foreign })),
  decode: (ids, { skipSpecialTokens = false } = {}) => {
    const bytes = ids.flatMap((id) => (id === eosId ? (skipSpecialTokens ? [] : [...utf8.encode("<eos>")]) : [...tokenBytes(id)]));
    return new TextDecoder().decode(Uint8Array.from(bytes));
  },
};

export function stopsOf(texts: readonly string[]): StopTable {
  return compileStops({ stops: texts.map((text) => utf8.encode(text)), eosIds: [eosId], tokenBytes, vocabulary });
}

/** What a model says at its `turn`-th generation; ids where the spelling matters. More than the stop or the budget allows is not said. */
export type Script = (open: OpenOptions, turn: number, textSoFar: string) => string | readonly number[];

/** The log-probability the script "samples" its i-th token overall with: distinct per position. */
export const scriptedLogProb = (position: number): number => -(position + 1) / 1000;

export class ScriptedGenerator implements Generator {
  readonly opened: OpenOptions[] = [];
  /** The request of each generation, with its sequence's options. */
  readonly requests: { readonly open: OpenOptions; readonly request: GenerateRequest }[] = [];
  /** Generations under way at once, at most. */
  peak = 0;
  openNow = 0;
  #running = 0;
  readonly #scripts: Readonly<Record<string, Script>>;
  readonly #context: number;
  readonly #delay: (open: OpenOptions, turn: number) => number;

  constructor(
    scripts: Readonly<Record<string, Script>>,
    { context = 100_000, delay = () => 0 }: { context?: number; delay?: (open: OpenOptions, turn: number) => number } = {},
  ) {
    this.#scripts = scripts;
    this.#context = context;
    this.#delay = delay;
  }

  open(options: OpenOptions): Sequence {
    if (options.prompt.length > this.#context) throw new RequestError({ where: "open", what: "the prompt does not fit" });
    const script = this.#scripts[options.model];
    if (script === undefined) throw new RequestError({ where: "open", what: `no model ${options.model}` });
    this.opened.push(options);
    this.openNow++;
    const ids = [...options.prompt];
    const context = this.#context;
    let turn = 0,
      closed = false;
    return {
      ids,
      get room() {
        return context - ids.length;
      },
      append: (more) => {
        if (closed) throw new RequestError({ where: "append", what: "the sequence is closed" });
        if (more.length > context - ids.length) throw new RequestError({ where: "append", what: "no room" });
        ids.push(...more);
      },
      generate: async (request) => {
        if (closed || context - ids.length < 1)
          throw new RequestError({ where: "generate", what: closed ? "the sequence is closed" : "no room" });
        this.requests.push({ open: options, request });
        this.peak = Math.max(this.peak, ++this.#running);
        try {
          await new Promise((resolve) => setTimeout(resolve, this.#delay(options, turn)));
          if (closed) throw new RequestError({ where: "generate", what: "closed while generating" });
          const said = script(options, turn++, byteCodec.decode(ids));
          return this.#say(typeof said === "string" ? byteCodec.encode(said, { parseSpecialTokens: true }) : said, request, ids, context);
        } finally {
          this.#running--;
        }
      },
      close: () => {
        if (!closed) this.openNow--;
        closed = true;
      },
    };
  }

  takeCounts(): ReadonlyMap<string, GeneratorCounts> {
    return new Map();
  }

  #say(script: readonly number[], { stop, maxNewTokens }: GenerateRequest, ids: number[], context: number): Generated {
    const budget = Math.min(maxNewTokens, context - ids.length);
    const said: number[] = [],
      logProbs: number[] = [];
    let state = stop.start;
    for (const id of script) {
      if (said.length === budget) break;
      logProbs.push(scriptedLogProb(ids.length));
      said.push(id);
      ids.push(id);
      state = stop.transitions[state * stop.vocabulary + id] as number;
      const code = stop.accepts[state] as number;
      if (code === EOS_CODE) return { ids: said, logProbs, reason: "eos", stopIndex: -1 };
      if (code >= FIRST_STOP_CODE) return { ids: said, logProbs, reason: "stop", stopIndex: code - FIRST_STOP_CODE };
    }
    if (said.length < budget) throw new Error("the script ended before a stop, an end of sequence or the budget");
    return { ids: said, logProbs, reason: "length", stopIndex: -1 };
  }
}
