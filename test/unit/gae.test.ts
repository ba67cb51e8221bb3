import { describe, expect, it } from "vitest";
import { generalizedAdvantages, whiten } from "../../src/rl/gae.ts";
import type { DocumentRule } from "../../src/rl/settings.ts";

// reference/rl-algorithms.md 1.3: two tokens, a document of two, two tokens, the reward at the end
const lossMask = [1, 1, 0, 0, 1, 1];
const values = [0.1, 0.2, 0.9, 0.7, 0.4, 0.3];
const rewards = [0, 0, 0, 0, 0, 1];

function advantages(documents: DocumentRule, lambda: number, over: { values?: number[]; rewards?: number[] } = {}): number[] {
  return [...generalizedAdvantages({ lossMask, values, rewards, ...over }, { gamma: 1, lambda, documents }).advantages];
}

function expectClose(got: readonly number[], want: readonly number[], tolerance = 1e-8): void {
  expect(got.length).toBe(want.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - (want[i] ?? NaN)), `${i}: ${value}`).toBeLessThan(tolerance);
  });
}

describe("generalised advantages across documents", () => {
  it("are golden numbers of four rules", () => {
    for (const rule of ["skip", "plain", "zero"] as const) expectClose(advantages(rule, 1), [0.9, 0.8, 0, 0, 0.6, 0.7]);
    expectClose(advantages("skip", 0.95), [0.7999125, 0.73675, 0, 0, 0.565, 0.7]);
    expectClose(advantages("plain", 0.95), [0.78748353, 0.72366687, 0, 0, 0.565, 0.7]);
    expectClose(advantages("zero", 0.95), [0.71314603, 0.64541687, 0, 0, 0.565, 0.7]);
    // the reward never reaches what was written before the document
    expectClose(advantages("reset", 1), [-0.1, -0.2, 0, 0, 0.6, 0.7]);
  });

  it("with skip do not change by a bit, whatever is put in anywhere", () => {
    const settings = { gamma: 0.99, lambda: 0.95, documents: "skip" } as const;
    const short = { lossMask: [1, 1, 1, 1], values: [0.1, 0.2, 0.4, 0.3], rewards: [0, 0, 0, 1] };
    const want = generalizedAdvantages(short, settings);
    for (let at = 0; at <= 4; at++)
      for (const count of [1, 3]) {
        const put = (list: readonly number[], value: number): number[] => [
          ...list.slice(0, at),
          ...new Array<number>(count).fill(value),
          ...list.slice(at),
        ];
        const long = { lossMask: put(short.lossMask, 0), values: put(short.values, NaN), rewards: put(short.rewards, NaN) };
        const got = generalizedAdvantages(long, settings);
        for (const part of ["advantages", "returns"] as const)
          expect([...got[part]].filter((_, t) => long.lossMask[t] === 1)).toEqual([...want[part]]);
      }
  });

  it("with every rule but plain read nothing where the mask is 0", () => {
    const holes = (list: readonly number[]): number[] => list.map((value, t) => (lossMask[t] === 1 ? value : NaN));
    for (const rule of ["skip", "zero", "reset"] as const)
      expect(advantages(rule, 0.9, { values: holes(values), rewards: holes(rewards) })).toEqual(advantages(rule, 0.9));
    expect(advantages("plain", 0.9, { values: holes(values) })[0]).toBeNaN();
  });

  it("give returns of advantage and value, and nothing without a policy token", () => {
    const { advantages, returns } = generalizedAdvantages({ lossMask, values, rewards }, { gamma: 1, lambda: 1, documents: "skip" });
    expectClose([...returns], [1, 1, 0, 0, 1, 1]);
    expectClose([...advantages], [0.9, 0.8, 0, 0, 0.6, 0.7]);
    const none = generalizedAdvantages(
      { lossMask: [0, 0], values: [NaN, 1], rewards: [1, 1] },
      { gamma: 1, lambda: 1, documents: "plain" },
    );
    expect([[...none.advantages], [...none.returns]]).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  it("refuse what is out of range or does not fit", () => {
    const tokens = { lossMask, values, rewards };
    expect(() => generalizedAdvantages(tokens, { gamma: 1.1, lambda: 1, documents: "skip" })).toThrow("gae: wrong gamma");
    expect(() => generalizedAdvantages(tokens, { gamma: 1, lambda: NaN, documents: "skip" })).toThrow("gae: wrong lambda");
    expect(() => generalizedAdvantages({ ...tokens, values: [1] }, { gamma: 1, lambda: 1, documents: "skip" })).toThrow(
      "expected 6 each, got 1 and 6",
    );
  });
});

describe("whitening", () => {
  it("is over policy tokens only: golden number", () => {
    const [white] = whiten([{ lossMask, advantages: [0.7999125, 0.73675, NaN, 99, 0.565, 0.7] }]);
    expect(white?.[0]).toBeCloseTo(1.00239037, 7);
    expect([white?.[2], white?.[3]]).toEqual([0, 0]);
  });

  it("is over all rows together, and gives 0 for one token", () => {
    const rows = whiten([
      { lossMask: [1, 0], advantages: [1, 5] },
      { lossMask: [1], advantages: [3] },
    ]);
    expectClose([...(rows[0] ?? []), ...(rows[1] ?? [])], [-Math.SQRT1_2, 0, Math.SQRT1_2], 1e-8);
    expect([...(whiten([{ lossMask: [1], advantages: [7] }])[0] ?? [])]).toEqual([0]);
  });
});
