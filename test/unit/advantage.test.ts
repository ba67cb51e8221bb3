import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { groupAdvantages, scoreTrajectories, type AdvantageSettings } from "../../src/rl/advantage.ts";
import type { Trajectory } from "../../src/rl/trajectory.ts";

const grpo: AdvantageSettings = { estimator: "grpo", normalizeByStd: true };
const rewards = [1, 0, 0, 1, 0.5];
const close = (actual: number[], expected: number[], digits = 12): void => {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((value, i) => expect(value).toBeCloseTo(expected[i] as number, digits));
};
const at = (step: number, question: number, rollout: number): Trajectory => ({
  key: { step, question, rollout },
  promptLength: 0,
  ids: [],
  lossMask: [],
  logProbs: [],
  sampling: { temperature: 1, topK: 0, topP: 1 },
});

describe("advantages of a group", () => {
  it("are the golden numbers", () => {
    const a = 0.999998000004;
    close(groupAdvantages(rewards, grpo), [a, -a, -a, a, 0]);
    close(groupAdvantages(rewards, { ...grpo, normalizeByStd: false }), [0.5, -0.5, -0.5, 0.5, 0]);
    close(groupAdvantages(rewards, { ...grpo, estimator: "dr_grpo" }), [0.5, -0.5, -0.5, 0.5, 0]);
    close(groupAdvantages(rewards, { ...grpo, estimator: "rloo" }), [0.625, -0.625, -0.625, 0.625, 0]);
    close(groupAdvantages(rewards, { ...grpo, estimator: "reinforce" }), rewards);
  });

  it("are exactly 0 where all rewards are equal", () => {
    for (const value of [0, 0.1, 1, 2 / 3])
      for (const size of [2, 3, 7]) {
        for (const estimator of ["grpo", "dr_grpo", "rloo"] as const)
          expect(groupAdvantages(Array<number>(size).fill(value), { ...grpo, estimator })).toEqual(Array<number>(size).fill(0));
      }
  });

  it("of RLOO subtract the mean of the others", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 2, maxLength: 8 }), (values) => {
        const sum = values.reduce((a, b) => a + b, 0);
        const expected = values.map((value) => value - (sum - value) / (values.length - 1));
        close(groupAdvantages(values, { ...grpo, estimator: "rloo" }), expected);
      }),
    );
  });

  it("are refused for a group of one, which has no baseline", () => {
    expect(() => groupAdvantages([1], grpo)).toThrow("expected a group of 2 or more, got 1");
    expect(groupAdvantages([1], { ...grpo, estimator: "reinforce" })).toEqual([1]);
  });
});

describe("groups", () => {
  it("are rollouts of one question of one step, whatever their order", () => {
    const trajectories = [at(1, 0, 0), at(1, 1, 0), at(2, 0, 0), at(1, 0, 1), at(1, 1, 1), at(2, 0, 1)];
    const scored = scoreTrajectories(trajectories, [1, 0.5, 0, 0, 0.5, 1], { ...grpo, normalizeByStd: false });
    expect(scored.map(({ advantage }) => advantage)).toEqual([0.5, 0, -0.5, -0.5, 0, 0.5]);
    expect(scored.map(({ reward }) => reward)).toEqual([1, 0.5, 0, 0, 0.5, 1]);
    expect(scored.map(({ trajectory }) => trajectory)).toEqual(trajectories);
  });

  it("without a failed one have the advantages of a group that never had it", () => {
    const members = Array.from({ length: 5 }, (_, i) => at(1, 0, i));
    const paid = [0.25, null, 1, 0.5, null];
    for (const estimator of ["grpo", "rloo", "reinforce"] as const)
      for (const normalizeByStd of [true, false]) {
        const settings = { estimator, normalizeByStd };
        const scored = scoreTrajectories(members, paid, settings);
        expect(scored.map(({ trajectory }) => trajectory)).toEqual([members[0], members[2], members[3]]);
        expect(scored.map(({ reward }) => reward)).toEqual([0.25, 1, 0.5]);
        expect(scored.map(({ advantage }) => advantage)).toEqual(groupAdvantages([0.25, 1, 0.5], settings));
      }
  });

  it("that failures leave with one have nothing to compare it with, those with none are gone, and the others are as they were", () => {
    const pairs = [0, 1, 2].flatMap((question) => [at(1, question, 0), at(1, question, 1)]);
    const rewards = [0.5, null, 1, 0, null, null];
    const scored = scoreTrajectories(pairs, rewards, { ...grpo, normalizeByStd: false });
    expect(scored.map(({ trajectory, advantage }) => [trajectory.key.question, advantage])).toEqual([
      [0, 0],
      [1, 0.5],
      [1, -0.5],
    ]);
    expect(scoreTrajectories(pairs, rewards, { ...grpo, estimator: "reinforce" }).map(({ advantage }) => advantage)).toEqual([0.5, 1, 0]);
    expect(() => scoreTrajectories([at(1, 0, 0)], [1], grpo)).toThrow("expected a group of 2 or more, got 1");
  });

  it("need one finite reward for each trajectory", () => {
    expect(() => scoreTrajectories([at(1, 0, 0)], [], grpo)).toThrow("expected 1 rewards, got 0");
    expect(() => scoreTrajectories([at(1, 0, 0), at(1, 0, 1)], [1, NaN], grpo)).toThrow("reward 1 is not a number");
    expect(() => scoreTrajectories([at(1, 0, 0), at(1, 0, 0)], [1, 0], grpo)).toThrow(
      "trajectory 1/0/0: two trajectories have this key; expected a key that occurs once, got those at 0 and 1",
    );
  });
});

