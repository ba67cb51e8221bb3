/** Learning rates over the steps of a run: linear warm-up, then constant or cosine (Loshchilov & Hutter 2017, arXiv:1608.03983). */
export interface LearningRateSchedule {
  readonly kind: "constant" | "cosine";
  readonly peak: number;
  /** Steps over which the rate rises to `peak`; the first step has peak / warmupSteps. */
  readonly warmupSteps: number;
  /** Steps of the whole run; the last one has peak * finalFraction (cosine). */
  readonly totalSteps: number;
  readonly finalFraction?: number;
}

/** The rate of step `step`, counted from 0. */
export function learningRate(schedule: LearningRateSchedule, step: number): number {
  const { kind, peak, warmupSteps, totalSteps, finalFraction = 0 } = schedule;
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  if (kind === "constant") return peak;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - 1 - warmupSteps));
  return peak * (finalFraction + (1 - finalFraction) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
