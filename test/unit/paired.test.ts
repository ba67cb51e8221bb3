import { describe, expect, it } from "vitest";
import { holm, signFlipTest } from "../../src/util/paired.ts";
import { bootstrapInterval, mean, percentileInterval, resampledMeans, standardDeviation } from "../../src/util/stats.ts";

describe("signFlipTest", () => {
  it("tries all patterns where there are few: 30 of 64 are as extreme, worked out by enumeration in Python", () => {
    expect(
      signFlipTest([
        [0.5, -0.25, 1, 0],
        [1, -1, 0.5],
      ]),
    ).toBe(30 / 64);
  });

  it("is 2/2^n where all n differences have one sign, and 1 where nothing differs", () => {
    expect(signFlipTest([[1, 1, 1, 1, 1, 1]])).toBe(2 / 64);
    expect(signFlipTest([[0, 0, 0]])).toBe(1);
    expect(signFlipTest([[0.1, -0.1]])).toBe(1);
  });

  it("takes what only rounding makes of equal scores for no difference", () => {
    const means = [
      [0.1, 0.2, 0.3],
      [0.3, 0.2, 0.1],
    ].map((scores) => mean(scores));
    const noise = (means[0] ?? 0) - (means[1] ?? 0);
    expect(noise).not.toBe(0);
    expect(signFlipTest([Array.from({ length: 20 }, () => noise)])).toBe(1);
    // And one true difference beside it is one of two patterns.
    expect(signFlipTest([[...Array.from({ length: 20 }, () => noise), 0.5, 0.5]])).toBe(2 / 4);
  });

  it("comes to McNemar's exact test on 30 wins and 12 losses (p = 0.0079159)", () => {
    const differences = [
      ...Array.from({ length: 30 }, () => 1),
      ...Array.from({ length: 12 }, () => -1),
      ...Array.from({ length: 58 }, () => 0),
    ];
    const p = signFlipTest([differences], { samples: 100_000, seed: 3 });
    // The standard error of a share of 100,000 draws is 0.00028.
    expect(Math.abs(p - 0.007915897334896727)).toBeLessThan(4 * 0.00028);
  });

  it("agrees with a million patterns drawn by NumPy over 400 differences", () => {
    const differences = Array.from({ length: 400 }, (_, i) => ((i * 37) % 101) / 100 - 0.46);
    const p = signFlipTest([differences], { samples: 20_000, seed: 1 });
    expect(Math.abs(p - 0.007737)).toBeLessThan(4 * Math.sqrt((0.007737 * (1 - 0.007737)) / 20_000));
    expect(signFlipTest([differences], { samples: 500, seed: 1 })).toBe(signFlipTest([differences], { samples: 500, seed: 1 }));
  });

  it("never gives 0: the smallest p-value of a thousand draws is 1/1001", () => {
    expect(signFlipTest([Array.from({ length: 200 }, () => 1)], { samples: 1000 })).toBe(1 / 1001);
  });

  it("weighs sets alike, however many questions they have", () => {
    // One set of one question says as much as one of a hundred: the single difference of 1 outweighs a mean of 0.02.
    const large = Array.from({ length: 100 }, (_, i) => (i < 2 ? 1 : 0));
    expect(signFlipTest([large, [1]])).toBe(2 / 8);
  });
});

describe("holm", () => {
  it("corrects 0.01, 0.04, 0.03, 0.005 to 0.03, 0.06, 0.06, 0.02, in their order", () => {
    const corrected = holm([0.01, 0.04, 0.03, 0.005]);
    [0.03, 0.06, 0.06, 0.02].forEach((value, i) => expect(corrected[i]).toBeCloseTo(value, 12));
  });

  it("stops at 1 and leaves a single one alone", () => {
    expect(holm([0.6, 0.7])).toEqual([1, 1]);
    expect(holm([0.2])).toEqual([0.2]);
    expect(holm([])).toEqual([]);
  });
});

describe("resampledMeans", () => {
  const a = Array.from({ length: 400 }, (_, i) => ((i * 37) % 101) / 100);
  const b = Array.from({ length: 400 }, (_, i) => ((i * 53) % 101) / 100);

  it("draws the same rows of all columns: differences of the means are means of the differences", () => {
    const difference = a.map((value, i) => value - (b[i] as number));
    const [ofA, ofB, ofDifference] = resampledMeans([a, b, difference], { samples: 200, seed: 5 }) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    for (let i = 0; i < 200; i++) expect((ofA[i] as number) - (ofB[i] as number)).toBeCloseTo(ofDifference[i] as number, 12);
    // A resampled mean spreads by the deviation over the root of n: 0.01946 for the differences (NumPy).
    expect(Math.abs(standardDeviation(ofDifference) - 0.019464608748957685)).toBeLessThan(0.003);
    expect(Math.abs(mean(ofDifference) - mean(difference))).toBeLessThan(0.005);
  });

  it("is what bootstrapInterval is made of, and draws anew for another set", () => {
    const [means] = resampledMeans([a], { samples: 300, seed: 7 }) as [Float64Array];
    expect(percentileInterval(means)).toEqual(bootstrapInterval(a, { samples: 300, seed: 7 }));
    expect(resampledMeans([a], { samples: 300, seed: 7, stratum: 1 })[0]).not.toEqual(means);
  });
});
