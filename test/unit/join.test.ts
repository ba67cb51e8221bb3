/** Rows that several programs judged, joined by question: against means worked out by hand, and against the same rows judged together. */
import { describe, expect, it } from "vitest";
import { compare } from "../../src/evaluation/compare.ts";
import { HealthCounter } from "../../src/evaluation/health.ts";
import { joinRows, readParts, type JoinedRow, type Part } from "../../src/evaluation/join.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { Tally } from "../../src/evaluation/tally.ts";

interface Made {
  readonly id?: string;
  readonly set?: string;
  readonly score: number;
  readonly question?: string;
  readonly method?: string;
  readonly tokens?: number;
  readonly searches?: number;
}

function made({ id = "q", set = "x", score, question = "q?", method = "m", tokens = 2, searches = 0 }: Made): JudgedRow {
  const search = { turn: 0, query: "q", documents: [], text: "", containsGold: false, ms: 0, engine: "e", kind: "real" };
  return {
    ...{ when: "after", method, engine: "e", step: 24, em: score, subem: score, f1: score },
    key: { step: 0, question: 0, rollout: 0 },
    question: { id, question, goldenAnswers: ["a"], dataSource: set },
    ...{ status: "answered", answer: "a", invalidActions: 0, turns: 1, text: "" },
    searches: Array.from({ length: searches }, () => search) as unknown as JudgedRow["searches"],
    ...{ promptLength: 1, ids: [], lossMask: Array.from({ length: tokens }, () => 1), logProbs: [] },
    sampling: { temperature: 0, topK: 0, topP: 1 },
  };
}

async function* stream(rows: readonly JudgedRow[]): AsyncGenerator<JudgedRow> {
  for (const row of await Promise.resolve(rows)) yield row;
}

const counter = (): HealthCounter => new HealthCounter({ maxNewTokens: 10 });
const parts = (rows: readonly Made[], where = "folder"): Promise<Part[]> => readParts(stream(rows.map(made)), where, counter);
const scores = (values: readonly number[], more: Partial<Made> = {}): Made[] => values.map((score, i) => ({ id: `q${i}`, score, ...more }));
const rowOf = (name: string, own: readonly Part[]): JoinedRow => ({ name, engine: "e", parts: own, health: counter() });

describe("joined rows", () => {
  it("have of each question the mean over runs, and say what each run scored", async () => {
    const [one] = await parts(scores([1, 0, 0.5, 0], { tokens: 4, searches: 1 }), "one");
    const [two] = await parts(scores([1, 1, 0, 0], { tokens: 6, searches: 2 }), "two");
    const { cells, runs, leftOut } = joinRows([rowOf("both", [one, two] as Part[])]);
    expect(cells[0]?.sets.get("x")).toEqual({
      scores: { f1: [1, 0.5, 0.25, 0], em: [1, 0.5, 0.25, 0], subem: [1, 0.5, 0.25, 0] },
      ...{ n: 4, searches: 6, valid: 4, tokens: 20 },
    });
    expect(runs).toEqual([
      [
        { source: "one", em: 0.375, subem: 0.375, f1: 0.375 },
        { source: "two", em: 0.5, subem: 0.5, f1: 0.5 },
      ],
    ]);
    expect(leftOut).toBe(0);
  });

  it("weigh sets alike in what each run scored", async () => {
    const rows = [...scores([1, 1, 1, 0]), ...scores([0, 1], { set: "y" })];
    const { runs } = joinRows([rowOf("a", await parts(rows))]);
    expect(runs[0]?.[0]?.em).toBe((0.75 + 0.5) / 2);
  });

  it("are compared as if one program had judged them, in whatever order each has the questions", async () => {
    const [first, second] = [
      [1, 0, 0.5, 0, 1, 0],
      [0, 0, 1, 1, 1, 0.25],
    ];
    const [a] = await parts(scores(first));
    const [b] = await parts(scores(second).reverse());
    const { cells } = joinRows([rowOf("a", [a as Part]), rowOf("b", [b as Part])]);
    const together = ([name, values]: [string, number[]]) => {
      const tally = new Tally(name, "e", { maxNewTokens: 10 });
      for (const one of scores(values)) tally.add(made(one));
      return tally.take();
    };
    const options = { seed: 3, samples: 500, reference: "a" };
    const entries: [string, number[]][] = [
      ["a", first],
      ["b", second],
    ];
    expect(compare(cells, options)).toEqual(compare(entries.map(together), options));
  });

  it("count questions that not every row has, and leave them out", async () => {
    const [a] = await parts(scores([1, 0, 1, 1]));
    const [b] = await parts(scores([1, 1]));
    const { cells, leftOut, questions } = joinRows([rowOf("a", [a as Part]), rowOf("b", [b as Part])]);
    expect(leftOut).toBe(2);
    expect([...questions]).toEqual([["x", 2]]);
    expect(cells.map(({ sets }) => sets.get("x")?.scores.em)).toEqual([
      [1, 0],
      [1, 1],
    ]);
  });

  it("take the second row of an id as its second question, and methods apart", async () => {
    const rows = [{ score: 1 }, { score: 0 }, { score: 0.5, method: "other" }, { score: 0.25, method: "other" }];
    const [m, other] = await parts(rows);
    const { cells } = joinRows([rowOf("m", [m as Part]), rowOf("other", [other as Part])]);
    expect(cells.map(({ sets }) => sets.get("x")?.scores.em)).toEqual([
      [1, 0],
      [0.5, 0.25],
    ]);
  });

  it("are refused where they have no question in common, or one id means two questions", async () => {
    const [a] = await parts(scores([1]), "here");
    const [b] = await parts(scores([1], { set: "y" }), "there");
    const [c] = await parts(scores([1], { question: "another?" }), "elsewhere");
    expect(() => joinRows([rowOf("a", [a as Part]), rowOf("b", [b as Part])])).toThrow(
      'joined rows: have no question in common; expected here: "q?", got there: "q?"',
    );
    expect(() => joinRows([rowOf("a", [a as Part]), rowOf("c", [c as Part])])).toThrow(
      'elsewhere, question ["x","q0"]: is not the one of here; expected ["q?",["a"]], got ["another?",["a"]]',
    );
  });
});
