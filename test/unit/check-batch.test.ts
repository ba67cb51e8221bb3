import { describe, expect, it } from "vitest";
import { scoreTrajectories } from "../../src/rl/advantage.ts";
import { checkTrajectories, checkUpdate } from "../../src/rl/check-batch.ts";
import type { Trajectory } from "../../src/rl/trajectory.ts";
import type { UpdateSettings } from "../../src/rl/update.ts";
import { trajectoryOf } from "../helpers/trajectories.ts";

const vocabulary = 10;
const settings: UpdateSettings = { microBatchTokens: 100, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 };
const of = (fields: object = {}): Trajectory => ({
  ...trajectoryOf({ ids: [1, 2, 3], mask: "011", step: 4, question: 2, rollout: 1 }),
  ...fields,
});

describe("an update's door", () => {
  it.each([
    [{ lossMask: [false, true, true] }, "trajectory 4/2/1: lossMask 0 is wrong; expected the number 0 or 1, got false"],
    [{ lossMask: [0, 1, 0.5] }, "trajectory 4/2/1: lossMask 2 is wrong; expected the number 0 or 1, got 0.5"],
    [{ lossMask: [0, 1, "1"] }, 'trajectory 4/2/1: lossMask 2 is wrong; expected the number 0 or 1, got "1"'],
    [{ lossMask: [0, NaN, 1] }, "trajectory 4/2/1: lossMask 1 is wrong; expected the number 0 or 1, got NaN"],
    [{ lossMask: [0, 1] }, "trajectory 4/2/1: ids, lossMask and logProbs do not fit; expected 3 each, got 2 and 3"],
    [{ logProbs: [0] }, "trajectory 4/2/1: ids, lossMask and logProbs do not fit; expected 3 each, got 3 and 1"],
    [{ ids: [1, 1.5, 3] }, "trajectory 4/2/1: id 1 is none; expected an integer from 0 to 9, got 1.5"],
    [{ ids: [-1, 2, 3] }, "trajectory 4/2/1: id 0 is none; expected an integer from 0 to 9, got -1"],
    [{ ids: [1, 2, 10] }, "trajectory 4/2/1: id 2 is none; expected an integer from 0 to 9, got 10"],
    [{ ids: [1, 2, null] }, "trajectory 4/2/1: id 2 is none; expected an integer from 0 to 9, got null"],
    [{ ids: [1, "2", 3] }, 'trajectory 4/2/1: id 1 is none; expected an integer from 0 to 9, got "2"'],
  ])("refuses %j, naming trajectory and position", (fields, message) => {
    expect(() => checkTrajectories([of(), of(fields)], vocabulary)).toThrow(message);
  });

  it("takes what a rollout makes", () => {
    const other = of({ key: { step: 4, question: 2, rollout: 2 } });
    expect(() => checkUpdate([of(), other], settings, 0, vocabulary)).not.toThrow();
  });

  it("refuses two trajectories with one key, and so do advantages", () => {
    const message = "trajectory 4/2/1: two trajectories have this key; expected a key that occurs once, got those at 0 and 1";
    expect(() => checkUpdate([of(), of()], settings, 0, vocabulary)).toThrow(message);
    expect(() => scoreTrajectories([of(), of()], [0, 1], { estimator: "reinforce", normalizeByStd: false })).toThrow(message);
  });

  it.each([
    [{ clipLow: -0.2 }, "update: wrong clipLow; expected 0 to 1, got -0.2"],
    [{ clipLow: 1.5 }, "update: wrong clipLow; expected 0 to 1, got 1.5"],
    [{ clipHigh: -0.1 }, "update: wrong clipHigh; expected 0 or more, got -0.1"],
    [{ clipHigh: NaN }, "update: wrong clipHigh; expected 0 or more, got NaN"],
    [{ klCoef: NaN }, "update: wrong klCoef; expected a number, got NaN"],
    [{ entropyCoef: Infinity }, "update: wrong entropyCoef; expected a number, got Infinity"],
  ])("refuses %j", (wrong, message) => {
    expect(() => checkUpdate([of()], { ...settings, ...wrong }, 0, vocabulary)).toThrow(message);
  });

  it("refuses a learning rate that is none", () => {
    for (const rate of [-1e-6, NaN, Infinity])
      expect(() => checkUpdate([of()], settings, rate, vocabulary)).toThrow(`update: wrong learningRate; expected 0 or more, got ${rate}`);
  });
});
