/**
 * From trajectories to the arrays of one micro-batch: sequences end to end, and of their N hidden states only the M rows that
 * predict a token the policy sampled. Nothing that stands at a masked position gets this far; if it did, it would weigh 0.
 */
import { ConfigError, ShapeError } from "../util/errors.ts";
import { nameOf } from "./check-batch.ts";
import type { TokenWeights } from "./loss-weights.ts";
import { advantageAt, forwardTokens } from "./mini-batches.ts";
import type { Scored, Trajectory } from "./trajectory.ts";

export interface MicroBatch {
  /** Of all its rollouts; above 0. */
  readonly temperature: number;
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
  readonly advantage: Float32Array;
  /** [M]: lossMask x the weight in the loss. */
  readonly weight: Float32Array;
  /** [B + 1]: where the scored tokens of each rollout begin among the M, and their end. */
  readonly offsets: Uint32Array;
}

/** Log-probabilities of a rollout's policy tokens, in order, under another model than the one that sampled. */
export type TokenLogProbs = ReadonlyMap<Trajectory, Float32Array>;

export interface PackOptions {
  /** Of every trajectory here, when the loss has a KL term. */
  readonly reference?: TokenLogProbs | null;
  /** What a policy token weighs in the loss; 1 unless told. */
  readonly weight?: TokenWeights["weight"];
}

/**
 * @param batch - sampled at one temperature (`microBatches`); at least one; of trajectories that are right (`checkTrajectories`)
 * @throws ShapeError when a trajectory does not fit the batch, has no policy token, or a value of one that is not finite; ConfigError for a
 * temperature of 0.
 */
export function packMicroBatch(batch: readonly Scored[], { reference = null, weight = () => 1 }: PackOptions = {}): MicroBatch {
  const rows: number[] = [],
    targets: number[] = [],
    old: number[] = [],
    advantages: number[] = [],
    weights: number[] = [],
    referenced: number[] = [],
    offsets = [0];
  const sequences: number[][] = [];
  const temperature = batch[0]?.trajectory.sampling.temperature as number;
  let first = 0;
  for (const row of batch) {
    check(row, temperature);
    const { trajectory } = row;
    const { ids, lossMask, logProbs } = trajectory;
    const length = forwardTokens(trajectory);
    const before = rows.length;
    for (let t = 1; t <= length; t++) {
      if (lossMask[t] !== 1) continue;
      rows.push(first + t - 1);
      targets.push(ids[t] as number);
      old.push(logProbs[t] as number);
      advantages.push(advantageAt(row, t));
      weights.push((lossMask[t] as number) * weight(row, t));
    }
    if (reference !== null) referenced.push(...referenceOf(trajectory, reference, rows.length - before));
    offsets.push(rows.length);
    sequences.push(ids.slice(0, length));
    first += length;
  }
  return {
    temperature,
    sequences,
    rows: Uint32Array.from(rows),
    targets: Uint32Array.from(targets),
    oldLogProb: Float32Array.from(old),
    referenceLogProb: reference === null ? null : Float32Array.from(referenced),
    advantage: Float32Array.from(advantages),
    weight: Float32Array.from(weights),
    offsets: Uint32Array.from(offsets),
  };
}

function check(row: Scored, temperature: number): void {
  const { key, ids, lossMask, logProbs, promptLength, sampling } = row.trajectory;
  const where = nameOf(key);
  const need = (right: boolean, what: string, expected: string, got: unknown): void => {
    if (!right) throw new ShapeError({ where, what, expected, got: String(got) });
  };
  if (!(sampling.temperature > 0))
    throw new ConfigError({
      where,
      what: "training needs sampling",
      expected: "a temperature above 0",
      got: String(sampling.temperature),
      hint: "At 0 every rollout of a group would be the same.",
    });
  need(sampling.temperature === temperature, "a micro-batch has one temperature", String(temperature), sampling.temperature);
  const { advantage } = row;
  if (typeof advantage !== "number")
    need(advantage.length === ids.length, "advantages do not fit ids", `one, or ${ids.length}`, advantage.length);
  const first = lossMask.indexOf(1);
  const later = `a policy token at ${promptLength} or later`;
  need(first !== 0, "nothing predicts the first token", later, "one at 0");
  need(first > 0, "no token was sampled by the policy", later, "none");
  lossMask.forEach((mask, t) => {
    if (mask !== 1) return;
    need(Number.isFinite(logProbs[t]), `the log-probability of policy token ${t} is not finite`, "a number", logProbs[t]);
    need(Number.isFinite(advantageAt(row, t)), `the advantage of policy token ${t} is not finite`, "a number", advantageAt(row, t));
  });
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
