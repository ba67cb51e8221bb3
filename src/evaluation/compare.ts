/**
 * Statistics of an evaluation. All rows of the table answered the same questions, so their resamples are drawn together: an interval of a
 * difference is that of paired differences. The mean over sets weighs each set alike, as the paper's average does, and its resamples are drawn within
 * the sets. p-values are those of the paired sign-flip permutation test, over all questions, corrected by Holm for all comparisons of one score.
 */
import { rewardNames, type RewardName } from "../rl/reward.ts";
import { holm, signFlipTest } from "../util/paired.ts";
import { mean, percentileInterval, resampledMeans, type Interval } from "../util/stats.ts";
import type { CellTally, SetTally } from "./tally.ts";

/** A mean and its 95 % percentile bootstrap interval. */
export interface Estimate extends Interval {
  readonly mean: number;
}

/** Of one set, or of the mean over sets. */
export interface Estimates extends Readonly<Record<RewardName, Estimate>> {
  readonly n: number;
  /** Searches a question. */
  readonly searches: number;
  /** Share of rollouts that answered without an invalid action. */
  readonly valid: number;
  /** Tokens that the policy sampled, a question. */
  readonly tokens: number;
}

/** A row of the table. */
export interface ComparedRow {
  readonly method: string;
  readonly engine: string;
  readonly sets: ReadonlyMap<string, Estimates>;
  /** Mean over the sets; `n` is the number of all questions. */
  readonly average: Estimates;
}

/** How much better `row` is than `than`, of one score. */
export interface Comparison extends Interval {
  /** Whether methods differ, or the engines of one method. */
  readonly of: "methods" | "engines";
  readonly row: RowName;
  readonly than: RowName;
  readonly score: RewardName;
  readonly n: number;
  /** Mean over the sets of the mean difference. */
  readonly difference: number;
  readonly p: number;
  /** By Holm, over all comparisons of this score. */
  readonly pHolm: number;
  readonly sets: readonly SetDifference[];
}

export interface RowName {
  readonly method: string;
  readonly engine: string;
}

export interface SetDifference extends Interval {
  readonly set: string;
  readonly difference: number;
}

export interface CompareOptions {
  readonly seed: number;
  /** Bootstrap resamples; sign patterns are five times as many. */
  readonly samples: number;
  /** The method that the others are compared with. */
  readonly reference: string;
}

export interface Compared {
  readonly rows: readonly ComparedRow[];
  readonly comparisons: readonly Comparison[];
}

/** @param cells - of the same questions */
export function compare(cells: readonly CellTally[], options: CompareOptions): Compared {
  const names = [...(cells[0]?.sets.keys() ?? [])];
  const tallies = cells.map(({ sets }) => names.map((name) => sets.get(name) as SetTally));
  const resamples = new Resamples(tallies, options);
  const rows = cells.map(({ method, engine }, c): ComparedRow => {
    const own = tallies[c] ?? [];
    const sets = names.map((name, s) => [name, estimatesOf(own.slice(s, s + 1), (score) => resamples.of(c, score, [s]))] as const);
    const all = names.map((_, s) => s);
    return { method, engine, sets: new Map(sets), average: estimatesOf(own, (score) => resamples.of(c, score, all)) };
  });
  const pairs = pairsOf(cells, options.reference);
  const comparisons = rewardNames.flatMap((score) => {
    const found = pairs.map(({ a, b, of }) => {
      const differences = names.map((_, s) => differencesOf(tallies[a]?.[s], tallies[b]?.[s], score));
      const means = differences.map(mean);
      const sets = names.map((set, s) => ({ set, difference: means[s] ?? NaN, ...resamples.ofDifference(a, b, score, [s]) }));
      return {
        ...{ of, row: nameOf(cells[a]), than: nameOf(cells[b]), score },
        n: differences.reduce((sum, one) => sum + one.length, 0),
        difference: mean(means),
        ...resamples.ofDifference(
          a,
          b,
          score,
          names.map((_, s) => s),
        ),
        p: signFlipTest(differences, { samples: 5 * options.samples, seed: options.seed }),
        sets,
      };
    });
    const corrected = holm(found.map(({ p }) => p));
    return found.map(({ sets, ...one }, i): Comparison => ({ ...one, pHolm: corrected[i] ?? 1, sets }));
  });
  return { rows, comparisons };
}

