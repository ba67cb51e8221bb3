/** What a rollout is paid: a score by name, or a function of one's own. */
import { reward as scored, rewardNames, usualRules, type ScoreRules } from "../rl/reward.ts";
import type { SearchTrajectory } from "../rl/trajectory.ts";
import { loadModule, type Shape } from "../setup/user-module.ts";
import { ConfigError } from "../util/errors.ts";
import { callOwn, kindOf } from "../util/own-code.ts";

/**
 * The reward of one rollout: a finite number, larger is better. `rules` are those by which the run compares answers, for `scoreAnswer`. Its
 * `name` is kept with the run.
 */
export type Reward = (trajectory: SearchTrajectory, rules: ScoreRules) => number | Promise<number>;

export const rewardShape: Shape = {
  what: "a function that is given a trajectory and returns a number, or a promise of one",
  fits: (value) => typeof value === "function",
};

/** The reward that `reward.kind` names: a score, or a module of the user's own. @throws as `loadModule` */
export async function openReward(kind: string): Promise<Reward> {
  const known = rewardNames.find((name) => name === kind);
  if (known === undefined) return loadModule(kind, "reward.kind", rewardShape);
  return Object.defineProperty<Reward>((trajectory, rules) => scored(trajectory, known, rules), "name", { value: known });
}

/**
 * The rewards of rollouts, in their order.
 * @throws ZeroSearchError where the reward throws or is no finite number, naming the rollout.
 */
export async function payAll(reward: Reward, trajectories: readonly SearchTrajectory[], rules: ScoreRules = usualRules): Promise<number[]> {
  return Promise.all(
    trajectories.map(async (trajectory) => {
      const { step, question, rollout } = trajectory.key;
      const where = `reward ${reward.name || "(a function without a name)"} of rollout ${step}/${question}/${rollout}`;
      const paid: unknown = await callOwn(where, () => reward(trajectory, rules));
      if (typeof paid === "number" && Number.isFinite(paid)) return paid;
      throw new ConfigError({ where, what: "is not a number", expected: "a finite number", got: kindOf(paid) });
    }),
  );
}
