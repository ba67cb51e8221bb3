/** The agent's health, HotpotQA's rule, and answers that a corpus lacks: counts worked out by hand. */
import { describe, expect, it } from "vitest";
import { measureCoverage } from "../../src/evaluation/coverage.ts";
import { HealthCounter } from "../../src/evaluation/health.ts";
import { hotpotScores, isHotpot } from "../../src/evaluation/hotpot.ts";
import { f1 } from "../../src/rl/reward.ts";
import type { SearchRecord, SearchTrajectory } from "../../src/rl/trajectory.ts";
import type { Passage } from "../../src/search/passages.ts";

const search = (query: string, text = "", containsGold = false): SearchRecord => ({
  ...{ turn: 0, query, kind: "real", documents: [{ text }], text, containsGold },
});

function trajectory(more: Partial<SearchTrajectory>): SearchTrajectory {
  return {
    key: { step: 0, question: 0, rollout: 0 },
    question: { id: "q", question: "Who wrote Hamlet?", goldenAnswers: ["Shakespeare"], dataSource: "x" },
    ...{ status: "answered", answer: null, invalidActions: 0, turns: 1, searches: [], text: "" },
    ...{ promptLength: 1, ids: [], lossMask: [], logProbs: [], sampling: { temperature: 0, topK: 0, topP: 1 } },
    ...more,
  };
}

function health(...rollouts: Partial<SearchTrajectory>[]) {
  const counter = new HealthCounter({ maxNewTokens: 3 });
  for (const one of rollouts) counter.add(trajectory(one));
  return counter.take();
}

describe("health", () => {
  it("counts repeated queries, the question as a query, and searches after enough was found", () => {
    const found = health(
      { searches: [search("who wrote hamlet"), search("Hamlet", "by Shakespeare", true), search("the hamlet!"), search("Macbeth")] },
      { searches: [search("Hamlet")] },
      {},
    );
    expect(found).toMatchObject({ n: 3, searches: 5, repeated: 1 / 5, copied: 1 / 5, afterEnough: 2 / 5 });
    expect(found.bySearch).toEqual([
      { search: 1, n: 2, gold: 0, repeated: 0, copied: 1 / 2, afterEnough: 0 },
      { search: 2, n: 1, gold: 1, repeated: 0, copied: 0, afterEnough: 0 },
      { search: 3, n: 1, gold: 0, repeated: 1, copied: 0, afterEnough: 1 },
      { search: 4, n: 1, gold: 0, repeated: 0, copied: 0, afterEnough: 1 },
    ]);
  });

  it("counts turns that were no action, turns that were cut, and rollouts that ran out of room", () => {
    const found = health(
      { turns: 3, invalidActions: 1, lossMask: [0, 1, 1, 0, 1, 1, 1, 0, 1], status: "length" },
      { turns: 1, lossMask: [0, 1, 1, 1] },
    );
    expect(found).toMatchObject({ invalid: 1 / 4, truncatedTurns: 2 / 4, truncated: 1 / 2 });
  });

  it("counts answers of rollouts that searched that stand in no document", () => {
    const found = health(
      { answer: "the Bard", searches: [search("a", "The bard wrote it.")] },
      { answer: "Marlowe", searches: [search("a", "The bard wrote it."), search("b", "Nobody knows.")] },
      { answer: "Marlowe" },
      { answer: null, searches: [search("a")] },
    );
    expect(found.unsupported).toBe(1 / 2);
  });

  it("has no share of nothing", () => {
    expect(health({})).toMatchObject({ repeated: null, copied: null, afterEnough: null, unsupported: null, bySearch: [] });
  });
});

describe("HotpotQA's rule for yes and no", () => {
  it("gives F1 0 where one is yes or no and the other is not, however many words they share", () => {
    expect(f1("yes it is", "yes")).toBe(0.5);
    expect(hotpotScores("yes it is", ["yes"])).toEqual({ f1: 0, em: 0, subem: 1 });
    expect(hotpotScores("no", ["no other man"]).f1).toBe(0);
    expect(hotpotScores("Yes.", ["yes"])).toEqual({ f1: 1, em: 1, subem: 1 });
  });

  it("leaves other answers, and a second golden answer, as they are", () => {
    expect(hotpotScores("the red house", ["red house"])).toEqual({ f1: 1, em: 1, subem: 1 });
    expect(hotpotScores("yes it is", ["yes", "yes it was"]).f1).toBeCloseTo(2 / 3, 12);
    expect(hotpotScores(null, ["yes"])).toEqual({ f1: 0, em: 0, subem: 0 });
  });

  it("is that of HotpotQA alone", () => {
    expect(["hotpotqa", "hotpot_qa", "nq"].map((dataSource) => isHotpot({ dataSource }))).toEqual([true, true, false]);
  });
});

describe("measureCoverage", () => {
  const questions = (dataSource: string, ...answers: string[][]) =>
    answers.map((goldenAnswers, i) => ({ id: String(i), question: "?", goldenAnswers, dataSource }));
  const passages = async function* (...texts: string[]): AsyncGenerator<Passage> {
    for (const [i, text] of texts.entries()) yield { id: String(i), title: `Title ${i}`, text };
  };

  it("counts, by set, the questions none of whose answers stands in any passage as whole words", async () => {
    const asked = [
      ...questions("x", ["Paris"], ["art"], ["New York City", "NYC"], ["The U.S.A."]),
      ...questions("y", ["title 1"], ["1 new"], ["new york"], ["city of new york city"]),
    ];
    const found = await measureCoverage(passages("A party in Paris.", "a New York, City of usa"), asked);
    // "art" is no word of "party"; what begins in a title does not end in the text; "New York City" stands there once its comma is gone.
    expect(found).toEqual([
      { set: "x", n: 4, missing: 1 },
      { set: "y", n: 4, missing: 2 },
    ]);
  });

  it("agrees with looking for each answer in each passage", async () => {
    const words = ["red", "green", "blue", "red green", "green red", "blue blue red", "red red", "blue green blue"];
    const texts = Array.from({ length: 12 }, (_, i) =>
      [0, 1, 2, 3].map((k) => ["red", "green", "blue", "x"][(i * 7 + k * (i + 3)) % 4]).join(" "),
    );
    const asked = questions("x", ...words.map((word) => [word]));
    const missing = words.filter((word) => !texts.some((text) => ` ${text} `.includes(` ${word} `))).length;
    expect(await measureCoverage(passages(...texts), asked)).toEqual([{ set: "x", n: words.length, missing }]);
    expect(missing).toBeGreaterThan(0);
  });

  it("does not count answers without a normal form", async () => {
    expect(await measureCoverage(passages("x"), questions("x", ["A"], ["+", "y"]))).toEqual([{ set: "x", n: 2, missing: 0 }]);
  });
});
