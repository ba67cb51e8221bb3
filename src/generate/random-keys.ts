/** How a trajectory and a place in it become the Philox key and counter of one sampled token. */
import { RequestError } from "../util/errors.ts";
import { streamKey, type Purpose } from "../util/philox.ts";
import type { TrajectoryKey } from "./types.ts";

/** Rollouts of a question, and turns of a rollout, share a counter word. */
export const mostRollouts = 2 ** 24;
export const mostTurns = 2 ** 8;

/**
 * Key (2 words) and the first three counter words; the fourth is the position of the token whose logits are sampled from, so every
 * token of every trajectory has numbers of its own, whatever ran beside it.
 * @throws RequestError for a key that does not fit its words.
 */
export function samplingKey(
  seed: number,
  purpose: Purpose,
  key: TrajectoryKey,
  turn: number,
): readonly [number, number, number, number, number] {
  word("seed", seed, Number.MAX_SAFE_INTEGER + 1);
  word("key.step", key.step, 2 ** 32);
  word("key.question", key.question, 2 ** 32);
  word("key.rollout", key.rollout, mostRollouts);
  word("turn", turn, mostTurns);
  const [k0, k1] = streamKey(seed, purpose);
  return [k0, k1, key.step, key.question, key.rollout * mostTurns + turn];
}

function word(name: string, value: number, limit: number): void {
  if (!(Number.isInteger(value) && value >= 0 && value < limit)) {
    throw new RequestError({
      where: "open",
      what: `${name} cannot be part of a random key`,
      expected: `a non-negative integer below ${limit}`,
      got: String(value),
    });
  }
}
