import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { forwardTokens, hasGradient, lossTokens, microBatches, splitUpdates } from "../../src/rl/mini-batches.ts";
import { packMicroBatch } from "../../src/rl/packing.ts";
import { scoredOf, trajectoryOf } from "../helpers/trajectories.ts";

const step = (questions: number, groupSize: number) =>
  Array.from({ length: questions * groupSize }, (_, i) =>
    scoredOf({ ids: [1, 2, 3], mask: "011", question: Math.floor(i / groupSize), rollout: i % groupSize }, 1),
  );
const places = (rows: ReturnType<typeof step>): string[] => rows.map(({ trajectory: { key } }) => `${key.question}/${key.rollout}`);
const off = { klCoef: 0, entropyCoef: 0 };

describe("optimiser batches", () => {
  it("are whole groups, as equal as they can be, in order", () => {
    const parts = splitUpdates(step(5, 2), 2);
    expect(parts.map(places)).toEqual([
      ["0/0", "0/1", "1/0", "1/1", "2/0", "2/1"],
      ["3/0", "3/1", "4/0", "4/1"],
    ]);
    expect(splitUpdates(step(4, 3), 4).map(({ length }) => length)).toEqual([3, 3, 3, 3]);
    expect(splitUpdates(step(4, 3), 1).map(places)).toEqual([places(step(4, 3))]);
  });

  it("are single rollouts when there are more updates than groups", () => {
    expect(splitUpdates(step(2, 4), 4).map(places)).toEqual([
      ["0/0", "0/1"],
      ["0/2", "0/3"],
      ["1/0", "1/1"],
      ["1/2", "1/3"],
    ]);
    expect(() => splitUpdates(step(1, 2), 3)).toThrow(
      "train.updatesPerStep: cannot cut a step into so many updates; expected 1 to 2, got 3",
    );
  });

  it("hold every rollout once", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 7 }),
        (questions, groupSize, updates) => {
          const rows = step(questions, groupSize);
          fc.pre(updates <= rows.length);
          const parts = splitUpdates(rows, updates);
          expect(parts).toHaveLength(updates);
          expect(parts.every(({ length }) => length > 0)).toBe(true);
          expect(parts.flat()).toEqual(rows);
        },
      ),
    );
  });
});

describe("micro-batches", () => {
  const rows = [4, 3, 6, 1, 1].map((policyTokens) =>
    scoredOf({ ids: Array<number>(policyTokens + 1).fill(1), mask: `0${"1".repeat(policyTokens)}` }, 1),
  );

  it("hold at most so many tokens, in order; what is longer stands alone", () => {
    expect(microBatches(rows, 7).map((batch) => batch.map(({ trajectory }) => forwardTokens(trajectory)))).toEqual([[4, 3], [6, 1], [1]]);
    expect(microBatches(rows, 5).map((batch) => batch.map(({ trajectory }) => forwardTokens(trajectory)))).toEqual([[4], [3], [6], [1, 1]]);
    expect(microBatches([], 5)).toEqual([]);
  });

  it("do not change the number of tokens the loss is averaged over, nor do rollouts left out", () => {
    expect(lossTokens(rows)).toBe(15);
    expect(microBatches(rows, 3).reduce((sum, batch) => sum + lossTokens(batch), 0)).toBe(15);
  });

  it("have one temperature each", () => {
    const mixed = [0.5, 0.5, 1, 1, 1, 0.5].map((temperature) => scoredOf({ ids: [1, 2], mask: "01", temperature }, 1));
    expect(microBatches(mixed, 2).map((batch) => batch.map(({ trajectory }) => trajectory.sampling.temperature))).toEqual([
      [0.5, 0.5],
      [1, 1],
      [1],
      [0.5],
    ]);
  });

  it("leave out what has no gradient, exactly", () => {
    const spec = { ids: [1, 2], mask: "01" };
    expect(hasGradient(scoredOf(spec, 0), off)).toBe(false);
    expect(hasGradient(scoredOf(spec, -0.5), off)).toBe(true);
    expect(hasGradient(scoredOf(spec, 0), { klCoef: 0.1, entropyCoef: 0 })).toBe(true);
    expect(hasGradient(scoredOf(spec, 0), { klCoef: 0, entropyCoef: 0.1 })).toBe(true);
    expect(hasGradient(scoredOf({ ids: [1, 2], mask: "00" }, 1), off)).toBe(false);
    // With one for each token, those of masked tokens have no say.
    expect(hasGradient(scoredOf(spec, [1, 0]), off)).toBe(false);
    expect(hasGradient(scoredOf(spec, [NaN, -0]), off)).toBe(false);
    expect(hasGradient(scoredOf(spec, [0, 1]), off)).toBe(true);
    expect(hasGradient(scoredOf(spec, [0, NaN]), off)).toBe(true);
    expect(hasGradient(scoredOf(spec, [0, 0]), { klCoef: 0.1, entropyCoef: 0 })).toBe(true);
  });
});

