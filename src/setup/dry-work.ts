/** What is asked of a device that computes nothing: rollouts that only have a size, and sequences that decode as long as they are wanted. */
import type { GenerateRequest, SamplingSettings, Sequence, TrajectoryKey } from "../generate/types.ts";
import type { Trajectory } from "../rl/trajectory.ts";

/** One of `length` tokens and one that the last of them predicts, of which the policy sampled the last `sampled`. */
export function blankRollout(length: number, sampled: number, key: TrajectoryKey, sampling: SamplingSettings): Trajectory {
  const ids = new Array<number>(length + 1).fill(0);
  const lossMask = ids.map((_, t) => (t > length - sampled ? 1 : 0));
  return { key, promptLength: 1, ids, lossMask, logProbs: ids.map(() => 0), sampling };
}

/**
 * Starts sequences together. Resolves when the first has `tokens`, of which the last must come before the end of its request: that end is what a
 * device would have to compute. Whoever closes the sequences ends them.
 * @throws what the generator refuses
 */
export async function decodeUntil(sequences: readonly Sequence[], request: GenerateRequest, tokens: number): Promise<void> {
  const [first] = sequences;
  let waiting = true;
  let failure: Error | null = null;
  for (const sequence of sequences)
    sequence.generate(request).catch((error: unknown) => {
      if (waiting) failure ??= error as Error;
    });
  while (failure === null && first !== undefined && first.ids.length < tokens)
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  waiting = false;
  if (failure !== null) throw failure as Error;
}
