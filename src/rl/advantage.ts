/**
 * From rewards to advantages: one number for each rollout, or one for each token that the policy sampled. docs/algorithms.md has them side by side.
 *
 * Sources: GRPO, Shao et al. 2024 (arXiv 2402.03300); without the division by std, Liu et al. 2025 (Dr. GRPO, arXiv 2503.20783);
 * RLOO, Ahmadian et al. 2024 (arXiv 2402.14740); REINFORCE as ZeroSearch uses it: the reward itself, no baseline; REINFORCE++, Hu 2025
 * (arXiv 2501.03262): the return from each token, whitened; GAE, Schulman et al. 2016 (arXiv 1506.02438).
 */
import { ConfigError, ShapeError } from "../util/errors.ts";
import { nameOf, refuseTwins } from "./check-batch.ts";
import { withDocuments } from "./documents-as-actions.ts";
import { generalizedAdvantages, whiten, type GaeSettings } from "./gae.ts";
import { advantageAt, groupIndices } from "./mini-batches.ts";
import { advantageNames, type AdvantageName } from "./settings.ts";
import type { Scored, Trajectory } from "./trajectory.ts";

export { advantageNames, type AdvantageName };

export interface AdvantageSettings extends Partial<GaeSettings> {
  readonly estimator: AdvantageName;
  /** grpo only: divide by (std + 1e-6), std with n - 1. True unless told. */
  readonly normalizeByStd?: boolean;
  /** All policy tokens that are scored together, to mean 0 and deviation 1; reinforce_plus_plus does so always. */
  readonly whiten?: boolean;
  /** compat: tokens between those that the policy sampled count as its own, in sums that run back and in whitening. False unless told. */
  readonly documentsAsActions?: boolean;
}

/** What the reward of a rollout is not alone in. */
export interface TokenRewards {
  /** Added to the reward of each rollout, by its place: the reward that is logged is without it. */
  readonly shaping?: readonly number[];
  /** Taken from the reward of each token that the policy sampled, in order: KL to a reference, weighted. */
  readonly penalties?: ReadonlyMap<Trajectory, ArrayLike<number>>;
  /** The critic's values, aligned with `ids`: gae needs them. */
  readonly values?: ReadonlyMap<Trajectory, ArrayLike<number>>;
}

const STD_EPS = 1e-6;

/**
 * Advantages of one group of rollouts of one question. A group whose rewards are all equal gets exactly 0 from grpo, dr_grpo and rloo.
 * @throws ConfigError for a group of one with these: it has no baseline; for an estimator that is not one of a whole rollout.
 */
export function groupAdvantages(
  rewards: readonly number[],
  { estimator, normalizeByStd = true }: Pick<AdvantageSettings, "estimator" | "normalizeByStd">,
): number[] {
  if (!advantageNames.includes(estimator) || ofTokens(estimator)) {
    throw new ConfigError({
      where: "advantage",
      what: "unknown estimator",
      expected: advantageNames.filter((name) => !ofTokens(name)).join(", "),
      got: JSON.stringify(estimator),
    });
  }
  if (estimator === "reinforce") return [...rewards];
  const size = rewards.length;
  if (size === 1) {
    throw new ConfigError({
      where: "advantage",
      what: `${estimator} needs several rollouts of each question`,
      expected: "a group of 2 or more",
      got: "1",
      hint: "Raise train.groupSize, or use the estimator reinforce.",
    });
  }
  // Equal rewards are told apart from the rounding of their mean, which would be blown up by 1 / 1e-6.
  if (rewards.every((value) => value === rewards[0])) return rewards.map(() => 0);
  const mean = rewards.reduce((sum, value) => sum + value, 0) / size;
  if (estimator === "rloo") return rewards.map((value) => (size / (size - 1)) * (value - mean));
  if (estimator === "dr_grpo" || !normalizeByStd) return rewards.map((value) => value - mean);
  const std = Math.sqrt(rewards.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (size - 1));
  return rewards.map((value) => (value - mean) / (std + STD_EPS));
}

/**
 * Scores trajectories in their order. Groups are keyed by (step, question) of their keys, never by a field of the data set: two rows may
 * share an id, and one row may be asked twice.
 *
 * A trajectory whose reward is null is left out, of the result and of its group: the others' advantages are those of a group without it. Where
 * that leaves one, which nothing is left to be compared with, its advantage is 0.
 * @throws ShapeError when the lists differ in length, two trajectories have one key, a reward, a penalty or a value is not finite, or values are missing.
 */
