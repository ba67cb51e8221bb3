/** Statistics of an evaluation against numbers worked out by hand, and by NumPy. */
import { describe, expect, it } from "vitest";
import { compare } from "../../src/evaluation/compare.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { Tally, type CellTally } from "../../src/evaluation/tally.ts";

/** A row with these scores; the rest is as small as it can be. */
function row(dataSource: string, em: number, f1 = em): JudgedRow {
  return {
    ...{ when: "after", method: "m", engine: "e", step: null, em, subem: em, f1 },
    key: { step: 0, question: 0, rollout: 0 },
    question: { id: "q", question: "q?", goldenAnswers: ["a"], dataSource },
    ...{ status: "answered", answer: "a", invalidActions: 0, turns: 1, searches: [], text: "" },
    ...{ promptLength: 1, ids: [1, 2, 3], lossMask: [0, 1, 1], logProbs: [0, 0, 0], sampling: { temperature: 0, topK: 0, topP: 1 } },
  };
}

function cell(method: string, engine: string, sets: Readonly<Record<string, readonly number[]>>): CellTally {
  const tally = new Tally(method, engine, { maxNewTokens: 10 });
  for (const [set, scores] of Object.entries(sets)) for (const score of scores) tally.add(row(set, score));
  return tally.take();
}

const options = { seed: 1, samples: 1000, reference: "a" };

describe("compare", () => {
  it("averages over sets, each weighing alike: .75 and .2 make .475, not the .4 of all questions", () => {
    const [only] = compare([cell("a", "e", { x: [1, 1, 1, 0], y: [1, 0, 0, 0, 0, 0, 0, 0, 0, 1] })], options).rows;
    expect(only?.sets.get("x")?.em.mean).toBe(0.75);
    expect(only?.sets.get("y")?.em.mean).toBe(0.2);
    expect(only?.average.em.mean).toBeCloseTo(0.475, 12);
    expect(only?.average).toMatchObject({ n: 14, searches: 0, valid: 1, tokens: 2 });
  });

  it("draws within the sets: where no set varies in itself the average has no spread", () => {
    const [only] = compare([cell("a", "e", { x: [1, 1, 1, 1], y: [0, 0, 0, 0] })], options).rows;
    expect(only?.average.em).toEqual({ mean: 0.5, low: 0.5, high: 0.5 });
  });

  it("has the interval of a macro mean that NumPy's stratified resamples have", () => {
    const x = Array.from({ length: 50 }, (_, i) => (i % 3 === 0 ? 1 : 0));
    const y = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? 1 : 0));
    const [only] = compare([cell("a", "e", { x, y })], { ...options, samples: 4000 }).rows;
    // numpy.random, 200,000 resamples of both sets: 0.3475 to 0.495 about (17/50 + 1/2) / 2 = 0.42.
    expect(Math.abs((only?.average.em.low ?? 0) - 0.3475)).toBeLessThan(0.006);
    expect(Math.abs((only?.average.em.high ?? 0) - 0.495)).toBeLessThan(0.006);
  });

  it("pairs the questions: two methods that differ by a constant have a difference without spread", () => {
    const scores = Array.from({ length: 40 }, (_, i) => ((i * 7) % 10) / 20);
    const { comparisons } = compare([cell("a", "e", { x: scores }), cell("b", "e", { x: scores.map((score) => score + 0.25) })], options);
    const em = comparisons.find(({ score }) => score === "em");
    expect(em).toMatchObject({ of: "methods", row: { method: "b", engine: "e" }, than: { method: "a", engine: "e" }, n: 40 });
    for (const value of [em?.difference, em?.low, em?.high]) expect(value).toBeCloseTo(0.25, 12);
    // All 40 have one sign: none of the 5,000 patterns is as extreme.
    expect(em?.p).toBe(1 / 5001);
  });

  it("compares each method with the reference on the same engine, and each engine of a method with its first", () => {
    const x = [1, 0, 1];
    const cells = [
      cell("a", "one", { x }),
      cell("a", "two", { x }),
      cell("direct", "none", { x }),
      cell("b", "one", { x }),
      cell("b", "two", { x }),
    ];
    const named = compare(cells, options)
      .comparisons.filter(({ score }) => score === "f1")
      .map(({ of, row: { method, engine }, than }) => `${of}: ${method}/${engine} - ${than.method}/${than.engine}`);
    expect(named).toEqual([
      "methods: direct/none - a/one",
      "methods: direct/none - a/two",
      "methods: b/one - a/one",
      "methods: b/two - a/two",
      "engines: a/two - a/one",
      "engines: b/two - b/one",
    ]);
    expect(
      compare(cells, { ...options, reference: "direct" }).comparisons.filter(({ score, of }) => score === "f1" && of === "methods").length,
    ).toBe(4);
  });

  it("corrects by Holm over all comparisons of one score", () => {
    const a = Array.from({ length: 12 }, () => 0);
    const ones = (count: number): number[] => a.map((_, i) => (i < count ? 1 : 0));
    const cells = [
      cell("a", "e", { x: a }),
      cell("b", "e", { x: ones(8) }),
      cell("c", "e", { x: ones(6) }),
      cell("d", "e", { x: ones(1) }),
    ];
    const em = compare(cells, options).comparisons.filter(({ score }) => score === "em");
    // 2 / 2^8, 2 / 2^6, 2 / 2^1; by Holm three, two and one times that.
    expect(em.map(({ p }) => p)).toEqual([2 / 256, 2 / 64, 1]);
    expect(em.map(({ pHolm }) => pHolm)).toEqual([(3 * 2) / 256, (2 * 2) / 64, 1]);
  });

  it("gives a set's difference and interval, too, and the same again", () => {
    const cells = [cell("a", "e", { x: [0, 0], y: [1, 1] }), cell("b", "e", { x: [1, 1], y: [1, 1] })];
    const [first] = compare(cells, options).comparisons;
    expect(first?.sets).toEqual([
      { set: "x", difference: 1, low: 1, high: 1 },
      { set: "y", difference: 0, low: 0, high: 0 },
    ]);
    expect(first?.difference).toBe(0.5);
    expect(compare(cells, options)).toEqual(compare(cells, options));
  });
});
