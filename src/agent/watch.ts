/** Looks on while a rollout is made, whatever its method: for people who want to see it as it comes. */
import type { GenerateRequest, Generated, Generator, Sequence } from "../generate/types.ts";
import { renderDocuments } from "../search/documents.ts";
import type { PageRequest, SearchEngine, SearchRequest, SearchResult } from "../search/search-engine.ts";
import type { TextCodec } from "../text/prompt.ts";
import type { AgentContext } from "./methods/method.ts";

export interface Onlooker {
  /** The policy has written more of a turn; `text` is all of the turn so far, never half a character. */
  onText(text: string): void;
  /** A turn has ended: all that the policy wrote in it. */
  onTurn(text: string): void;
  /** An engine has answered; `text` is what the policy is shown, before it is made harmless and cut. */
  onDocuments(result: SearchResult, text: string): void;
}

/** The same context for one rollout at a time, with somebody looking on. */
export function watched<T extends AgentContext>(context: T & { readonly engine: SearchEngine }, onlooker: Onlooker): T {
  const { generator, engine, tokenizer } = context;
  const watchedEngine: SearchEngine = {
    name: engine.name,
    async search(request: SearchRequest) {
      const result = await engine.search(request);
      onlooker.onDocuments(result, renderDocuments(result));
      return result;
    },
    ...(engine.page === undefined ? {} : { page: (request: PageRequest) => (engine as Required<SearchEngine>).page(request) }),
    close: () => engine.close(),
  };
  const watchedGenerator: Generator = {
    open: (options) => new WatchedSequence(generator.open(options), tokenizer, onlooker),
    takeCounts: () => generator.takeCounts(),
  };
  return { ...context, engine: watchedEngine, generator: watchedGenerator };
}

class WatchedSequence implements Sequence {
  readonly #inner: Sequence;
  readonly #tokenizer: TextCodec;
  readonly #onlooker: Onlooker;

  constructor(inner: Sequence, tokenizer: TextCodec, onlooker: Onlooker) {
    this.#inner = inner;
    this.#tokenizer = tokenizer;
    this.#onlooker = onlooker;
  }

  get ids(): readonly number[] {
    return this.#inner.ids;
  }

  get room(): number {
    return this.#inner.room;
  }

  append(ids: readonly number[]): void {
    this.#inner.append(ids);
  }

  async generate(request: GenerateRequest): Promise<Generated> {
    const first = this.ids.length;
    const textSoFar = (): string => this.#tokenizer.decode(this.ids.slice(first), { continuation: true });
    const onSampled = (): void => {
      // A character of several tokens is not there yet.
      const text = textSoFar();
      if (!text.endsWith("\ufffd")) this.#onlooker.onText(text);
      request.onSampled?.();
    };
    const generated = await this.#inner.generate({ ...request, onSampled });
    this.#onlooker.onTurn(textSoFar());
    return generated;
  }

  close(): void {
    this.#inner.close();
  }
}
