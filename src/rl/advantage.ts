/**
 * From rewards to advantages: one number per rollout, for all of its policy tokens.
 *
 * Sources: GRPO, Shao et al. 2024 (arXiv 2402.03300); without the division by std, Liu et al. 2025 (Dr. GRPO, arXiv 2503.20783);
 * RLOO, Ahmadian et al. 2024 (arXiv 2402.14740); REINFORCE as ZeroSearch uses it: the reward itself, no baseline.
 */
import { ConfigError, ShapeError } from "../util/errors.ts";
import { refuseTwins } from "./check-batch.ts";
import type { Scored, Trajectory } from "./trajectory.ts";

export const advantageNames = ["grpo", "rloo", "reinforce"] as const;
export type AdvantageName = (typeof advantageNames)[number];

export interface AdvantageSettings {
  readonly estimator: AdvantageName;
  /** GRPO only: divide by (std + 1e-6), std with n - 1. */
  readonly normalizeByStd: boolean;
}

const STD_EPS = 1e-6;

/**
 * Advantages of one group of rollouts of one question. A group whose rewards are all equal gets exactly 0 from grpo and rloo.
 * @throws ConfigError for a group of one with grpo or rloo: it has no baseline.
 */
export function groupAdvantages(rewards: readonly number[], settings: AdvantageSettings): number[] {
  if (!advantageNames.includes(settings.estimator)) {
    throw new ConfigError({
      where: "advantage",
      what: "unknown estimator",
      expected: advantageNames.join(", "),
      got: JSON.stringify(settings.estimator),
    });
  }
  if (settings.estimator === "reinforce") return [...rewards];
  const size = rewards.length;
  if (size === 1) {
    throw new ConfigError({
      where: "advantage",
      what: `${settings.estimator} needs several rollouts of each question`,
      expected: "a group of 2 or more",
      got: "1",
      hint: "Raise train.groupSize, or use the estimator reinforce.",
    });
  }
  // Equal rewards are told apart from the rounding of their mean, which would be blown up by 1 / 1e-6.
  if (rewards.every((value) => value === rewards[0])) return rewards.map(() => 0);
  const mean = rewards.reduce((sum, value) => sum + value, 0) / size;
  if (settings.estimator === "rloo") return rewards.map((value) => (size / (size - 1)) * (value - mean));
  if (!settings.normalizeByStd) return rewards.map((value) => value - mean);
  const std = Math.sqrt(rewards.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (size - 1));
  return rewards.map((value) => (value - mean) / (std + STD_EPS));
}

/**
 * Scores trajectories in their order. Groups are keyed by (step, question) of their keys, never by a field of the data set: two rows may
 * share an id, and one row may be asked twice.
 * @throws ShapeError when the two lists differ in length, two trajectories have one key, or a reward is not finite.
 */
export function scoreTrajectories<T extends Trajectory>(
  trajectories: readonly T[],
  rewards: readonly number[],
  settings: AdvantageSettings,
): Scored<T>[] {
  if (trajectories.length !== rewards.length) {
    throw new ShapeError({
      where: "advantage",
      what: "rewards do not fit trajectories",
      expected: `${trajectories.length} rewards`,
      got: `${rewards.length}`,
    });
  }
  refuseTwins(trajectories);
  const advantages = new Array<number>(rewards.length);
  for (const members of groupIndices(trajectories).values()) {
    const group = members.map((index) => finite(rewards[index], index));
    groupAdvantages(group, settings).forEach((value, i) => {
      advantages[members[i] as number] = value;
    });
  }
  return trajectories.map((trajectory, i) => ({ trajectory, reward: rewards[i] as number, advantage: advantages[i] as number }));
}

/** Indices of the members of each group, by (step, question), in order of first appearance. */
export function groupIndices(trajectories: readonly Trajectory[]): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  trajectories.forEach(({ key: { step, question } }, index) => {
    const name = `${step}/${question}`;
    const members = groups.get(name);
    if (members === undefined) groups.set(name, [index]);
    else members.push(index);
  });
  return groups;
}

function finite(value: number | undefined, index: number): number {
  if (value !== undefined && Number.isFinite(value)) return value;
  throw new ShapeError({ where: "advantage", what: `reward ${index} is not a number`, expected: "a finite number", got: String(value) });
}
