/** What a rollout is paid: a score by name, or a function of one's own. */
import { reward as scored, rewardNames } from "../rl/reward.ts";
import type { SearchTrajectory } from "../rl/trajectory.ts";
import { loadModule } from "../setup/user-module.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";

/** The reward of one rollout: a finite number, larger is better. Its `name` is kept with the run. */
export type Reward = (trajectory: SearchTrajectory) => number | Promise<number>;

/** The reward that `reward.kind` names: a score, or a module of the user's own. @throws as `loadModule` */
export async function openReward(kind: string): Promise<Reward> {
  const known = rewardNames.find((name) => name === kind);
  if (known !== undefined) return named(known, (trajectory) => scored(trajectory, known));
  return loadModule(kind, {
    key: "reward.kind",
    what: "a function that is given a trajectory and returns a number, or a promise of one",
    take: (exported, file) => {
      if (typeof exported !== "function") return null;
      const own = ["", "default"].includes(exported.name) ? file : exported.name;
      return named(own, exported as Reward);
    },
  });
}

function named(name: string, pay: Reward): Reward {
  return Object.defineProperty<Reward>((trajectory) => pay(trajectory), "name", { value: name });
}

/**
 * The rewards of rollouts, in their order.
 * @throws ZeroSearchError where the reward throws or is no finite number, naming the rollout.
 */
export async function payAll(reward: Reward, trajectories: readonly SearchTrajectory[]): Promise<number[]> {
  return Promise.all(
    trajectories.map(async (trajectory) => {
      const { step, question, rollout } = trajectory.key;
      const where = `reward ${reward.name || "(a function without a name)"} of rollout ${step}/${question}/${rollout}`;
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
