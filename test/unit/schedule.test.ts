import { describe, expect, it } from "vitest";
import { learningRate } from "../../src/optim/schedule.ts";

describe("learningRate", () => {
  it("rises linearly over the warm-up and then stays", () => {
    const schedule = { kind: "constant" as const, peak: 2, warmupSteps: 4, totalSteps: 10 };
    expect([0, 1, 2, 3, 4, 9].map((step) => learningRate(schedule, step))).toEqual([0.5, 1, 1.5, 2, 2, 2]);
  });

  it("falls as a cosine from the peak to the final fraction at the last step", () => {
    const schedule = { kind: "cosine" as const, peak: 1, warmupSteps: 2, totalSteps: 103, finalFraction: 0.05 };
    expect(learningRate(schedule, 2)).toBe(1);
    expect(learningRate(schedule, 52)).toBeCloseTo(0.525, 12);
    expect(learningRate(schedule, 102)).toBeCloseTo(0.05, 12);
    expect(learningRate(schedule, 500)).toBeCloseTo(0.05, 12);
  });

  it("has no warm-up where it is 0", () => {
    expect(learningRate({ kind: "constant", peak: 3, warmupSteps: 0, totalSteps: 5 }, 0)).toBe(3);
  });
});
