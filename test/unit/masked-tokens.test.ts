/** What stands between the policy's tokens has no say: in advantages, in weights of the loss, in what a micro-batch takes to the device. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scoreTrajectories, type AdvantageSettings, type TokenRewards } from "../../src/rl/advantage.ts";
import { constantLength, sequenceMeanTokenMean, sequenceMeanTokenSum, tokenMean } from "../../src/rl/loss-weights.ts";
import { packMicroBatch } from "../../src/rl/packing.ts";
import type { Trajectory } from "../../src/rl/trajectory.ts";
import { trajectoryOf } from "../helpers/trajectories.ts";

/** A rollout of `own` tokens of the policy; before each of them stand so many others. */
interface Drawn {
  readonly own: readonly number[];
  readonly before: readonly number[];
}

const rollouts = fc.array(
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 0, max: 4 })), { minLength: 1, maxLength: 7 })
    .map((tokens): Drawn => ({ own: tokens.map(([id]) => id), before: tokens.map(([, count]) => count) })),
  { minLength: 2, maxLength: 4 },
);
const rewards = (rows: readonly Drawn[]): number[] => rows.map(({ own }, i) => ((own[0] as number) + i) / 60);

/** With a prompt of one token; `extra` more of what the policy did not write before each of its tokens. NaN stands at all of these. */
function build({ own, before }: Drawn, rollout: number, extra: (t: number) => number) {
  const ids = [7];
  const mask = ["0"];
  const logProbs = [NaN];
  const values = [NaN];
  own.forEach((id, t) => {
    const others = (before[t] as number) + extra(t);
    for (let i = 0; i < others; i++) {
      ids.push(60);
      mask.push("0");
      logProbs.push(NaN);
      values.push(NaN);
    }
    ids.push(id);
    mask.push("1");
    logProbs.push(-id / 10);
    values.push(Math.sin(id));
  });
  return { trajectory: trajectoryOf({ ids, mask: mask.join(""), logProbs, question: rollout >> 1, rollout }), values };
}

const estimators: readonly AdvantageSettings[] = [
  { estimator: "grpo" },
  { estimator: "dr_grpo", whiten: true },
  { estimator: "rloo" },
  { estimator: "reinforce", whiten: true },
  { estimator: "reinforce_plus_plus", gamma: 0.97 },
  { estimator: "gae", gamma: 0.99, lambda: 0.9 },
  { estimator: "gae", gamma: 0.99, lambda: 0.9, whiten: true },
];

describe.each(estimators)("tokens that the policy did not write, put in anywhere, with $estimator", (settings) => {
  it("change no advantage, no weight and nothing else that is trained on, by a bit", () => {
    fc.assert(
      fc.property(rollouts, fc.integer({ min: 1, max: 9 }), (drawn, spread) => {
        // Groups of two.
        const rows = drawn.length % 2 === 0 ? drawn : [...drawn, drawn[0] as Drawn];
        const results = [(): number => 0, (t: number): number => (t * spread) % 5].map((extra) => {
          const built = rows.map((row, i) => build(row, i, extra));
          const trajectories: Trajectory[] = built.map(({ trajectory }) => trajectory);
          const penalties = new Map(trajectories.map((one, i) => [one, (rows[i] as Drawn).own.map((id) => id / 1000)]));
          const values = new Map(built.map(({ trajectory, values: own }) => [trajectory as Trajectory, own]));
          const given: TokenRewards = settings.estimator === "gae" ? { penalties, values } : { penalties };
          const scored = scoreTrajectories(trajectories, rewards(rows), settings, given);
          return [tokenMean, sequenceMeanTokenSum, sequenceMeanTokenMean, constantLength(8)].map((weights) => {
            const { scale, weight } = weights(scored);
            const { targets, oldLogProb, advantage, weight: packed, offsets } = packMicroBatch(scored, { weight });
            return { scale, targets, oldLogProb, advantage, weight: packed, offsets };
          });
        });
        expect(results[1]).toEqual(results[0]);
      }),
      { numRuns: 60 },
    );
  });
});
