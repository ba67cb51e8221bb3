/**
 * Several servers that do the same: a request goes to one that is there and has fewest under way, and to another where that one is away. What is
 * answered may depend on the server alone, never on which requests were under way.
 */
import { Slots } from "../util/slots.ts";
import type { JsonFailure } from "./http-json.ts";

export interface BalanceOptions {
  /** Requests under way at each server at a time. */
  readonly concurrency: number;
  /** Milliseconds of a steady clock. */
  readonly now: () => number;
  /** Told when a server is away and others take its requests; of each server's times, the 1st, 2nd, 4th, 8th ... */
  readonly onAway?: ((message: string) => void) | undefined;
  /** Told when one that was told of answers again. */
  readonly onBack?: ((server: URL) => void) | undefined;
}

interface Member {
  readonly server: URL;
  readonly slots: Slots;
  /** Requests that were given to it and have not ended. */
  underWay: number;
  /** Requests in a row that found it away. */
  failures: number;
  /** Until when it is not asked, where another one can be. */
  until: number;
  /** Times it was away. */
  times: number;
  told: boolean;
}

/** Seconds after which a server that was away is looked at again: .5, doubled each time it still is, at most this. */
const longestAway = 30;

export class Balance {
  readonly #members: readonly Member[];
  readonly #options: BalanceOptions;
  #moved = 0;

  constructor(servers: readonly URL[], options: BalanceOptions) {
    this.#options = options;
    const member = (server: URL): Member => {
      return { server, slots: new Slots(options.concurrency), underWay: 0, failures: 0, until: -Infinity, times: 0, told: false };
    };
    this.#members = servers.map(member);
  }

  /**
   * Asks one server after another, each once, until one is there.
   * @returns its answer, or the failure of the last one that was asked. @throws what `ask` throws.
   */
  async send<A extends object>(
    ask: (server: URL) => Promise<A | { readonly failure: JsonFailure }>,
    signal?: AbortSignal,
  ): Promise<A | { readonly failure: JsonFailure }> {
    const asked: Member[] = [];
    for (;;) {
      const member = this.#next(asked);
      asked.push(member);
      member.underWay++;
      let answer;
      try {
        answer = await member.slots.run(() => ask(member.server), signal);
      } finally {
        member.underWay--;
      }
      const failure = "failure" in answer ? answer.failure : undefined;
      if (failure?.passing !== true) {
        this.#there(member);
        return answer;
      }
      this.#away(member, failure);
      if (!this.#members.some((one) => !asked.includes(one) && this.#isThere(one))) return answer;
      this.#moved++;
    }
  }

  /** Requests that another server took since the last call. */
  takeMoved(): number {
    const moved = this.#moved;
    this.#moved = 0;
    return moved;
  }

  /** Of those that are there the one with fewest requests, else the one that is looked at first; in order where these are equal. */
  #next(asked: readonly Member[]): Member {
    const left = this.#members.filter((member) => !asked.includes(member));
    const there = left.filter((member) => this.#isThere(member));
    const least = (members: readonly Member[], of: (member: Member) => number): Member =>
      members.reduce((best, member) => (of(member) < of(best) ? member : best));
    return there.length > 0 ? least(there, ({ underWay }) => underWay) : least(left, ({ until }) => until);
  }

  /** One that was away is there for a single request, which looks. */
  #isThere({ failures, until, underWay }: Member): boolean {
    return failures === 0 || (until <= this.#options.now() && underWay === 0);
  }

  #away(member: Member, { what, retryAfter = 0 }: JsonFailure): void {
    const { now, onAway } = this.#options;
    // One of those that were under way when it went: nobody has looked again.
    if (now() < member.until) return;
    if (member.failures++ === 0) member.times++;
    member.until = now() + 1000 * Math.max(retryAfter, Math.min(longestAway, 0.5 * 2 ** (member.failures - 1)));
    if (this.#members.length === 1 || member.told || (member.times & (member.times - 1)) !== 0) return;
    member.told = true;
    onAway?.(what);
  }

  #there(member: Member): void {
    member.failures = 0;
    if (!member.told) return;
    member.told = false;
    this.#options.onBack?.(member.server);
  }
}
