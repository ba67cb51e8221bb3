/** Small statistics for reports and metrics. Bootstrap resamples are drawn by Philox, so that an interval is a function of its input. */
import { philox, streamKey } from "./philox.ts";

/** Arithmetic mean; NaN for no values. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ?? NaN;
  return sum / values.length;
}

/** Unbiased standard deviation (n - 1 in the denominator); 0 for one value, NaN for none. */
export function standardDeviation(values: ArrayLike<number>): number {
  if (values.length < 2) return values.length === 1 ? 0 : NaN;
  const centre = mean(values);
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += ((values[i] ?? NaN) - centre) ** 2;
  return Math.sqrt(squares / (values.length - 1));
}

/** The q-quantile (0 <= q <= 1), linear between neighbours (type 7 of Hyndman and Fan 1996, as NumPy has it); NaN for no values. */
export function quantile(values: ArrayLike<number>, q: number): number {
  return quantileOfSorted(Float64Array.from(values).sort(), q);
}

export function median(values: ArrayLike<number>): number {
  return quantile(values, 0.5);
}

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface BootstrapOptions {
  /** Resamples. */
  readonly samples?: number;
  readonly seed?: number;
  /** Share of the resampled means inside the interval. */
  readonly level?: number;
}

/**
 * Percentile bootstrap interval of the mean (Efron 1979): values are drawn with replacement, as many as there are, `samples` times.
 * The same values in the same order with the same seed give the same interval. NaN for no values.
 */
export function bootstrapInterval(values: ArrayLike<number>, { samples = 2000, seed = 0, level = 0.95 }: BootstrapOptions = {}): Interval {
  const [means = new Float64Array(0)] = values.length === 0 ? [] : resampledMeans([values], { samples, seed });
  return percentileInterval(means, level);
}

/**
 * The means of bootstrap resamples of several columns over the same rows: each resample draws the same rows of all columns, so that the
 * difference of two columns' means is a paired one.
 * @param columns - equally long, at least one value each
 * @param stratum - a number for rows that are drawn apart from others (a question set): each has draws of its own
 * @returns a list of `samples` means for each column
 */
export function resampledMeans(
  columns: readonly ArrayLike<number>[],
  { samples, seed, stratum = 0 }: { readonly samples: number; readonly seed: number; readonly stratum?: number },
): Float64Array[] {
  const n = columns[0]?.length ?? 0;
  const key = streamKey(seed, "bootstrap");
  const rows = new Uint32Array(n);
  const means = columns.map(() => new Float64Array(samples));
  for (let sample = 0; sample < samples; sample++) {
    for (let drawn = 0; drawn < n; drawn += 4) {
      // A word w picks index floor(w n / 2^32): even to n / 2^32.
      const words = philox(key, [drawn >>> 2, sample, stratum, 0]);
      for (let i = 0; i < 4 && drawn + i < n; i++) rows[drawn + i] = Math.floor(((words[i] ?? 0) * n) / 2 ** 32);
    }
    for (const [c, values] of columns.entries()) {
      let sum = 0;
      for (const row of rows) sum += values[row] ?? NaN;
      (means[c] as Float64Array)[sample] = sum / n;
    }
  }
  return means;
}

/** The interval that holds the middle `level` of resampled values; NaN for none. */
export function percentileInterval(resampled: Float64Array, level = 0.95): Interval {
  const sorted = resampled.slice().sort();
  return { low: quantileOfSorted(sorted, (1 - level) / 2), high: quantileOfSorted(sorted, (1 + level) / 2) };
}

function quantileOfSorted(sorted: Float64Array, q: number): number {
  if (sorted.length === 0) return NaN;
  const position = (sorted.length - 1) * q;
  const below = sorted[Math.floor(position)] ?? NaN;
  const above = sorted[Math.ceil(position)] ?? NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/** The 95 % interval of a share by Wilson's score (1927): of 0 of n too, which resampling says nothing of. NaN for n = 0. */
export function shareInterval(count: number, n: number): Interval {
  const z = 1.959964;
  const share = count / n;
  const centre = share + (z * z) / (2 * n);
  const half = z * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return { low: Math.max(0, (centre - half) / scale), high: Math.min(1, (centre + half) / scale) };
}
