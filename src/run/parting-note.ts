/** A word of warning when simulation and reality part ways. */

/** One validation of a run. */
export interface ValidationPoint {
  readonly step: number;
  /** Mean simulated reward of the training steps since the validation before. */
  readonly simulatedReward: number;
  /** The share of noise in these steps: the reward falls as it rises. */
  readonly noise: number;
  /** F1 on the validation questions with the real engine. */
  readonly realF1: number;
}

/**
 * Says where simulated reward and real-engine F1 parted ways: the real F1 ended more than `margin` below its best while the simulated
 * reward, counted per useful document set (over 1 - noise, since a noisy set can pay nothing), did not fall. Undefined where they did not.
 */
export function partingNote(points: readonly ValidationPoint[], margin = 0.03): string | undefined {
  const last = points.at(-1);
  const best = points.reduce<ValidationPoint | undefined>(
    (top, point) => (top === undefined || point.realF1 > top.realF1 ? point : top),
    undefined,
  );
  if (last === undefined || best === undefined || best === last) return undefined;
  const share = (value: number): string => value.toFixed(3);
  const perUseful = (point: ValidationPoint) => point.simulatedReward / Math.max(0.05, 1 - point.noise);
  if (last.realF1 > best.realF1 - margin || perUseful(last) < perUseful(best)) return undefined;
  return (
    `Over-optimisation: since step ${best.step} F1 with the real engine fell from ${share(best.realF1)} to ${share(last.realF1)} while the reward ` +
    `from the simulator went from ${share(best.simulatedReward)} (noise ${share(best.noise)}) to ${share(last.simulatedReward)} (noise ${share(last.noise)}): ` +
    `the policy is learning the simulator. The best state, step ${best.step}, is kept.`
  );
}
