/**
 * KL to a reference policy in the reward: an estimate for each token that the policy sampled, and a weight that adapts.
 *
 * Sources: Schulman 2020, "Approximating KL divergence"; the adaptive weight: Ziegler et al. 2019 (arXiv 1909.08593), 2.2.
 */
import type { KlEstimator } from "../ops/policy-loss.ts";

/** Beyond this a difference of log-probabilities says no more than that the two are far apart; e^20 is 5e8. */
const FAR = 20;

/** An estimate of KL(policy, reference) from one token that the policy sampled: d, d^2 / 2 or e^-d - 1 + d, with d = logProb - reference within ±20. */
export function klEstimate(logProb: number, reference: number, estimator: KlEstimator): number {
  const difference = Math.min(FAR, Math.max(-FAR, logProb - reference));
  if (estimator === "k1") return difference;
  if (estimator === "k2") return 0.5 * difference * difference;
  return Math.expm1(-difference) + difference;
}

/** The weight of KL in the reward: fixed, or moved towards a target. */
export class KlWeight {
  readonly #target: number;
  readonly #horizon: number;
  #coef: number;

  /**
   * @param target - KL of a token, as the mean over a step; 0 leaves the weight as it is
   * @param horizon - rollouts over which it would change by a fifth of itself
   */
  constructor(coef: number, { target, horizon }: { readonly target: number; readonly horizon: number }) {
    this.#coef = coef;
    this.#target = target;
    this.#horizon = horizon;
  }

  get coef(): number {
    return this.#coef;
  }

  /** After a step of `rollouts` rollouts whose tokens had the mean KL `kl`: coef *= 1 + clip(kl / target - 1, ±0.2) rollouts / horizon. */
  update(kl: number, rollouts: number): void {
    if (this.#target === 0) return;
    const error = Math.min(0.2, Math.max(-0.2, kl / this.#target - 1));
    this.#coef *= 1 + (error * rollouts) / this.#horizon;
  }

  /** Goes on with a weight that was saved. */
  resume(coef: number): void {
    this.#coef = coef;
  }
}
