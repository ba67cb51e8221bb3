/**
 * The curriculum: how likely a search is to be answered with noise, rising over training, and the draw for one search.
 *
 * Source: ZeroSearch (arXiv 2505.04588) 3.3: p_i = p_s + (b^(i/m) - 1) / (b - 1) (p_e - p_s), with b = 4. The other forms are ours, to compare with.
 */
import { mostTurns } from "../generate/random-keys.ts";
import type { TrajectoryKey } from "../generate/types.ts";
import type { DocumentKind } from "../rl/trajectory.ts";
import type { NoiseForm } from "./settings.ts";
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
  /** `rising` unless given. */
  readonly form?: NoiseForm;
  /** Of the form `random`: its steps are drawn by it. */
  readonly seed?: number;
}

/** Noise that answers to the policy: more while it earns more than a band, less while it earns less. Its level is a run's, and is saved with it. */
export class AdaptiveNoise {
  readonly #bounds: AdaptiveNoiseBounds;
  #level: number;

  /** Begins at `start`. @throws ConfigError for bounds that are none. */
  constructor(bounds: AdaptiveNoiseBounds) {
    const { start, end, low, high, change } = bounds;
    if (!(0 <= start && start <= end && end <= 1 && low <= high && change > 0))
      throw new ConfigError({
        where: "adaptive noise",
        what: "wrong bounds",
        expected: "0 <= start <= end <= 1, low <= high, change above 0",
        got: JSON.stringify(bounds),
      });
    this.#bounds = bounds;
    this.#level = start;
  }

  /** The probability of noise at the step under way. */
  get level(): number {
    return this.#level;
  }

  /** After a step. Without a reward nothing is known, and nothing changes. */
  update(reward: number | undefined): void {
    const { start, end, low, high, change } = this.#bounds;
    if (reward === undefined || (reward >= low && reward <= high)) return;
    this.#level = Math.min(end, Math.max(start, this.#level + (reward > high ? change : -change)));
  }

  /** Goes on with a level that was saved. */
  resume(level: number): void {
    this.#level = level;
  }

  /** In a recording the level is each search's own. */
  toJSON(): AdaptiveNoiseBounds {
    return this.#bounds;
  }
}

export interface AdaptiveNoiseBounds {
  /** The least probability of noise, at which it begins, and the largest. */
  readonly start: number;
  readonly end: number;
  /** The band of mean rewards in which it stays as it is. */
  readonly low: number;
  readonly high: number;
  /** By how much it changes a step. */
  readonly change: number;
}

/** How likely noise is: by a schedule, always the same, or as the policy earns. */
export type Noise = NoiseSchedule | number | AdaptiveNoise;

/** The probability of noise at a step (counted from 1). @throws as `noiseProbability` */
export function noiseAt(step: number, noise: Noise): number {
  if (noise instanceof AdaptiveNoise) return noise.level;
  return noiseProbability(step, typeof noise === "number" ? { start: noise, end: noise, steps: 1 } : noise);
}

/**
 * The probability of noise at a step (counted from 1).
 * @throws ConfigError for a probability outside [0, 1], a base that is not positive, or no steps.
 */
export function noiseProbability(step: number, { start, end, steps, base = 4, form = "rising", seed = 0 }: NoiseSchedule): number {
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
  if (form === "constant") return start;
  if (form === "random") return start + uniform(streamKey(seed, "curriculum"), [step, 0xffffffff, 0, 0]) * (end - start);
  if (form === "reversed") return noiseProbability(step, { start: end, end: start, steps, base });
  if (step >= steps) return end;
  const done = Math.max(0, step) / steps;
  const share = base === 1 ? done : (base ** done - 1) / (base - 1);
  return start + share * (end - start);
}

/**
 * Useful or noisy, for one search of one rollout: a pure function of seed, trajectory and turn, whatever the scheduling.
 * A probability of 0 is never noisy, of 1 always.
 * @param document - of one document by itself: its place in the set, from 0
 */
export function drawKind(
  seed: number,
  key: TrajectoryKey,
  turn: number,
  probability: number,
  document?: number,
): Exclude<DocumentKind, "real"> {
  const place = document === undefined ? turn : turn + mostTurns * (document + 1);
  return uniform(streamKey(seed, "curriculum"), [key.step, key.question, key.rollout, place]) < probability ? "noisy" : "useful";
}
