/**
 * Generalised advantage estimation over the tokens of a rollout, and whitening of advantages.
 *
 * Between what the policy wrote stand documents, which it did not choose. A value there is no estimate of anything it did, so the default
 * leaves them out: the token before a document is followed by the token after it. The other rules are what other trainers do, by name.
 *
 * Source: Schulman et al. 2016 (arXiv 1506.02438), equations 11 to 16.
 */
import { ConfigError, ShapeError } from "../util/errors.ts";
import { documentRules, type DocumentRule } from "./settings.ts";

export interface GaeSettings {
  /** Discount of a token, 0 to 1. */
  readonly gamma: number;
  /** Decay of what lies further ahead, 0 to 1: 1 is the return less the value. */
  readonly lambda: number;
  readonly documents: DocumentRule;
}

/** Aligned, one entry a token. Nothing is read before the first token of mask 1; with `skip`, `zero` and `reset` nothing at all where the mask is 0. */
export interface ValuedTokens {
  /** 1 where the policy sampled. */
  readonly lossMask: readonly number[];
  /** The critic's estimate before each token. */
  readonly values: ArrayLike<number>;
  /** Mostly 0, and the score at the last token of mask 1. */
  readonly rewards: ArrayLike<number>;
}

export interface Estimates {
  /** 0 where the mask is 0. */
  readonly advantages: Float64Array;
  /** Advantage and value: what the critic learns. 0 where the mask is 0. */
  readonly returns: Float64Array;
}

/**
 * In float64, from the last token to the first.
 * @throws ConfigError for settings out of their range, ShapeError for lengths that differ.
 */
export function generalizedAdvantages({ lossMask, values, rewards }: ValuedTokens, { gamma, lambda, documents }: GaeSettings): Estimates {
  for (const [name, value] of Object.entries({ gamma, lambda }))
    if (!(value >= 0 && value <= 1))
      throw new ConfigError({ where: "gae", what: `wrong ${name}`, expected: "a number from 0 to 1", got: String(value) });
  if (!documentRules.includes(documents))
    throw new ConfigError({ where: "gae", what: "unknown rule for documents", expected: documentRules.join(", "), got: documents });
  const length = lossMask.length;
  if (values.length !== length || rewards.length !== length)
    throw new ShapeError({
      where: "gae",
      what: "values and rewards do not fit lossMask",
      expected: `${length} each`,
      got: `${values.length} and ${rewards.length}`,
    });
  const advantages = new Float64Array(length),
    returns = new Float64Array(length);
  let nextValue = 0,
    running = 0;
  for (let t = length - 1, first = lossMask.indexOf(1); first >= 0 && t >= first; t--) {
    const own = lossMask[t] === 1;
    if (!own && documents === "skip") continue;
    if (!own && documents === "reset") {
      nextValue = 0;
      running = 0;
      continue;
    }
    const real = own || documents === "plain";
    const value = real ? (values[t] as number) : 0;
    running = (real ? (rewards[t] as number) : 0) + gamma * nextValue - value + gamma * lambda * running;
    nextValue = value;
    if (!own) continue;
    advantages[t] = running;
    returns[t] = running + value;
  }
  return { advantages, returns };
}

const VARIANCE_EPS = 1e-8;

/**
 * Advantages of a whole optimiser batch less their mean and over their standard deviation, (x - mean) / sqrt(var + 1e-8), var with n - 1:
 * over tokens of mask 1 only. New arrays, 0 elsewhere. A single token becomes 0.
 * Source: the whitening of Ziegler et al. 2019 (arXiv 1909.08593), as verl and Search-R1 have it.
 */
export function whiten(rows: readonly { readonly lossMask: readonly number[]; readonly advantages: ArrayLike<number> }[]): Float64Array[] {
  const own = rows.flatMap(({ lossMask, advantages }) => lossMask.flatMap((mask, t) => (mask === 1 ? [advantages[t] as number] : [])));
  const mean = own.reduce((sum, value) => sum + value, 0) / Math.max(1, own.length);
  const variance = own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, own.length - 1);
  const factor = 1 / Math.sqrt(variance + VARIANCE_EPS);
  return rows.map(({ lossMask, advantages }) =>
    Float64Array.from(lossMask, (mask, t) => (mask === 1 ? ((advantages[t] as number) - mean) * factor : 0)),
  );
}
