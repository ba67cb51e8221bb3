/** What a rollout is paid: a score by name, or a function of one's own. */
import { reward as scored, type RewardName } from "../rl/reward.ts";
import type { Trajectory } from "../rl/trajectory.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";

/** The reward of one rollout: a finite number, larger is better. Its `name` is kept with the run. */
export type Reward = (trajectory: Trajectory) => number | Promise<number>;

/** The reward that `reward.kind` names. */
export function namedReward(kind: RewardName): Reward {
  const pay: Reward = (trajectory) => scored(trajectory, kind);
  return Object.defineProperty(pay, "name", { value: kind });
}

/**
 * The rewards of rollouts, in their order.
 * @throws ZeroSearchError where the reward throws or is no finite number, naming the rollout.
 */
export async function payAll(reward: Reward, trajectories: readonly Trajectory[]): Promise<number[]> {
  return Promise.all(
    trajectories.map(async (trajectory) => {
      const { step, questionIndex, rollout } = trajectory;
      const where = `reward ${reward.name || "(a function without a name)"} of rollout ${step}/${questionIndex}/${rollout}`;
      let paid: unknown;
      try {
        paid = await reward(trajectory);
      } catch (cause) {
        if (cause instanceof ZeroSearchError) throw cause;
        throw new ConfigError({ where, what: `fails: ${(cause as Error).message}` }, { cause });
      }
      if (typeof paid === "number" && Number.isFinite(paid)) return paid;
      throw new ConfigError({ where, what: "is not a number", expected: "a finite number", got: String(paid) });
    }),
  );
}
