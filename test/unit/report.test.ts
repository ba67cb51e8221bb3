import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { JsonLines, truncateAfterStep } from "../../src/log/json-lines.ts";
import { evaluationJson, evaluationText, type EvaluationRow } from "../../src/evaluation/report.ts";
import { metricRow, rolloutRow, unpaidRow } from "../../src/log/rows.ts";
import { partingNote } from "../../src/run/parting-note.ts";
import { formatTable } from "../../src/log/table.ts";
import type { SearchTrajectory } from "../../src/rl/trajectory.ts";
import { FileError } from "../../src/util/errors.ts";
import { scoredOf } from "../helpers/trajectories.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-log-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const rowsOf = (file: string) =>
  readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("formatTable", () => {
  it("aligns texts left and numbers right, and shows no value as a dash", () => {
    const text = formatTable<[string, number | null, string]>(
      [
        { title: "method", value: (row) => row[0] },
        { title: "F1", value: (row) => row[1] },
        { title: "note", value: (row) => row[2] },
      ],
      [
        ["direct", 0.5, "né"],
        ["zerosearch", 12, "x"],
        ["rag", null, ""],
      ],
    );
    expect(text).toBe(
      ["method       F1  note", "──────────  ───  ────", "direct      0.5  né", "zerosearch   12  x", "rag           -"].join("\n"),
    );
  });
});

describe("a JSONL log", () => {
  it("is cut back to a step, with all its rows, and off a row half written", () => {
    const file = join(folder, "a.jsonl");
    const log = new JsonLines(file);
    for (const step of [1, 2, 2, 3, 3]) log.append([{ step, text: "é".repeat(step) }]);
    const bytesAtTwo = rowsOf(file)
      .slice(0, 3)
      .map((row) => Buffer.byteLength(JSON.stringify(row)) + 1)
      .reduce((a, b) => a + b);
    log.close();
    appendFileSync(file, '{"step":4,"te');
    expect(truncateAfterStep(file, 3)).toBe(statSync(file).size);
    expect(rowsOf(file).map((row) => row["step"])).toEqual([1, 2, 2, 3, 3]);
    expect(truncateAfterStep(file, 2)).toBe(bytesAtTwo);
    expect(rowsOf(file).map((row) => row["step"])).toEqual([1, 2, 2]);
    expect(truncateAfterStep(file, 0)).toBe(0);
    expect(truncateAfterStep(join(folder, "none.jsonl"), 3)).toBe(0);
    expect(existsSync(join(folder, "none.jsonl"))).toBe(false);
  });

  it("is cut right where rows are longer than the reading buffer", () => {
    const file = join(folder, "long.jsonl");
    const log = new JsonLines<{ step: number; text: string }>(file);
    log.append([1, 2, 3].map((step) => ({ step, text: "x".repeat(1_500_000) })));
    log.close();
    truncateAfterStep(file, 2);
    expect(rowsOf(file).map((row) => row["step"])).toEqual([1, 2]);
  });

  it("goes on after being reopened, and counts its bytes", () => {
    const file = join(folder, "sub", "a.jsonl");
    for (const step of [1, 2]) {
      const log = new JsonLines(file);
      log.append([{ step }]);
      expect(log.bytes).toBe(statSync(file).size);
      log.sync();
      log.close();
    }
    expect(rowsOf(file)).toEqual([{ step: 1 }, { step: 2 }]);
  });

  it("refuses to cut a file that is something else", () => {
    const file = join(folder, "notes.txt");
    writeFileSync(file, "hello\n");
    expect(() => truncateAfterStep(file, 1)).toThrow(`${file}:1: not a log row; expected JSON with a "step", got hello`);
    expect(readFileSync(file, "utf8")).toBe("hello\n");
  });

  it.skipIf(process.platform !== "linux")("says that the disk is full", () => {
    const log = new JsonLines("/dev/full");
    expect(() => log.append([{ step: 1 }])).toThrow(FileError);
    expect(() => log.sync()).toThrow("make room, then go on with --resume");
    log.close();
    // Not every program has --resume.
    const other = new JsonLines("/dev/full", "give the same command again");
    expect(() => other.append([{ step: 1 }])).toThrow("make room, then give the same command again");
    other.close();
  });
});

it("a rollout whose reward failed is a row without a reward, which says why; all others are as ever", () => {
  const scored = scoredOf({ ids: [1, 2, 3], mask: "011", logProbs: [0, -1, -2] }, 0.5, 1);
  const { trajectory } = scored;
  const { ids, lossMask, logProbs, ...rest } = trajectory;
  const row = unpaidRow({ trajectory, failure: "no luck" });
  expect(JSON.parse(JSON.stringify(row))).toEqual({
    step: 1,
    reward: null,
    advantage: 0,
    rewardFailure: "no luck",
    ...rest,
    ids,
    lossMask,
    logProbs,
  });
  expect(rolloutRow(scored)).toEqual({ step: 1, reward: 1, advantage: 0.5, ...rest, ids, lossMask, logProbs });
});

