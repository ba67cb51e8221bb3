/** What is kept of the rows of `judged.jsonl` while an evaluation runs: numbers, a few a question, by method, engine and set. */
import { isValid } from "../rl/metrics.ts";
import { rewardNames, type RewardName } from "../rl/reward.ts";
import { HealthCounter, type Health, type HealthOptions } from "./health.ts";
import type { JudgedRow } from "./judge.ts";

/** One method with one engine on one set. */
export interface SetTally {
  /** In the order of the questions. */
  readonly scores: Readonly<Record<RewardName, readonly number[]>>;
  readonly n: number;
  /** Sums over the questions. */
  readonly searches: number;
  readonly valid: number;
  /** That the policy sampled. */
  readonly tokens: number;
}

/** One method with one engine on all sets: a row of the table. */
export interface CellTally {
  readonly method: string;
  /** "none" where the method never searches. */
  readonly engine: string;
  readonly sets: ReadonlyMap<string, SetTally>;
  readonly health: Health;
}

interface Counts {
  readonly scores: Record<RewardName, number[]>;
  n: number;
  searches: number;
  valid: number;
  tokens: number;
}

/** Takes the rows of one cell, in the order of the questions. */
export class Tally {
  readonly #method: string;
  readonly #engine: string;
  readonly #sets = new Map<string, Counts>();
  readonly #health: HealthCounter;

  constructor(method: string, engine: string, options: HealthOptions) {
    this.#method = method;
    this.#engine = engine;
    this.#health = new HealthCounter(options);
  }

  add(row: JudgedRow): void {
    const { dataSource } = row.question;
    const counts = this.#sets.get(dataSource) ?? { scores: { f1: [], em: [], subem: [] }, n: 0, searches: 0, valid: 0, tokens: 0 };
    this.#sets.set(dataSource, counts);
    for (const name of rewardNames) counts.scores[name].push(row[name]);
    counts.n++;
    counts.searches += row.searches.length;
    counts.valid += isValid(row) ? 1 : 0;
    counts.tokens += sampledTokens(row);
    this.#health.add(row);
  }

  take(): CellTally {
    return { method: this.#method, engine: this.#engine, sets: this.#sets, health: this.#health.take() };
  }
}

/** Tokens that the policy sampled, those of a second pass included. */
export function sampledTokens({ lossMask, asides = [] }: JudgedRow): number {
  return lossMask.reduce((sum, mask) => sum + mask, 0) + asides.reduce((sum, { ids }) => sum + ids.length, 0);
}
