/**
 * How the rollouts of a step are cut: into optimiser batches (each one update), and those into micro-batches (each one forward and
 * backward). Only the first cut may change the result: what a token weighs in the loss is decided over the whole optimiser batch
 * (`loss-weights.ts`).
 */
import { ConfigError } from "../util/errors.ts";
import type { Scored, Trajectory } from "./trajectory.ts";

/**
 * Consecutive parts, as equal as they can be: of whole groups where there are at least as many groups as updates, of rollouts
 * otherwise. The order is kept; the questions of a step are in random order already.
 * @throws ConfigError for more updates than rollouts.
 */
export function splitUpdates<T extends Trajectory>(rows: readonly Scored<T>[], updates: number): Scored<T>[][] {
  if (!Number.isInteger(updates) || updates < 1 || updates > rows.length) {
    throw new ConfigError({
      where: "train.updatesPerStep",
      what: "cannot cut a step into so many updates",
      expected: `1 to ${rows.length}`,
      got: String(updates),
    });
  }
  const groups = [...groupIndices(rows.map(({ trajectory }) => trajectory)).values()];
  const units = groups.length >= updates ? groups : groups.flat().map((index) => [index]);
  return Array.from({ length: updates }, (_, part) =>
    units
      .slice(Math.round((part * units.length) / updates), Math.round(((part + 1) * units.length) / updates))
      .flat()
      .map((index) => rows[index] as Scored<T>),
  );
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

/** How many tokens the policy sampled. */
export function policyTokens({ lossMask }: Trajectory): number {
  return lossMask.reduce((sum, mask) => sum + mask, 0);
}

/** Tokens the policy sampled, over all rows. */
export function lossTokens(rows: readonly Scored[]): number {
  return rows.reduce((sum, { trajectory }) => sum + policyTokens(trajectory), 0);
}

/** The advantage of token `t` of a rollout. */
export function advantageAt({ advantage }: Scored, t: number): number {
  return typeof advantage === "number" ? advantage : (advantage[t] as number);
}

/**
 * Whether a rollout has any gradient. Where all its advantages are 0 the policy loss and its gradient are exactly 0, so without KL
 * and entropy terms its forward and backward may be left out; its tokens still count in the loss weights.
 */
export function hasGradient(row: Scored, { klCoef, entropyCoef }: { readonly klCoef: number; readonly entropyCoef: number }): boolean {
  const always = klCoef !== 0 || entropyCoef !== 0;
  return row.trajectory.lossMask.some((mask, t) => mask === 1 && (always || advantageAt(row, t) !== 0));
}

/** Tokens a rollout takes in a forward: those before its last policy token; what follows predicts nothing that is scored. */
export function forwardTokens({ lossMask }: Trajectory): number {
  return Math.max(0, lossMask.lastIndexOf(1));
}

/**
 * Consecutive micro-batches of at most `maxTokens` forward tokens each, all sampled at one temperature. A rollout that is longer stands
 * alone: a sequence is never split.
 */
export function microBatches<T extends Trajectory>(rows: readonly Scored<T>[], maxTokens: number): Scored<T>[][] {
  if (!(maxTokens >= 1))
    throw new ConfigError({ where: "train.microBatchTokens", what: "too few tokens", expected: "1 or more", got: String(maxTokens) });
  const batches: Scored<T>[][] = [];
  let open: Scored<T>[] = [];
  let tokens = 0;
  for (const row of rows) {
    const own = forwardTokens(row.trajectory);
    const [first = row] = open;
    const differs = row.trajectory.sampling.temperature !== first.trajectory.sampling.temperature;
    if (open.length > 0 && (differs || tokens + own > maxTokens)) {
      batches.push(open);
      open = [];
      tokens = 0;
    }
    open.push(row);
    tokens += own;
  }
  if (open.length > 0) batches.push(open);
  return batches;
}
