/**
 * Tests of paired differences: whether two ways of answering the same questions differ by more than chance would make them.
 *
 * Sources: Fisher 1935, "The Design of Experiments", 21 (sign flips of paired differences); Smucker, Allan and Carterette 2007 (the same for
 * retrieval systems over topics); Phipson and Smyth 2010 (the + 1 of a sampled p-value); Holm 1979 (many comparisons at once).
 */
import { philox, streamKey } from "./philox.ts";

/** Differences of one question set. */
export type Differences = ArrayLike<number>;

export interface SignFlipOptions {
  /** Sign patterns that are drawn where there are too many to try all. */
  readonly samples?: number;
  readonly seed?: number;
}

/** Scores are between 0 and 1, and means of several of them differ in their last bits where they are equal. */
const nothing = 1e-12;
/** So many differences that are not 0 have few enough sign patterns to try them all. */
const exactUpTo = 14;

/**
 * Two-sided p-value of the paired sign-flip permutation test. The statistic is the mean over sets of each set's mean difference; under the
 * hypothesis that both are equally good each difference might as well have the other sign. All patterns are tried where at most 14 differences
 * are not 0 (by 1e-12), else `samples` are drawn: p = (1 + as extreme) / (1 + drawn). 1 where no difference is other than 0.
 */
export function signFlipTest(sets: readonly Differences[], { samples = 10_000, seed = 0 }: SignFlipOptions = {}): number {
  const weighted: number[] = [];
  for (const differences of sets)
    for (let i = 0; i < differences.length; i++) {
      const value = differences[i] ?? 0;
      if (Math.abs(value) > nothing) weighted.push(value / (sets.length * differences.length));
    }
  if (weighted.length === 0) return 1;
  const signed = weighted.reduce((sum, value) => sum + value, 0);
  const observed = Math.abs(signed);
  const total = weighted.reduce((sum, value) => sum + Math.abs(value), 0);
  // Sums of the same numbers in another order differ in their last bits.
  const bound = observed - 1e-12 * total;
  const values = Float64Array.from(weighted);
  const extreme = (bits: (word: number) => number): boolean => {
    // Those that keep their sign; without a branch, which would be guessed wrong half the time.
    let kept = 0;
    for (let i = 0; i < values.length; i += 32) {
      const word = bits(i >>> 5);
      const end = Math.min(values.length, i + 32);
      for (let j = i; j < end; j++) kept += ((word >>> (j - i)) & 1) * (values[j] ?? 0);
    }
    return Math.abs(2 * kept - signed) >= bound;
  };
  let count = 0;
  if (weighted.length <= exactUpTo) {
    const patterns = 2 ** weighted.length;
    for (let pattern = 0; pattern < patterns; pattern++) if (extreme(() => pattern)) count++;
    return count / patterns;
  }
  const key = streamKey(seed, "bootstrap");
  for (let sample = 0; sample < samples; sample++) {
    // The last word of the counter keeps these draws apart from those of the bootstrap.
    let [block, words] = [-1, philox(key, [0, sample, 0, 1])];
    const bits = (word: number): number => {
      if (word >>> 2 !== block) [block, words] = [word >>> 2, philox(key, [word >>> 2, sample, 0, 1])];
      return words[word & 3] ?? 0;
    };
    if (extreme(bits)) count++;
  }
  return (1 + count) / (1 + samples);
}

/** Holm's step-down correction of a family of p-values, in their order: each may be read as if it were the only one. */
export function holm(p: readonly number[]): number[] {
  const order = p.map((_, i) => i).sort((a, b) => (p[a] ?? 0) - (p[b] ?? 0));
  const corrected = p.map(() => 1);
  let largest = 0;
  for (const [rank, i] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (p.length - rank) * (p[i] ?? 1)));
    corrected[i] = largest;
  }
  return corrected;
}
