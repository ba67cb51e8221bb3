/** Reports on simulators, whose numbers are counted by hand. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Question, SearchTrajectory } from "../../src/rl/trajectory.ts";
import type { SearchEngine, SimulatorRequest, Simulator } from "../../src/search/search-engine.ts";
import { uselessFirstSets } from "../../src/simulator/gap.ts";
import { queriesOf } from "../../src/simulator/queries.ts";
import { reportOn, sloppyQueries } from "../../src/simulator/report.ts";
import { reportMarkdown, reportTable } from "../../src/simulator/report-text.ts";
import { writeRows } from "../helpers/program.ts";

const question = (id: string, answer: string, metadata?: Question["metadata"]): Question => ({
  id,
  question: `Where is ${id}?`,
  goldenAnswers: [answer],
  dataSource: "test",
  ...(metadata === undefined ? {} : { metadata }),
});
const four = [question("a", "Rome"), question("b", "Oslo"), question("c", "Lima"), question("d", "Bern")];
const queries = four.map((one) => ({ question: one, query: `place of ${one.id}` }));
const simulator = (text: (request: SimulatorRequest) => string): Simulator => ({
  name: "scripted",
  simulate: (request) => Promise.resolve({ documents: [], text: text(request), kind: "useful" }),
  noiseProbability: () => 0,
  close: () => Promise.resolve(),
});

describe("a report", () => {
  it("counts what sets hold, how they are made, and how far they are as the engine's", async () => {
    const useful = simulator(({ query, goldenAnswers: [answer], question: asked }) => {
      // Tells the answer whatever is asked for, but for Lima.
      if (answer === "Lima") return "Doc 1: one two\nDoc 2: one two";
      return `Doc 1: ${asked.length > 0 && query !== "" ? String(answer) : ""} it is\nDoc 2: so`;
    });
    const noisy = simulator(({ goldenAnswers: [answer] }) => (answer === "Oslo" ? "Doc 1: near oslo" : ""));
    const engine: SearchEngine = {
      name: "real",
      search: ({ query }) =>
        Promise.resolve({
          kind: "real",
          documents: query.endsWith("c") || query.endsWith("a") ? [{ text: "Rome it is" }, { text: "Lima" }] : [],
        }),
      close: () => Promise.resolve(),
    };
    let told = 0;
    const rows = await reportOn(queries, { simulators: { useful, noisy }, engine, documents: 2, seed: 1, onSet: () => told++ });
    expect(told).toBe(16);
    const [usefulRow, noisyRow, sloppyRow, realRow] = rows;
    // Three of four hold it; the engine holds it for a and c: both a, neither none, so 1 of 4 agree.
    expect(usefulRow).toMatchObject({ set: "useful", n: 4, holdsAnswer: 0.75, wellFormed: 1, agreement: 0.25 });
    expect(usefulRow!.words).toBeCloseTo((3 * 4 + 4) / 8, 12);
    // rome it is so, oslo it is so, bern it is so, one two one two: 3 + it is so + one two of 16.
    expect(usefulRow!.distinct1).toBeCloseTo(8 / 16, 12);
    // rome it is so against rome it is lima: 3 of 4 + 4 shared; c: one two one two against it, none; b and d against nothing.
    expect(usefulRow!.overlap).toBeCloseTo((2 * 3) / 8 / 4, 12);
    expect(noisyRow).toMatchObject({ n: 4, holdsAnswer: 0.25, wellFormed: 0, agreement: 0.25 });
    // For another's query it tells the answer all the same.
    expect(sloppyRow).toMatchObject({ set: "sloppy", n: 4, holdsAnswer: 0.75, agreement: null, overlap: null });
    expect(realRow).toMatchObject({ set: "real", holdsAnswer: 0.5, wellFormed: 0.5, words: 2 });
    const report = { simulator: "s", engine: "bm25", rows, setsPerSecond: 12.345, tokensPerSecond: null, gap: null };
    expect(reportTable(report)).toMatch(/^useful +4 +75\.0 %.*\n.*noisy/m);
    const markdown = reportMarkdown(report).split("\n");
    expect(markdown[2]!.split("|").length).toBe(markdown[4]!.split("|").length);
    expect(markdown.filter((line) => line.startsWith("| "))).toHaveLength(6);
  });

  it("asks nothing twice under one key, and gives all up where one set fails", async () => {
    const keys = new Set<string>();
    const counting = simulator(() => "Doc 1: x");
    const noting: Simulator = {
      ...counting,
      simulate(request) {
        keys.add(JSON.stringify(request.key));
        return counting.simulate(request);
      },
    };
    await reportOn(queries, { simulators: { useful: noting, noisy: noting }, engine: null, documents: 1, seed: 1 });
    expect(keys.size).toBe(12);
    const failing = simulator(() => {
      throw new Error("gone");
    });
    const failed = reportOn(queries, { simulators: { useful: counting, noisy: failing }, engine: null, documents: 1, seed: 1 });
    await expect(failed).rejects.toThrow("gone");
  });
});

describe("sloppy queries", () => {
  it("are those of other questions, whose answers are wrong here; the same for one seed", () => {
    const more = [...queries, { question: question("e", "Rome"), query: "place of e" }];
    const sloppy = sloppyQueries(more, 3);
    expect(sloppy).toHaveLength(5);
    for (const { question: asked, query } of sloppy) {
      expect(query).not.toBe(`place of ${asked.id}`);
      if (asked.id === "a") expect(query).not.toBe("place of e");
    }
    expect(sloppyQueries(more, 3)).toEqual(sloppy);
    expect(sloppyQueries(queries.slice(0, 1), 3)).toEqual([]);
  });
});

describe("the queries of a report", () => {
  let folder: string;
  beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "zerosearch-queries-"))));
  afterAll(() => rmSync(folder, { recursive: true }));

  it("are the questions' own: metadata.queries, or their text", async () => {
    const own = [
      question("a", "x", { queries: ["mine"] }),
      question("b", "x", { queries: [{ query: "its", answers: ["x"] }] }),
      question("c", "x", { hops: 2 }),
    ];
    expect((await queriesOf(own, "questions")).map(({ query }) => query)).toEqual(["mine", "its", "Where is c?"]);
  });

  it("are the first searches of a file of rollouts, for the questions that it has", async () => {
    const row = (text: string, ...asked: string[]): object => ({
      question: { question: text },
      searches: asked.map((query) => ({ query })),
    });
    const file = writeRows(join(folder, "rollouts.jsonl"), [
      row("Where is b?", "first", "second"),
      row("Where is b?", "later"),
      row("Where is c?"),
      row("other?", "z"),
    ]);
    expect((await queriesOf(four, { file })).map((one) => [one.question.id, one.query])).toEqual([["b", "first"]]);
    await expect(queriesOf([question("z", "x")], { file })).rejects.toThrow(/holds no search for a question of data\.test/);
    const wrong = writeRows(join(folder, "wrong.jsonl"), [{ query: "x" }]);
    await expect(queriesOf(four, { file: wrong })).rejects.toThrow(/wrong\.jsonl:1: is no rollout/);
  });
});

describe("the share of useless first sets", () => {
  it("is over the first searches of questions of one hop", () => {
    const trajectory = (hops: number | undefined, ...held: boolean[]) => ({
      trajectory: {
        question: question("a", "x", hops === undefined ? undefined : { hops }),
        searches: held.map((containsGold) => ({ containsGold })),
      } as unknown as SearchTrajectory,
    });
    expect(uselessFirstSets([trajectory(1, true), trajectory(undefined, false, true), trajectory(2, false), trajectory(1)])).toBe(0.5);
    expect(uselessFirstSets([trajectory(1)])).toBe(0);
  });
});