/** A rollout with tokens; 1 in `mask` is the policy's. */
const spoken = (question: number, rollout: number, mask: string): Trajectory => {
  const lossMask = Array.from(mask, Number);
  return { ...at(1, question, rollout), ids: lossMask.map(() => 0), lossMask, logProbs: lossMask.map((m) => -m) };
};
const list = (value: number | ArrayLike<number>): number[] => (typeof value === "number" ? [value] : Array.from(value));

describe("advantages of tokens", () => {
  const trajectory = spoken(0, 0, "110011");
  const values = new Map([[trajectory, [0.1, 0.2, 0.9, 0.7, 0.4, 0.3]]]);

  it("of gae are the golden numbers, with returns that are advantage and value", () => {
    const [scored] = scoreTrajectories([trajectory], [1], { estimator: "gae", lambda: 0.95 }, { values });
    close(list(scored!.advantage), [0.7999125, 0.73675, 0, 0, 0.565, 0.7], 10);
    close(list(scored!.returns!), [0.8999125, 0.93675, 0, 0, 0.965, 1], 10);
    expect(() => scoreTrajectories([trajectory], [1], { estimator: "gae" })).toThrow("gae needs the critic's values");
  });

  it("of REINFORCE++ are the return from each token, whitened; started anew after documents, the reward never reaches what is before them", () => {
    const other = spoken(1, 0, "11");
    const skip = scoreTrajectories([trajectory, other], [1, 0], { estimator: "reinforce_plus_plus" });
    // returns 1, 1, 1, 1 and 0, 0: mean 2/3, variance with n - 1 of 4/15
    const [high, low] = [1 / 3 / Math.sqrt(4 / 15 + 1e-8), -2 / 3 / Math.sqrt(4 / 15 + 1e-8)];
    close(list(skip[0]!.advantage), [high, high, 0, 0, high, high]);
    close(list(skip[1]!.advantage), [low, low]);
    const reset = scoreTrajectories([trajectory, other], [1, 0], { estimator: "reinforce_plus_plus", documents: "reset" });
    // returns 0, 0, 1, 1 and 0, 0: mean 1/3, the same variance
    close(list(reset[0]!.advantage), [low / 2, low / 2, 0, 0, high * 2, high * 2]);
    close(list(reset[1]!.advantage), [low / 2, low / 2]);
  });

  it("discount with gamma over policy tokens only", () => {
    const settings: AdvantageSettings = { estimator: "gae", gamma: 0.5 };
    const nothing = new Map([[trajectory, new Float64Array(6)]]);
    const [scored] = scoreTrajectories([trajectory], [1], settings, { values: nothing });
    close(list(scored!.advantage), [0.125, 0.25, 0, 0, 0.5, 1]);
  });

  it("are shifted and scaled over all policy tokens of a step where that is asked for, and nothing at a masked one has a say", () => {
    const rows = [spoken(0, 0, "0110"), spoken(0, 1, "01")];
    const whitened = scoreTrajectories(rows, [1, 0], { estimator: "reinforce", whiten: true });
    // 1, 1, 0: mean 2/3, variance 1/3
    close(list(whitened[0]!.advantage), [0, 1 / 3 / Math.sqrt(1 / 3 + 1e-8), 1 / 3 / Math.sqrt(1 / 3 + 1e-8), 0]);
    close(list(whitened[1]!.advantage), [0, -2 / 3 / Math.sqrt(1 / 3 + 1e-8)]);
    const equal = scoreTrajectories(rows, [0.3, 0.3], { ...grpo, whiten: true });
    for (const { advantage } of equal) expect(list(advantage).every((value) => value === 0)).toBe(true);
  });
});

describe("what comes to a reward besides", () => {
  const rows = [spoken(0, 0, "011"), spoken(0, 1, "0101")];
  const penalties = new Map<Trajectory, number[]>([
    [rows[0]!, [0.1, 0.2]],
    [rows[1]!, [0.3, -0.2]],
  ]);

  it("is taken from the score of a rollout as a sum over its tokens, and never from the reward that is logged", () => {
    const scored = scoreTrajectories(rows, [1, 0.5], { estimator: "reinforce" }, { penalties, shaping: [-0.25, 0] });
    close(
      scored.map(({ advantage }) => advantage as number),
      [0.45, 0.4],
    );
    expect(scored.map(({ reward }) => reward)).toEqual([1, 0.5]);
  });

  it("is taken token by token where tokens have returns of their own", () => {
    const values = new Map<Trajectory, Float64Array>(rows.map((row) => [row, new Float64Array(row.ids.length)]));
    const scored = scoreTrajectories(rows, [1, 0.5], { estimator: "gae" }, { penalties, values });
    close(list(scored[0]!.advantage), [0, 0.7, 0.8]);
    close(list(scored[1]!.advantage), [0, 0.4, 0, 0.7]);
  });

  it("must fit the policy tokens, and be finite", () => {
    const wrong = (given: readonly number[]) => new Map<Trajectory, readonly number[]>([[rows[0]!, given]]);
    const score = (given: readonly number[]) => scoreTrajectories([rows[0]!], [1], { estimator: "reinforce" }, { penalties: wrong(given) });
    expect(() => score([1])).toThrow("trajectory 1/0/0: penalties do not fit the policy tokens; expected 2 finite numbers, got 1");
    expect(() => score([1, NaN])).toThrow("expected 2 finite numbers, got NaN");
  });
});
