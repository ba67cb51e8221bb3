/**
 * How the rollouts of a step are cut: into optimiser batches (each one update), and those into micro-batches (each one forward and
 * backward). Only the first cut may change the result: the loss is the mean over the policy tokens of the whole optimiser batch,
 * so every micro-batch is scaled by 1 / their number.
 */
import { ConfigError } from "../util/errors.ts";
import { groupIndices } from "./advantage.ts";
import type { ScoredTrajectory, Trajectory } from "./trajectory.ts";

/**
 * Consecutive parts, as equal as they can be: of whole groups where there are at least as many groups as updates, of rollouts
 * otherwise. The order is kept; the questions of a step are in random order already.
 * @throws ConfigError for more updates than rollouts.
 */
export function splitUpdates(rows: readonly ScoredTrajectory[], updates: number): ScoredTrajectory[][] {
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
      .map((index) => rows[index] as ScoredTrajectory),
  );
}

/** Tokens the policy sampled, over all rows: what the loss is averaged over. */
export function lossTokens(rows: readonly ScoredTrajectory[]): number {
  return rows.reduce((sum, { trajectory }) => sum + trajectory.lossMask.reduce((own, mask) => own + mask, 0), 0);
}

/**
 * Whether a rollout has any gradient. With advantage 0 the policy loss and its gradient are exactly 0, so without KL and entropy
 * terms its forward and backward may be left out; its tokens still count in the mean.
 */
export function hasGradient(
  { trajectory, advantage }: ScoredTrajectory,
  { klCoef, entropyCoef }: { readonly klCoef: number; readonly entropyCoef: number },
): boolean {
  return trajectory.lossMask.includes(1) && (advantage !== 0 || klCoef !== 0 || entropyCoef !== 0);
}

/** Tokens a rollout takes in a forward: those before its last policy token; what follows predicts nothing that is scored. */
export function forwardTokens({ lossMask }: Trajectory): number {
  return Math.max(0, lossMask.lastIndexOf(1));
}

/** Consecutive micro-batches of at most `maxTokens` forward tokens each. A rollout that is longer stands alone: a sequence is never split. */
export function microBatches(rows: readonly ScoredTrajectory[], maxTokens: number): ScoredTrajectory[][] {
  if (!(maxTokens >= 1))
    throw new ConfigError({ where: "train.microBatchTokens", what: "too few tokens", expected: "1 or more", got: String(maxTokens) });
  const batches: ScoredTrajectory[][] = [];
  let open: ScoredTrajectory[] = [];
  let tokens = 0;
  for (const row of rows) {
    const own = forwardTokens(row.trajectory);
    if (open.length > 0 && tokens + own > maxTokens) {
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