export function scoreTrajectories<T extends Trajectory>(
  trajectories: readonly T[],
  rewards: readonly (number | null)[],
  settings: AdvantageSettings,
  { shaping, penalties, values }: TokenRewards = {},
): Scored<T>[] {
  for (const [name, list] of Object.entries({ rewards, shaping }))
    if (list !== undefined && list.length !== trajectories.length)
      throw new ShapeError({
        where: "advantage",
        what: `${name} do not fit trajectories`,
        expected: `${trajectories.length} ${name}`,
        got: `${list.length}`,
      });
  refuseTwins(trajectories);
  const paid = trajectories.flatMap((trajectory, i) => {
    if (rewards[i] === null) return [];
    const reward = finite(rewards[i], i);
    const tokens = penalties === undefined ? [] : penaltyList(trajectory, penalties.get(trajectory));
    return [{ trajectory, reward, total: reward + (shaping?.[i] ?? 0), tokens }];
  });
  const scored = ofTokens(settings.estimator)
    ? paid.map(({ trajectory, reward, total, tokens }) => {
        return { trajectory, reward, ...ahead(trajectory, tokenRewards(trajectory, total, tokens), settings, values) };
      })
    : byGroup(trajectories, paid, settings);
  return settings.whiten === true || settings.estimator === "reinforce_plus_plus" ? whitened(scored, settings) : scored;
}

/** Whether the estimator gives every token an advantage of its own. */
function ofTokens(estimator: AdvantageName): boolean {
  return estimator === "gae" || estimator === "reinforce_plus_plus";
}

/** A rollout with its reward, what that is with all that comes to it but KL, and KL token by token. */
interface Paid<T extends Trajectory> {
  readonly trajectory: T;
  readonly reward: number;
  readonly total: number;
  readonly tokens: readonly number[];
}

/** @param all - those whose reward failed, too */
function byGroup<T extends Trajectory>(all: readonly T[], paid: readonly Paid<T>[], settings: AdvantageSettings): Scored<T>[] {
  const sizes = new Map([...groupIndices(all)].map(([name, members]) => [name, members.length]));
  const advantages = new Array<number>(paid.length);
  for (const [name, members] of groupIndices(paid.map(({ trajectory }) => trajectory))) {
    const group = members.map((index) => {
      const { total, tokens } = paid[index] as Paid<T>;
      return total - tokens.reduce((sum, value) => sum + value, 0);
    });
    const alone = group.length === 1 && sizes.get(name) !== 1 && settings.estimator !== "reinforce";
    (alone ? [0] : groupAdvantages(group, settings)).forEach((value, i) => {
      advantages[members[i] as number] = value;
    });
  }
  return paid.map(({ trajectory, reward }, i) => ({ trajectory, reward, advantage: advantages[i] as number }));
}

/** Advantages and returns of the tokens of one rollout. */
function ahead(
  trajectory: Trajectory,
  rewards: Float64Array,
  { estimator, gamma = 1, lambda = 1, documents = "skip", documentsAsActions = false }: AdvantageSettings,
  values: TokenRewards["values"],
): Pick<Scored, "advantage" | "returns"> {
  const { key } = trajectory;
  const lossMask = documentsAsActions ? withDocuments(trajectory.lossMask) : trajectory.lossMask;
  if (estimator === "reinforce_plus_plus") {
    const nothing = new Float64Array(lossMask.length);
    const { advantages } = generalizedAdvantages({ lossMask, rewards, values: nothing }, { gamma, lambda: 1, documents });
    return { advantage: advantages };
  }
  const own = values?.get(trajectory);
  if (own === undefined)
    throw new ShapeError({ where: nameOf(key), what: "gae needs the critic's values", expected: `${lossMask.length}`, got: "none" });
  const { advantages, returns } = generalizedAdvantages({ lossMask, rewards, values: own }, { gamma, lambda, documents });
  return { advantage: advantages, returns };
}

/** What each token of `ids` earns: the reward at the last that the policy sampled, less the penalties. */
function tokenRewards({ lossMask }: Trajectory, reward: number, penalties: readonly number[]): Float64Array {
  const rewards = new Float64Array(lossMask.length);
  const last = lossMask.lastIndexOf(1);
  if (last >= 0) rewards[last] = reward;
  let at = 0;
  lossMask.forEach((mask, t) => {
    if (mask === 1 && penalties.length > 0) rewards[t] = (rewards[t] as number) - (penalties[at++] as number);
  });
  return rewards;
}

function penaltyList({ key, lossMask }: Trajectory, own: ArrayLike<number> | undefined): number[] {
  const count = lossMask.reduce((sum, mask) => sum + mask, 0);
  const list = Array.from(own ?? []);
  if (list.length !== count || !list.every(Number.isFinite))
    throw new ShapeError({
      where: nameOf(key),
      what: "penalties do not fit the policy tokens",
      expected: `${count} finite numbers`,
      got: own === undefined ? "none" : list.length === count ? String(list.find((value) => !Number.isFinite(value))) : `${list.length}`,
    });
  return list;
}

function whitened<T extends Trajectory>(
  scored: readonly Scored<T>[],
  { documentsAsActions = false }: Pick<AdvantageSettings, "documentsAsActions">,
): Scored<T>[] {
  const rows = scored.map((row) => {
    const { lossMask: own } = row.trajectory;
    const lossMask = documentsAsActions ? withDocuments(own) : own;
    return { lossMask, advantages: lossMask.map((mask, t) => (mask === 1 ? advantageAt(row, t) : 0)) };
  });
  return whiten(rows).map((advantage, i) => ({ ...(scored[i] as Scored<T>), advantage }));
}

function finite(value: number | null | undefined, index: number): number {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new ShapeError({ where: "advantage", what: `reward ${index} is not a number`, expected: "a finite number", got: String(value) });
}
