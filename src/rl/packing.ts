/**
 * From trajectories to the arrays of one micro-batch: sequences end to end, and of their N hidden states only the M rows that
 * predict a token the policy sampled. Nothing that stands at a masked position gets this far.
 */
import { ShapeError } from "../util/errors.ts";
import { forwardTokens } from "./mini-batches.ts";
import type { ScoredTrajectory, Trajectory } from "./trajectory.ts";

export interface MicroBatch {
  /** Ids of each sequence, up to the last that predicts a scored token: N in all. */
  readonly sequences: readonly (readonly number[])[];
  /** [M]: the packed token whose hidden state predicts each scored token (the one before it). */
  readonly rows: Uint32Array;
  /** [M]: the scored tokens. */
  readonly targets: Uint32Array;
  /** [M]: log-probability under the weights that sampled. */
  readonly oldLogProb: Float32Array;
  /** [M]: log-probability under the reference policy, if there is one. */
  readonly referenceLogProb: Float32Array | null;
  /** [M]: the rollout's advantage. */
  readonly advantage: Float32Array;
  /** [M]: all ones: only scored tokens are here. */
  readonly lossMask: Float32Array;
}

/** Log-probabilities of a rollout's policy tokens, in order, under another model than the one that sampled. */
export type TokenLogProbs = ReadonlyMap<Trajectory, Float32Array>;

/**
 * @param reference - of every trajectory here, when the loss has a KL term
 * @throws ShapeError when a trajectory's arrays do not fit each other, or it has no policy token.
 */
export function packMicroBatch(batch: readonly ScoredTrajectory[], reference: TokenLogProbs | null = null): MicroBatch {
  const rows: number[] = [],
    targets: number[] = [],
    old: number[] = [],
    advantages: number[] = [],
    referenced: number[] = [];
  const sequences: number[][] = [];
  let first = 0;
  for (const { trajectory, advantage } of batch) {
    check(trajectory, advantage);
    const { ids, lossMask, logProbs } = trajectory;
    const length = forwardTokens(trajectory);
    const before = rows.length;
    for (let t = 1; t <= length; t++) {
      if (lossMask[t] !== 1) continue;
      rows.push(first + t - 1);
      targets.push(ids[t] as number);
      old.push(logProbs[t] as number);
      advantages.push(advantage);
    }
    if (reference !== null) referenced.push(...referenceOf(trajectory, reference, rows.length - before));
    sequences.push(ids.slice(0, length));
    first += length;
  }
  return {
    sequences,
    rows: Uint32Array.from(rows),
    targets: Uint32Array.from(targets),
    oldLogProb: Float32Array.from(old),
    referenceLogProb: reference === null ? null : Float32Array.from(referenced),
    advantage: Float32Array.from(advantages),
    lossMask: new Float32Array(rows.length).fill(1),
  };
}

function check({ ids, lossMask, logProbs, promptLength, step, questionIndex, rollout }: Trajectory, advantage: number): void {
  const where = `trajectory ${step}/${questionIndex}/${rollout}`;
  if (lossMask.length !== ids.length || logProbs.length !== ids.length) {
    throw new ShapeError({
      where,
      what: "ids, lossMask and logProbs do not fit",
      expected: `${ids.length} each`,
      got: `${lossMask.length} and ${logProbs.length}`,
    });
  }
  const first = lossMask.indexOf(1);
  if (first < 1)
    throw new ShapeError({
      where,
      what: first === 0 ? "nothing predicts the first token" : "no token was sampled by the policy",
      expected: `a policy token at ${promptLength} or later`,
      got: first === 0 ? "one at 0" : "none",
    });
  lossMask.forEach((mask, t) => {
    if (mask !== 0 && mask !== 1) throw new ShapeError({ where, what: `lossMask ${t} is wrong`, expected: "0 or 1", got: String(mask) });
    if (mask === 1 && !Number.isFinite(logProbs[t]))
      throw new ShapeError({
        where,
        what: `the log-probability of policy token ${t} is not finite`,
        expected: "a number",
        got: String(logProbs[t]),
      });
  });
  if (!Number.isFinite(advantage))
    throw new ShapeError({ where, what: "the advantage is not finite", expected: "a number", got: String(advantage) });
}

function referenceOf(trajectory: Trajectory, reference: TokenLogProbs, count: number): Float32Array {
  const values = reference.get(trajectory);
  if (values?.length !== count) {
    throw new ShapeError({
      where: "packMicroBatch",
      what: "the reference log-probabilities do not fit the policy tokens",
      expected: String(count),
      got: String(values?.length ?? "none"),
    });
  }
  return values;
}
