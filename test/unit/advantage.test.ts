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
    close(groupAdvantages(rewards, { ...grpo, estimator: "rloo" }), [0.625, -0.625, -0.625, 0.625, 0]);
    close(groupAdvantages(rewards, { ...grpo, estimator: "reinforce" }), rewards);
  });

  it("are exactly 0 where all rewards are equal", () => {
    for (const value of [0, 0.1, 1, 2 / 3])
      for (const size of [2, 3, 7]) {
        for (const estimator of ["grpo", "rloo"] as const)
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

  it("need one finite reward for each trajectory", () => {
    expect(() => scoreTrajectories([at(1, 0, 0)], [], grpo)).toThrow("expected 1 rewards, got 0");
    expect(() => scoreTrajectories([at(1, 0, 0), at(1, 0, 1)], [1, NaN], grpo)).toThrow("reward 1 is not a number");
    expect(() => scoreTrajectories([at(1, 0, 0), at(1, 0, 0)], [1, 0], grpo)).toThrow(
      "trajectory 1/0/0: two trajectories have this key; expected a key that occurs once, got those at 0 and 1",
    );
  });
});
