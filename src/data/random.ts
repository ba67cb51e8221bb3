/** Random choices for data making: a fresh generator from a string that names seed and purpose, never a shared stream. */
import seedrandom from "seedrandom";
import { ConfigError } from "../util/errors.ts";

/** A seeded source of uniform numbers with the few draws that data making needs. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  /** Uniform integer in [0, n). */
  below(n: number): number;
  /** One item; throws on an empty list. */
  pick<T>(items: readonly T[]): T;
  /** A key, drawn in proportion to its weight. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K;
  /** A shuffled copy. */
  shuffle<T>(items: readonly T[]): T[];
}

/** Makes a generator; `purpose` reads like "7/policy". */
export function makeRandom(purpose: string): Random {
  const next = seedrandom(purpose);
  const below = (n: number): number => Math.floor(next() * n);
  return {
    next: () => next(),
    chance: (probability) => next() < probability,
    below,
    pick<T>(items: readonly T[]): T {
      if (items.length === 0)
        throw new ConfigError({ where: `random ${purpose}`, what: "nothing to pick from", expected: "a list of 1 or more", got: "0" });
      return items[below(items.length)] as T;
    },
    weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
      const entries = Object.entries(weights) as [K, number][];
      let rest = next() * entries.reduce((sum, entry) => sum + entry[1], 0);
      for (const [key, weight] of entries) {
        if (rest < weight) return key;
        rest -= weight;
      }
      return (entries[entries.length - 1] as [K, number])[0];
    },
    shuffle<T>(items: readonly T[]): T[] {
      const copy = items.slice();
      for (let i = copy.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
      }
      return copy;
    },
  };
}
