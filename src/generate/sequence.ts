/** One growing sequence: what `BatchGenerator.open` gives out. */
import { abortReason } from "../util/abort.ts";
import { RequestError } from "../util/errors.ts";
import { SequenceCache } from "./sequence-cache.ts";
import type { Generated, GenerateRequest, OpenOptions, Sequence } from "./types.ts";

/** What a sequence asks of the generator it belongs to. */
export interface SequenceOwner {
  /** The longest sequence of its model. */
  readonly context: number;
  readonly vocabulary: number;
  submit(active: ActiveRequest): void;
  /** The sequence is closed; a request under way has been rejected. */
  closed(sequence: PagedSequence, active: ActiveRequest | null): void;
}

/** A request under way. */
export class ActiveRequest {
  readonly sequence: PagedSequence;
  readonly request: GenerateRequest;
  readonly resolve: (generated: Generated) => void;
  readonly reject: (error: unknown) => void;
  readonly logProbs: number[] = [];
  readonly firstId: number;
  /** Order of first admission: the earliest is never preempted by a later one. Infinity before. */
  serial = Infinity;
  /** State of its own stop automaton. */
  state: number;
  /** Tokens it may still sample. */
  remaining: number;
  /** Steps asked for on its row whose results have not been taken in: so far the device is ahead of the host. */
  ahead = 0;
  finished = false;

  constructor(
    sequence: PagedSequence,
    request: GenerateRequest,
    remaining: number,
    resolve: (generated: Generated) => void,
    reject: (error: unknown) => void,
  ) {
    this.sequence = sequence;
    this.request = request;
    this.remaining = remaining;
    this.resolve = resolve;
    this.reject = reject;
    this.firstId = sequence.ids.length;
    this.state = request.stop.start;
  }
}

export class PagedSequence implements Sequence {
  readonly ids: number[];
  readonly cache: SequenceCache;
  readonly adapter: string | undefined;
  /** Philox key and the first three counter words. */
  readonly randomKey: readonly number[];
  /** When it last ran, for choosing whose cache gives way. */
  lastUsed = 0;
  active: ActiveRequest | null = null;
  isClosed = false;
  readonly #owner: SequenceOwner;
  readonly #name: string;

  constructor(owner: SequenceOwner, options: OpenOptions, randomKey: readonly number[]) {
    const { key } = options;
    this.#owner = owner;
    this.#name = `sequence of ${options.model} (step ${key.step}, question ${key.question}, rollout ${key.rollout})`;
    this.adapter = options.adapter;
    this.randomKey = randomKey;
    this.ids = [];
    this.cache = new SequenceCache(this.ids, options.adapter ?? "");
    if (options.prompt.length === 0) throw this.#error("the prompt is empty", "at least one id to go on from");
    this.#add(options.prompt);
  }

  get room(): number {
    return this.#owner.context - this.ids.length;
  }

  append(ids: readonly number[]): void {
    if (this.isClosed) throw this.#error("append() after close()");
    if (this.active !== null) throw this.#error("append() while a request is under way", "await generate() first");
    this.#add(ids);
  }

  generate(request: GenerateRequest): Promise<Generated> {
    return new Promise((resolve, reject) => {
      this.#check(request);
      const active = new ActiveRequest(this, request, Math.min(request.maxNewTokens, this.room), resolve, reject);
      this.#owner.submit(active);
      this.active = active;
    });
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    const { active } = this;
    this.active = null;
    if (active !== null) {
      active.finished = true;
      active.reject(this.#error("closed while a request was under way"));
    }
    this.#owner.closed(this, active);
  }

  #add(ids: readonly number[]): void {
    if (ids.length > this.room) {
      throw this.#error(
        "the context is full",
        `at most ${this.room} more ids (of ${this.#owner.context})`,
        String(ids.length),
        "Shorten the prompt or the documents, or use a model with a longer context.",
      );
    }
    const { vocabulary } = this.#owner;
    for (const id of ids) {
      if (!(Number.isInteger(id) && id >= 0 && id < vocabulary))
        throw this.#error("not a token id of the model", `an id below ${vocabulary}`, String(id), "Does the tokenizer fit the model?");
    }
    for (const id of ids) this.ids.push(id);
  }

  #check({ stop, maxNewTokens, sampling }: GenerateRequest): void {
    if (this.isClosed) throw this.#error("generate() after close()");
    if (this.active !== null) throw this.#error("a request is under way", "await generate() before the next one");
    if (this.room < 1) throw this.#error("the context is full", `room for one token (of ${this.#owner.context})`, `${this.ids.length} ids`);
    if (!(Number.isInteger(maxNewTokens) && maxNewTokens > 0))
      throw this.#error("maxNewTokens is wrong", "a positive integer", String(maxNewTokens));
    if (stop.vocabulary !== this.#owner.vocabulary)
      throw this.#error("the stop table was compiled for another vocabulary", String(this.#owner.vocabulary), String(stop.vocabulary));
    const { temperature, topK, topP } = sampling;
    if (!(temperature >= 0 && temperature < Infinity))
      throw this.#error("sampling.temperature is wrong", "0 (greedy) or more", String(temperature));
    if (!(Number.isInteger(topK) && topK >= 0)) throw this.#error("sampling.topK is wrong", "0 (off) or a positive integer", String(topK));
    if (!(topP > 0 && topP <= 1)) throw this.#error("sampling.topP is wrong", "more than 0, at most 1 (off)", String(topP));
  }

  #error(what: string, expected?: string, got?: string, hint?: string): RequestError {
    return new RequestError({ where: this.#name, what, expected, got, hint });
  }
}

/**
 * `sequence.generate(request)`, but when the signal fires the sequence is closed and the promise rejects with the signal's reason.
 */
export async function generateUnlessAborted(
  sequence: Sequence,
  request: GenerateRequest,
  signal: AbortSignal | undefined,
): Promise<Generated> {
  if (signal === undefined) return sequence.generate(request);
  if (signal.aborted) throw abortReason(signal);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      sequence.close();
      reject(abortReason(signal));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    sequence
      .generate(request)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", onAbort));
  });
}