interface Pair {
  readonly a: number;
  readonly b: number;
  readonly of: Comparison["of"];
}

/** Each method with the reference on the same engine; each engine of a method with the method's first. */
function pairsOf(cells: readonly CellTally[], reference: string): Pair[] {
  const references = cells.flatMap((cell, b) => (cell.method === reference ? [{ b, engine: cell.engine }] : []));
  const comparable = (one: string, other: string): boolean => one === other || one === "none" || other === "none";
  const methods = cells.flatMap((cell, a) =>
    cell.method === reference
      ? []
      : references.filter(({ engine }) => comparable(cell.engine, engine)).map(({ b }): Pair => ({ a, b, of: "methods" })),
  );
  const engines = cells.flatMap((cell, a): Pair[] => {
    const b = cells.findIndex(({ method }) => method === cell.method);
    return b === a ? [] : [{ a, b, of: "engines" }];
  });
  return [...methods, ...engines];
}

function nameOf(cell: CellTally | undefined): RowName {
  return { method: cell?.method ?? "", engine: cell?.engine ?? "" };
}

function differencesOf(a: SetTally | undefined, b: SetTally | undefined, score: RewardName): number[] {
  return (a?.scores[score] ?? []).map((value, i) => value - (b?.scores[score][i] ?? NaN));
}

function estimatesOf(sets: readonly SetTally[], interval: (score: RewardName) => Interval): Estimates {
  const average = (of: (one: SetTally) => number): number => mean(sets.map(of));
  const estimate = (score: RewardName): Estimate => ({ mean: average(({ scores }) => mean(scores[score])), ...interval(score) });
  return {
    n: sets.reduce((sum, { n }) => sum + n, 0),
    em: estimate("em"),
    subem: estimate("subem"),
    f1: estimate("f1"),
    searches: average(({ searches, n }) => searches / n),
    valid: average(({ valid, n }) => valid / n),
    tokens: average(({ tokens, n }) => tokens / n),
  };
}

/** Resampled means of every row, set and score: all rows of a set by the same draws. */
class Resamples {
  /** By set, then row and score. */
  readonly #means: readonly (readonly Float64Array[])[];
  readonly #samples: number;

  constructor(tallies: readonly (readonly SetTally[])[], { seed, samples }: CompareOptions) {
    this.#samples = samples;
    this.#means = (tallies[0] ?? []).map((_, stratum) =>
      resampledMeans(
        tallies.flatMap((sets) => rewardNames.map((score) => Float64Array.from(sets[stratum]?.scores[score] ?? []))),
        { seed, samples, stratum },
      ),
    );
  }

  /** The interval of the mean over some sets. */
  of(row: number, score: RewardName, sets: readonly number[]): Interval {
    return percentileInterval(this.#over(sets, (set, sample) => this.#at(set, row, score, sample)));
  }

  ofDifference(a: number, b: number, score: RewardName, sets: readonly number[]): Interval {
    return percentileInterval(this.#over(sets, (set, sample) => this.#at(set, a, score, sample) - this.#at(set, b, score, sample)));
  }

  #over(sets: readonly number[], value: (set: number, sample: number) => number): Float64Array {
    return Float64Array.from({ length: this.#samples }, (_, sample) => {
      let sum = 0;
      for (const set of sets) sum += value(set, sample);
      return sum / sets.length;
    });
  }

  #at(set: number, row: number, score: RewardName, sample: number): number {
    return this.#means[set]?.[row * rewardNames.length + rewardNames.indexOf(score)]?.[sample] ?? NaN;
  }
}
