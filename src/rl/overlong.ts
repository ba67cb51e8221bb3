/** A penalty on rollouts that nearly run out of room. Source: Yu et al. 2025 (DAPO, arXiv 2503.14476), equation 13. */

export interface OverlongSettings {
  /** Tokens at which the penalty is whole. Those of the policy count; documents are none of its doing. */
  readonly tokens: number;
  /** The last of them, over which it grows in a straight line. */
  readonly buffer: number;
  readonly penalty: number;
}

/** What is added to the reward of a rollout of so many policy tokens: from -penalty to 0. */
export function overlongShaping(policyTokens: number, { tokens, buffer, penalty }: OverlongSettings): number {
  const over = policyTokens - (tokens - buffer);
  return over <= 0 ? 0 : -penalty * Math.min(1, over / buffer);
}