describe("packing", () => {
  const a = scoredOf({ ids: [10, 11, 12, 13, 14, 15, 16], mask: "0011011", logProbs: [NaN, NaN, -1, -2, NaN, -3, -4] }, 0.5);
  const b = scoredOf({ ids: [20, 21, 22, 23], mask: "0100", logProbs: [0, -5, 0, 0], rollout: 1 }, -2);

  it("scores each sampled token from the hidden state before it", () => {
    const micro = packMicroBatch([a, b]);
    expect(micro.sequences).toEqual([[10, 11, 12, 13, 14, 15], [20]]);
    expect([...micro.rows]).toEqual([1, 2, 4, 5, 6]);
    expect([...micro.targets]).toEqual([12, 13, 15, 16, 21]);
    expect([...micro.oldLogProb]).toEqual([-1, -2, -3, -4, -5]);
    expect([...micro.advantage]).toEqual([0.5, 0.5, 0.5, 0.5, -2]);
    expect([...micro.weight]).toEqual([1, 1, 1, 1, 1]);
    expect(micro.temperature).toBe(1);
    expect(micro.referenceLogProb).toBeNull();
  });

  it("weighs each token by its weight in the loss", () => {
    const micro = packMicroBatch([a, b], { weight: ({ trajectory }, t) => t / trajectory.ids.length });
    expect([...micro.targets]).toEqual([12, 13, 15, 16, 21]);
    expect([...micro.weight]).toEqual([2 / 7, 3 / 7, 5 / 7, 6 / 7, 1 / 4].map(Math.fround));
  });

  it("gives each token its own advantage where there is one for each", () => {
    const own = { ...a, advantage: [NaN, NaN, 1, 2, NaN, -3, -4] };
    expect([...packMicroBatch([own, b]).advantage]).toEqual([1, 2, -3, -4, -2]);
    expect(packMicroBatch([{ ...a, advantage: Float32Array.of(9, 9, 0.5, 0.5, 9, 0.5, 0.5) }])).toEqual(packMicroBatch([a]));
  });

  it("takes nothing from masked positions, NaN or not", () => {
    const clean = scoredOf({ ids: [10, 11, 12, 13, 14, 15, 16], mask: "0011011", logProbs: [0, 0, -1, -2, 0, -3, -4] }, 0.5);
    expect(packMicroBatch([a])).toEqual(packMicroBatch([clean]));
  });

  it("puts reference log-probabilities beside the tokens they are of", () => {
    const reference = new Map([
      [a.trajectory, Float32Array.of(1, 2, 3, 4)],
      [b.trajectory, Float32Array.of(5)],
    ]);
    expect([...(packMicroBatch([b, a], { reference }).referenceLogProb ?? [])]).toEqual([5, 1, 2, 3, 4]);
    expect(() => packMicroBatch([a], { reference: new Map() })).toThrow(
      "the reference log-probabilities do not fit the policy tokens; expected 4, got none",
    );
  });

  it("refuses trajectories whose arrays do not fit", () => {
    const bad =
      (fields: object, advantage: number | number[] = 1) =>
      () =>
        packMicroBatch([{ trajectory: { ...trajectoryOf({ ids: [1, 2, 3], mask: "011" }), ...fields }, reward: 0, advantage }]);
    expect(bad({ lossMask: [1, 1, 1] })).toThrow("nothing predicts the first token");
    expect(bad({ lossMask: [0, 0, 0] })).toThrow("no token was sampled by the policy");
    expect(bad({ logProbs: [0, -1, NaN] })).toThrow("the log-probability of policy token 2 is not finite");
    expect(bad({}, NaN)).toThrow("the advantage of policy token 1 is not finite");
    expect(bad({}, [0, 1, Infinity])).toThrow("the advantage of policy token 2 is not finite; expected a number, got Infinity");
    expect(bad({}, [1, 1])).toThrow("advantages do not fit ids; expected one, or 3, got 2");
    expect(bad({ sampling: { temperature: 0, topK: 0, topP: 1 } })).toThrow(
      "trajectory 1/0/0: training needs sampling; expected a temperature above 0, got 0",
    );
    const [warm, hot] = [1, 2].map((temperature) => scoredOf({ ids: [1, 2], mask: "01", temperature }, 1));
    expect(() => packMicroBatch([warm!, hot!])).toThrow("a micro-batch has one temperature; expected 1, got 2");
  });
});
