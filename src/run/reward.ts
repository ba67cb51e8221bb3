/** What a rollout is paid: a term by name, a weighted sum of terms, or a function of one's own. */
import { parseReward, rewardText } from "../config/index.ts";
import { rewardTerm } from "../rl/reward-terms.ts";
import { usualRules, type ScoreRules } from "../rl/reward.ts";
import type { SearchTrajectory, Unpaid } from "../rl/trajectory.ts";
import { loadModule, type Shape } from "../setup/user-module.ts";
import { abortReason, withTimeout } from "../util/abort.ts";
import { ConfigError, ServerError } from "../util/errors.ts";
import { isModuleFile } from "../util/fields.ts";
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

/**
 * The reward that `reward.kind` (or what else `where` is) names: a module of the user's own, or a sum of terms, which is called as it is written.
 * @throws as `loadModule` and `parseReward`
 */
export async function openReward(kind: string, where = "reward.kind"): Promise<Reward> {
  if (isModuleFile(kind)) return loadModule(kind, where, rewardShape);
  const terms = parseReward(kind);
  const sum: Reward = (trajectory, rules) =>
    terms.reduce((total, { weight, term }) => total + weight * rewardTerm(trajectory, term, rules), 0);
  return Object.defineProperty(sum, "name", { value: rewardText(terms) });
}

export interface PayOptions {
  /** How the run compares answers; `usualRules` unless given. */
  readonly rules?: ScoreRules | undefined;
  /** Seconds that one reward may take; 0, as unless given, is no limit. All rollouts are paid at once. */
  readonly timeoutSeconds?: number;
  /** Whether it is borne that every one fails; else it is an error. */
  readonly allMayFail?: boolean;
  /** Fires when the run is to stop: rewards under way are given up. */
  readonly signal?: AbortSignal;
}

/** What rollouts earned. */
export interface Payments {
  /** In the order of the rollouts; null where the reward failed. */
  readonly rewards: readonly (number | null)[];
  /** Those rollouts, in their order. */
  readonly unpaid: readonly Unpaid<SearchTrajectory>[];
}

/**
 * Pays rollouts. A reward that throws, is no finite number or takes too long has failed: its rollout is not paid. Nor is one with status
 * "failed", whose reward is not asked.
 * @throws ZeroSearchError where every one fails and that is not borne, naming the first rollout (ServerError where that one's search failed); the signal's reason where it fires before all are paid.
 */
export async function payAll(
  reward: Reward,
  trajectories: readonly SearchTrajectory[],
  { rules = usualRules, timeoutSeconds = 0, allMayFail = false, signal }: PayOptions = {},
): Promise<Payments> {
  const throwIfStopped = (): void => {
    if (signal?.aborted === true) throw abortReason(signal);
  };
  throwIfStopped();
  // One controller for each rollout: a signal warns about more than ten listeners.
  const controllers = trajectories.map(() => new AbortController());
  const onAbort = (): void => {
    for (const controller of controllers) controller.abort(abortReason(signal as AbortSignal));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const outcomes = await Promise.allSettled(
    trajectories.map(async (trajectory, i) => {
      refuseFailed(trajectory);
      return pay(reward, trajectory, rules, timeoutSeconds, (controllers[i] as AbortController).signal);
    }),
  );
  signal?.removeEventListener("abort", onAbort);
  const failed = outcomes.flatMap((outcome, i) =>
    outcome.status === "fulfilled" ? [] : [{ trajectory: trajectories[i] as SearchTrajectory, error: outcome.reason as Error }],
  );
  const [first] = failed;
  if (first !== undefined) throwIfStopped();
  // Nothing can be learnt, and most likely never will: the reward itself is broken.
  if (first !== undefined && failed.length === trajectories.length && !allMayFail) throw first.error;
  return {
    rewards: outcomes.map((outcome) => (outcome.status === "fulfilled" ? outcome.value : null)),
    unpaid: failed.map(({ trajectory, error }) => ({
      trajectory,
      failure: error.message.split("\n")[0] as string,
      ...(trajectory.status === "failed" ? { cause: "search" as const } : {}),
    })),
  };
}

/** @throws ServerError for a rollout that a search of it, which failed for good, has ended. */
function refuseFailed({ status, key: { step, question, rollout }, searches }: SearchTrajectory): void {
  if (status !== "failed") return;
  throw new ServerError({
    where: `rollout ${step}/${question}/${rollout}`,
    what: `a search failed: ${searches.find(({ failure }) => failure !== undefined)?.failure ?? "it does not say why"}`,
    hint: "With search.onFailure=leave-out such rollouts are left out of what is learnt; a step in which all are ends the run.",
  });
}

async function pay(
  reward: Reward,
  trajectory: SearchTrajectory,
  rules: ScoreRules,
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<number> {
  const { step, question, rollout } = trajectory.key;
  const where = `reward ${reward.name || "(a function without a name)"} of rollout ${step}/${question}/${rollout}`;
  const call = (until: AbortSignal): Promise<unknown> => callOwn(where, () => reward(trajectory, rules), { signal: until });
  const outcome = timeoutSeconds === 0 ? { value: await call(signal) } : await withTimeout(timeoutSeconds, signal, call);
  if ("error" in outcome) {
    if (!outcome.timedOut) throw outcome.error;
    const hint = "reward.timeoutSeconds says how long it may take; 0 is no limit.";
    throw new ConfigError({ where, what: "takes too long", expected: `a number within ${timeoutSeconds} s`, got: "none", hint });
  }
  const paid = outcome.value;
  if (typeof paid === "number" && Number.isFinite(paid)) return paid;
  throw new ConfigError({ where, what: "is not a number", expected: "a finite number", got: kindOf(paid) });
}
