import { describe, expect, it } from "vitest";
import { constantLength, sequenceMeanTokenMean, sequenceMeanTokenSum, tokenMean, type LossWeights } from "../../src/rl/loss-weights.ts";
import type { Scored } from "../../src/rl/trajectory.ts";
import { scoredOf } from "../helpers/trajectories.ts";

// Losses [1, 2] and [3, 3, 3, 3] of two rollouts, and one that says nothing; other numbers stand at masked tokens.
const losses = new Map<Scored, readonly number[]>([
  [scoredOf({ ids: [9, 9, 9, 9], mask: "0101" }, 1), [7, 1, 7, 2]],
  [scoredOf({ ids: [9, 9, 9, 9, 9, 9], mask: "001111" }, 1), [7, 7, 3, 3, 3, 3]],
  [scoredOf({ ids: [9, 9], mask: "00" }, 1), [7, 7]],
]);

function total(weights: LossWeights, batch: readonly Scored[]): number {
  const { scale, weight } = weights(batch);
  const sums = batch.map((row) =>
    row.trajectory.lossMask.reduce((sum, mask, t) => (mask === 1 ? sum + weight(row, t) * (losses.get(row)?.[t] as number) : sum), 0),
  );
  return scale * sums.reduce((sum, value) => sum + value, 0);
}

describe("the loss of a batch", () => {
  const batch = [...losses.keys()];

  // 15 / 6; (3 + 12) / 2; (1.5 + 3) / 2; 15 / (3 x 4)
  it.each<[string, LossWeights, number]>([
    ["token mean", tokenMean, 2.5],
    ["mean over sequences of the token sum", sequenceMeanTokenSum, 7.5],
    ["mean over sequences of the token mean", sequenceMeanTokenMean, 2.25],
    ["sum over a constant length", constantLength(4), 1.25],
  ])("by %s is the number worked out by hand", (_, weights, expected) => {
    expect(total(weights, batch)).toBeCloseTo(expected, 14);
  });

  it("by a constant length is that of the golden rows, 15 / (2 x 4)", () => {
    expect(total(constantLength(4), batch.slice(0, 2))).toBeCloseTo(1.875, 14);
    expect(() => constantLength(0)).toThrow("expected tokens above 0, got 0");
  });

  it("of nothing is 0", () => {
    for (const weights of [tokenMean, sequenceMeanTokenSum, sequenceMeanTokenMean, constantLength(4)])
      for (const silent of [[], batch.slice(2)]) expect(total(weights, silent)).toBe(0);
  });
});
