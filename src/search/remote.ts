/**
 * Calls of one server over a network: so many at a time, tried again at growing intervals while the server is away, for a bounded time. After many
 * calls in a row that failed for good, the next ones fail at once, and one now and then looks whether the server is back (a circuit breaker).
 * docs/endpoints.md says what becomes of each reply.
 */
import { ServerError } from "../util/errors.ts";
import { sleep } from "../util/abort.ts";
import { Slots } from "../util/slots.ts";
import type { JsonFailure } from "./http-json.ts";

export interface RemoteOptions {
  /** Calls under way at a time. */
  readonly concurrency: number;
  /** Seconds after its first failure in which a call is tried again, the last time when they are over. */
  readonly patience: number;
  /** Calls in a row that fail for good before the next ones fail at once; 0 never. 8 unless given. */
  readonly breakAfter?: number;
  /** Seconds in which they do; then one call goes through, to see. 30 unless given. */
  readonly breakSeconds?: number;
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
  /** Tries again, over all calls. */
  readonly retries: number;
}

export interface RemoteCall<T> {
  /** Where the server is, for messages; without what may hold a secret. */
  readonly where: string;
  /** One try. Its failure is shown as it is: whatever is secret is taken out of it before. @throws what ends the call at once. */
  readonly send: () => Promise<{ readonly value: T } | { readonly failure: JsonFailure }>;
  /** 0 to 1, for the n-th wait: spreads the retries of many calls over time. */
  readonly jitter: (n: number) => number;
  /** What is thrown where the call has failed for good. */
  readonly error: (failure: JsonFailure, tried: Tried) => Error;
  readonly signal?: AbortSignal | undefined;
}

export interface Tried {
  readonly tries: number;
  /** Seconds of patience. */
  readonly left: number;
}

/** Since they were last taken. */
export interface RemoteCounts {
  /** Answered. */
  readonly requests: number;
  /** Tries after a first that failed. */
  readonly retries: number;
  /** Failed for good after they were sent. */
  readonly failed: number;
  /** Never sent, since too many before had failed. */
  readonly refused: number;
  /** From first try to answer, waits included, over all answered calls. */
  readonly seconds: number;
}

/** The longest wait of ours, on average; a server may ask for a longer one. Seconds. */
const longestWait = 30;
/** Tries of one call after which an outage is told of in any case. */
const manyTries = 4;
const noCounts: RemoteCounts = { requests: 0, retries: 0, failed: 0, refused: 0, seconds: 0 };

export class Remote {
  readonly #options: RemoteOptions;
  readonly #slots: Slots;
  #counts: RemoteCounts = noCounts;
  #outage: { readonly from: number; retries: number; told: boolean } | null = null;
  #outages = 0;
  /** When the newest outage ended. */
  #ended = -Infinity;
  /** Whether any call was answered. */
  #known = false;
  /** Calls in a row that have failed for good. */
  #failures = 0;
  /** When the newest of them ended, and why it failed. */
  #newest = { at: -Infinity, what: "" };
  /** Whether a call is under way that looks whether the server is back. */
  #probing = false;

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.#slots = new Slots(options.concurrency);
  }

  /** @throws what `error` makes of its failure; ServerError where it is not sent, as too many have failed; the signal's reason when it fires. */
  call<T>(call: RemoteCall<T>): Promise<T> {
    return this.#slots.run(() => this.#unlessBroken(call), call.signal);
  }

  /** What happened since the last call. */
  takeCounts(): RemoteCounts {
    const counts = this.#counts;
    this.#counts = noCounts;
    return counts;
  }

  async #unlessBroken<T>(call: RemoteCall<T>): Promise<T> {
    const { patience, now, breakAfter = 8, breakSeconds = 30 } = this.#options;
    if (breakAfter === 0 || this.#failures < breakAfter) return this.#call(call, patience);
    const left = breakSeconds - (now() - this.#newest.at) / 1000;
    if (left > 0 || this.#probing) throw this.#refusal(call.where, Math.max(0, left));
    this.#probing = true;
    try {
      // One try: the others are refused as long as this one takes.
      return await this.#call(call, 0);
    } finally {
      this.#probing = false;
    }
  }

  #refusal(where: string, left: number): ServerError {
    this.#count({ refused: 1 });
    return new ServerError({
      where,
      what: `is not asked, as ${this.#failures} calls in a row have failed; the last: ${this.#newest.what}`,
      hint: left > 0 ? `It is tried again in ${Math.ceil(left)} s.` : "One call is under way that looks whether it is back.",
    });
  }

  async #call<T>({ where, send, jitter, error, signal }: RemoteCall<T>, patience: number): Promise<T> {
    const { now, wait: pause = sleep, onRetry, firstWait = 0.5 } = this.#options;
    const from = now();
    let failing: number | null = null;
    for (let tries = 1; ; tries++) {
      const sent = now();
      const answer = await send();
      if ("value" in answer) {
        this.#answered(sent, from);
        return answer.value;
      }
      const { failure } = answer;
      failing ??= now();
      const left = patience - (now() - failing) / 1000;
      const asked = failure.retryAfter ?? 0;
      const hopeless = failure.doubtful === true && !this.#known && tries > manyTries;
      if (!failure.passing || hopeless || left <= 0 || asked > left) {
        this.#failed(failure);
        throw error(failure, { tries, left });
      }
      // Never before the server asked for, and once more when patience ends.
      const own = Math.min(longestWait, firstWait * 2 ** (tries - 1)) * (0.5 + jitter(tries));
      const wait = Math.min(left, Math.max(asked, own));
      const message = `${where}: ${failure.what}`;
      this.#count({ retries: 1 });
      this.#away(message, tries, sent);
      onRetry?.({ message, tries, wait });
      await pause(wait, signal);
    }
  }

  /** Notes that a call has failed for good. */
  #failed({ what, status }: JsonFailure): void {
    this.#count({ failed: 1 });
    // A server that finds fault with one request is there for the others.
    if (status !== undefined && ofOneRequest.includes(status)) return;
    this.#failures++;
    this.#newest = { at: this.#options.now(), what };
  }

  /** Notes that a call, last sent at `sent`, is to be tried again after so many tries. */
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
  #answered(sent: number, from: number): void {
    const { now, onAnswer } = this.#options;
    this.#count({ requests: 1, seconds: (now() - from) / 1000 });
    this.#known = true;
    this.#failures = 0;
    const outage = this.#outage;
    if (outage === null || sent < outage.from) return;
    this.#outage = null;
    this.#ended = now();
    if (outage.told) onAnswer?.({ seconds: (now() - outage.from) / 1000, retries: outage.retries });
  }

  #count(more: Partial<RemoteCounts>): void {
    const sum = { ...this.#counts };
    for (const name of Object.keys(noCounts) as (keyof RemoteCounts)[]) sum[name] += more[name] ?? 0;
    this.#counts = sum;
  }
}

/** Answers that say that one request is wrong: bad, too large, too long an address, not to be processed. */
export const ofOneRequest: readonly number[] = [400, 413, 414, 422];