describe("the metrics of two runs", () => {
  it("agree once what a clock measured is taken out", () => {
    const rows = [10, 20].map((seconds, run) => {
      const file = join(folder, `${run}.jsonl`);
      const log = new JsonLines(file);
      log.append([metricRow(1, { "reward/mean": 0.25, "loss/policy": NaN }, { step: seconds, tokensPerSecond: seconds })]);
      log.close();
      return rowsOf(file)[0]!;
    });
    expect(rows[0]).toEqual({ step: 1, "reward/mean": 0.25, "loss/policy": null, "time/step": 10, "time/tokensPerSecond": 10 });
    expect(Object.keys(rows[0] ?? {}).at(-1)).toBe("time/tokensPerSecond");
    const [first, second] = rows.map((row) => Object.entries(row).filter(([key]) => !key.startsWith("time/")));
    expect(first).toEqual(second);
  });
});

describe("the log of rollouts", () => {
  it("holds the trajectory, field for field, with its step, reward and advantage", () => {
    const trajectory: SearchTrajectory = {
      key: { step: 4, question: 1, rollout: 2 },
      question: { id: "q", question: "Who?", goldenAnswers: ["A", "B"], dataSource: "d" },
      promptLength: 1,
      ids: [5, 6, 7],
      lossMask: [0, 1, 0],
      logProbs: [0, -0.5, 0],
      sampling: { temperature: 0.7, topK: 5, topP: 0.9 },
      status: "answered",
      answer: "A",
      searches: [
        { turn: 0, query: "who", kind: "noisy", noiseProbability: 0.1, documents: [{ text: "x" }], text: "Doc 1: x", containsGold: false },
      ],
      invalidActions: 0,
      turns: 2,
      text: "<search> who </search>",
    };
    const file = join(folder, "rollouts.jsonl");
    const log = new JsonLines(file);
    const scored = [
      { trajectory, reward: 1, advantage: 0.5 },
      { trajectory, reward: 0, advantage: Float32Array.of(NaN, -1.5, 3) },
    ];
    log.append(scored.map(rolloutRow));
    log.close();
    expect(rowsOf(file)).toEqual([
      { ...trajectory, step: 4, reward: 1, advantage: 0.5 },
      { ...trajectory, step: 4, reward: 0, advantage: [0, -1.5, 0] },
    ]);
  });
});

describe("the evaluation's report", () => {
  const row: EvaluationRow = {
    method: "zerosearch",
    model: "m",
    when: "after",
    engine: "bm25",
    dataset: "two-hop",
    n: 150,
    em: 0.7,
    subem: 0.72,
    f1: 0.7512,
    f1Low: 0.7,
    f1High: 0.8,
    searches: 2.004,
  };

  it("is an array of rows, one a line", () => {
    expect(JSON.parse(evaluationJson([{ ...row, valid: 1 }, row]))).toEqual([row, row]);
    expect(evaluationJson([row, row]).split("\n")).toHaveLength(5);
  });

  it("shows scores to three digits with their interval", () => {
    expect(evaluationText([{ rows: [row], byHops: [], robustness: [] }], [])).toContain("0.751  0.700-0.800      2.00");
  });
});

describe("the note that simulation and reality part ways", () => {
  const point = (step: number, simulatedReward: number, realF1: number, noise = 0) => ({ step, simulatedReward, noise, realF1 });

  it("is given when the real F1 falls below its best while the simulated reward rises", () => {
    expect(partingNote([point(10, 0.6, 0.8), point(20, 0.7, 0.74)])).toMatch(
      /since step 10 F1 with the real engine fell from 0.800 to 0.740/,
    );
  });

  it("is given when the simulated reward falls only as the noise rises", () => {
    expect(partingNote([point(10, 0.7, 0.8, 0.1), point(20, 0.5, 0.74, 0.5)])).toBeDefined();
  });

  it("is not given while both rise, both fall, or the fall is within the margin", () => {
    expect(partingNote([point(10, 0.6, 0.7), point(20, 0.7, 0.8)])).toBeUndefined();
    expect(partingNote([point(10, 0.7, 0.8), point(20, 0.5, 0.7)])).toBeUndefined();
    expect(partingNote([point(10, 0.6, 0.8), point(20, 0.7, 0.79)])).toBeUndefined();
    expect(partingNote([])).toBeUndefined();
  });
});
