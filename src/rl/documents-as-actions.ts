/**
 * compat.documentsAsActions: the released code takes documents for tokens that the policy chose, wherever its masks are those of attention: in
 * GAE, in the whitening of advantages and in the critic's loss.
 *
 * Source: ZeroSearch's code, `ray_trainer.py` 127 and `dp_critic.py` 178.
 */
import type { Scored, Trajectory } from "./trajectory.ts";
import type { TokenValues } from "./value-targets.ts";

/** A loss mask that takes in what was put between the policy's own tokens: 1 from the first of them to the last. */
export function withDocuments(lossMask: readonly number[]): number[] {
  const [first, last] = [lossMask.indexOf(1), lossMask.lastIndexOf(1)];
  return lossMask.map((_, t) => (first >= 0 && t >= first && t <= last ? 1 : 0));
}

/** Rollouts as if the policy had sampled their documents, with the values of them: for the loss of a critic, and for nothing else. */
export function asActions(batch: readonly Scored[], values: TokenValues): { readonly batch: Scored[]; readonly values: TokenValues } {
  const taken = batch.map((row) => ({ ...row, trajectory: { ...row.trajectory, lossMask: withDocuments(row.trajectory.lossMask) } }));
  const known = taken.flatMap(({ trajectory }, i): [Trajectory, Float64Array][] => {
    const own = values.get((batch[i] as Scored).trajectory);
    return own === undefined ? [] : [[trajectory, own]];
  });
  return { batch: taken, values: new Map(known) };
}
