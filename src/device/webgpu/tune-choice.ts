/** Which variant is taken, given the times of all: a clear win or none, so that noise chooses nothing. */
import type { Tuning } from "./tuning.ts";

/** How many times as fast a variant must be, and as slow it may be nowhere. */
const clearly = 1.05;

export interface Candidate {
  readonly tuning: Tuning;
  /** Seconds by product. */
  readonly times: readonly number[];
}

/**
 * The fastest candidate by the mean over the products on which it differs, if it is at least 5 % faster there and on none of them 5 % slower.
 * A product that it does not change has the very time of `base`.
 */
export function clearWinner(base: readonly number[], candidates: readonly Candidate[]): Candidate | null {
  let best: Candidate | null = null;
  let gained = 0;
  for (const candidate of candidates) {
    const { times } = candidate;
    if (times.length !== base.length) continue;
    const gains = times.map((time, i) => Math.log(base[i]! / time)).filter((gain) => gain !== 0);
    const all = gains.reduce((sum, gain) => sum + gain, 0);
    const clear = gains.length > 0 && all / gains.length >= Math.log(clearly) && gains.every((gain) => gain > -Math.log(clearly));
    if (!clear || all <= gained) continue;
    best = candidate;
    gained = all;
  }
  return best;
}
