import { describe, expect, it } from "vitest";
import { bootstrapInterval, mean, median, quantile, standardDeviation } from "../../src/util/stats.ts";

describe("mean and standardDeviation", () => {
  it("give 2.5 and sqrt(5/3) for 1, 2, 3, 4", () => {
    expect(mean([1, 2, 3, 4])).toBe(2.5);
    expect(standardDeviation([1, 2, 3, 4])).toBeCloseTo(Math.sqrt(5 / 3), 12);
  });

  it("give NaN for no values, and deviation 0 for one", () => {
    expect(mean([])).toBeNaN();
    expect(standardDeviation([])).toBeNaN();
    expect(standardDeviation([7])).toBe(0);
  });
});

describe("median and quantile", () => {
  it("sort by value, not as text", () => {
    expect(median([10, 9, 100])).toBe(10);
  });

  it("lie between neighbours in a straight line", () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(quantile([1, 2, 3, 4], 0.25)).toBe(1.75);
    expect(quantile([1, 2, 3, 4], 1)).toBe(4);
  });
});

describe("bootstrapInterval", () => {
  const values = Array.from({ length: 300 }, (_, i) => (i % 10 < 7 ? 1 : 0));

  it("gives the same interval for the same seed and another for another seed", () => {
    expect(bootstrapInterval(values, { seed: 3 })).toEqual(bootstrapInterval(values, { seed: 3 }));
    expect(bootstrapInterval(values, { seed: 3 })).not.toEqual(bootstrapInterval(values, { seed: 4 }));
  });

  it("agrees with the normal interval of 210 successes in 300 to 0.01", () => {
    const { low, high } = bootstrapInterval(values);
    const half = 1.96 * Math.sqrt((0.7 * 0.3) / 300);
    expect(Math.abs(low - (0.7 - half))).toBeLessThan(0.01);
    expect(Math.abs(high - (0.7 + half))).toBeLessThan(0.01);
  });

  it("covers the true mean in about 95 of 100 samples", () => {
    let covered = 0;
    for (let sample = 0; sample < 100; sample++) {
      const drawn = Array.from({ length: 50 }, (_, i) => ((i * 7919 + sample * 104729 + i * i * sample) % 1000) / 1000);
      const { low, high } = bootstrapInterval(drawn, { seed: sample, samples: 500 });
      if (low <= 0.4995 && high >= 0.4995) covered++;
    }
    expect(covered).toBeGreaterThanOrEqual(88);
  });

  it("is a point for equal values, one value included, and NaN for none", () => {
    expect(bootstrapInterval([0.5])).toEqual({ low: 0.5, high: 0.5 });
    expect(bootstrapInterval([1, 1, 1])).toEqual({ low: 1, high: 1 });
    expect(bootstrapInterval([]).low).toBeNaN();
  });
});
