/**
 * The curriculum: how likely a search is to be answered with noise, rising over training, and the draw for one search.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.3: p_i = p_s + (b^(i/m) - 1) / (b - 1) (p_e - p_s), with b = 4.
 */
import type { TrajectoryKey } from "../generate/types.ts";
import type { DocumentKind } from "../rl/trajectory.ts";
import { ConfigError } from "../util/errors.ts";
import { streamKey, uniform } from "../util/philox.ts";

export interface NoiseSchedule {
  /** Probability of noise at step 0 (p_s). */
  readonly start: number;
  /** Probability of noise from step `steps` on (p_e); below `start` the curriculum runs backwards. */
  readonly end: number;
  /** Training steps over which it goes from one to the other (m). */
  readonly steps: number;
  /** b; 4 in the paper. 1 is the straight line, the limit of the formula. */
  readonly base?: number;
}

/**
 * The probability of noise at a step (counted from 1).
 * @throws ConfigError for a probability outside [0, 1], a base that is not positive, or no steps.
 */
export function noiseProbability(step: number, { start, end, steps, base = 4 }: NoiseSchedule): number {
  for (const [name, value] of [
    ["start", start],
    ["end", end],
  ] as const) {
    if (!(value >= 0 && value <= 1))
      throw new ConfigError({ where: `curriculum.${name}`, what: "not a probability", expected: "0 to 1", got: String(value) });
  }
  if (!(base > 0 && base < Infinity))
    throw new ConfigError({ where: "curriculum.base", what: "wrong base", expected: "a number above 0", got: String(base) });
  if (!(steps >= 1)) throw new ConfigError({ where: "curriculum.steps", what: "too few steps", expected: "1 or more", got: String(steps) });
  if (step >= steps) return end;
  const done = Math.max(0, step) / steps;
  const share = base === 1 ? done : (base ** done - 1) / (base - 1);
  return start + share * (end - start);
}

/**
 * Useful or noisy, for one search of one rollout: a pure function of seed, trajectory and turn, whatever the scheduling.
 * A probability of 0 is never noisy, of 1 always.
 */
export function drawKind(seed: number, key: TrajectoryKey, turn: number, probability: number): Exclude<DocumentKind, "real"> {
  return uniform(streamKey(seed, "curriculum"), [key.step, key.question, key.rollout, turn]) < probability ? "noisy" : "useful";
}
