/** `zerosearch table`: what several programs judged in one table; `zerosearch quickstart table`: the paper's, trained and judged by one command. */
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GridReport } from "../../src/evaluation/grid-report.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { evaluationFolder, wholeTable } from "../helpers/evaluation-folder.ts";
import { readRows, start, writeRows, type Ended } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

let folder: string;
const zerosearch = (...args: string[]): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), ...args], { cwd: folder });
const table = (...args: string[]): Promise<Ended> => zerosearch("table", ...args);
const report = (name: string): GridReport => JSON.parse(readFileSync(join(folder, name, "evaluation.json"), "utf8")) as GridReport;
const judged = (name: string): JudgedRow[] => readRows(join(folder, name, "judged.jsonl")) as unknown as JudgedRow[];

beforeAll(async () => {
  folder = await evaluationFolder();
  const own = ["evaluation.bootstrapSamples=2000"];
  expect((await zerosearch("evaluate", ...wholeTable, ...own, "--out", "whole")).code).toBe(0);
  for (const method of ["zerosearch", "rag", "direct"]) {
    const args = wholeTable.map((one) => (one === "zerosearch,rag,direct" ? method : one));
    expect((await zerosearch("evaluate", ...args, ...own, "--out", method)).code).toBe(0);
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("zerosearch table", () => {
  it("joins what three programs judged into what one program makes of the same rows", async () => {
    const { code, stdout } = await table("zerosearch", "rag", "direct", "--compare-to", "zerosearch", "--out", "joined");
    expect(code).toBe(0);
    const [whole, joined] = [report("whole"), report("joined")];
    for (const part of ["rows", "averages", "comparisons", "health"] as const) expect(joined[part]).toEqual(whole[part]);
    expect(stdout).toContain("Paired differences of EM, in points");
    expect(
      readFileSync(join(folder, "joined", "table.md"), "utf8")
        .split("\n")
        .slice(2),
    ).toEqual(
      readFileSync(join(folder, "whole", "table.md"), "utf8")
        .split("\n## Questions whose golden")[0]
        ?.split("\n")
        .slice(2),
    );
    expect(readFileSync(join(folder, "joined", "table.svg"), "utf8")).toMatch(/^<svg /);
  });

  it("takes folders with commas between as runs of one row: means of each question, and the score of each run", async () => {
    cpSync(join(folder, "direct"), join(folder, "again"), { recursive: true });
    writeRows(
      join(folder, "again", "judged.jsonl"),
      judged("direct").map((row, i) => ({ ...row, em: i % 2, f1: i % 2 })),
    );
    const { code, stdout } = await table("Twice=direct,again", "--metric", "f1", "--json", "twice.json");
    expect(code).toBe(0);
    const { averages } = JSON.parse(readFileSync(join(folder, "twice.json"), "utf8")) as GridReport;
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    const f1Of = (name: string): number =>
      mean(["nq", "my"].map((set) => mean(judged(name).flatMap((row) => (row.question.dataSource === set ? row.f1 : [])))));
    expect(averages).toHaveLength(1);
    expect(averages[0]).toMatchObject({ method: "Twice", n: 22 });
    expect(averages[0]?.f1).toBeCloseTo((f1Of("direct") + f1Of("again")) / 2, 12);
    expect(averages[0]?.runs?.map(({ source }) => source)).toEqual(["direct", "again"]);
    expect(averages[0]?.runs?.[1]?.f1).toBeCloseTo(f1Of("again"), 12);
    expect(stdout).toContain("F1 of each run");
  });

  it("names rows of several folders apart, and takes what is asked for", async () => {
    const { stdout } = await table("whole", "zerosearch", "Old=rag", "--methods", "zerosearch,rag");
    for (const name of ["zerosearch of whole", "zerosearch of zerosearch", "rag", "Old"])
      expect(stdout).toMatch(new RegExp(`^${name} `, "m"));
    expect(stdout).not.toMatch(/^direct /m);
  });

  it("says what cannot be joined, and touches nothing that was judged", async () => {
    cpSync(join(folder, "direct"), join(folder, "other-rules"), { recursive: true });
    const settings = join(folder, "other-rules", "settings.json");
    writeFileSync(settings, readFileSync(settings, "utf8").replace('"reward.normalizer": "squad"', '"reward.normalizer": "unicode"'));
    const cases: [string[], RegExp][] = [
      [[], /needs what it is to join/],
      [["direct", "nowhere"], /nowhere: there is no such folder, and no such run/],
      [["direct", "other-rules"], /other-rules: was judged with reward\.normalizer=unicode, and direct with squad/],
      [["A=direct", "A=again"], /two rows would be called A; expected a name each/],
      [["A=direct,direct"], /direct is there twice/],
      [["A=direct,rag"], /has no rows of direct with none \(after training\), which direct has/],
      [["direct", "--methods", "rag"], /holds no row of --methods rag/],
      [
        ["direct", "rag", "--compare-to", "dirct"],
        /--compare-to dirct: there is no such row; expected direct, rag\n {2}did you mean direct\?/,
      ],
      [["direct", "--out", "direct"], /--out direct: holds what was judged/],
      [["policy"], /policy: holds nothing that was judged/],
    ];
    const before = readFileSync(join(folder, "direct", "evaluation.json"), "utf8");
    for (const [args, expected] of cases) {
      const { code, stderr } = await table(...args);
      expect([args, code]).toEqual([args, 1]);
      expect(stderr).toMatch(expected);
    }
    expect(readFileSync(join(folder, "direct", "evaluation.json"), "utf8")).toBe(before);
  });
});

describe("zerosearch quickstart table", () => {
  const args = ["quickstart", "table", "--out", "table", "--seeds", "4,5", "--rows", "direct,r1,search-r1"];
  const small = ["train.steps=1", "train.questionsPerStep=2", "evaluation.questions=6", "evaluation.validationQuestions=4"];

  it("trains and judges its rows, joins them, and makes nothing again that is there", async () => {
    const first = await zerosearch(...args, ...small);
    expect([first.code, first.stderr]).toEqual([0, ""]);
    const made = report("table");
    expect(made.averages.map(({ method, engine, n, runs = [] }) => [method, engine, n, runs.length])).toEqual([
      ["Direct", "none", 6, 0],
      ["R1, base", "none", 6, 2],
      ["Search-R1, base", "bm25", 6, 2],
    ]);
    const trained = report("table/runs/search-r1-5") as unknown as { when: string; f1: number }[];
    expect(made.averages[2]?.runs?.[1]?.f1).toBe(trained.find(({ when }) => when === "after")?.f1);
    const second = await zerosearch(...args, ...small);
    expect(second.stdout.match(/done before/g)).toHaveLength(4);
    expect(report("table")).toEqual(made);
  }, 240_000);

  it("refuses other settings in its folder, and rows and seeds that are none", async () => {
    expect((await zerosearch(...args, "train.steps=2")).stderr).toMatch(/--out table: was begun with other settings/);
    expect((await zerosearch("quickstart", "table", "--rows", "r2")).stderr).toMatch(
      /--rows r2: there is no such row; expected direct, cot, /,
    );
    expect((await zerosearch("quickstart", "table", "--seeds", "1,1")).stderr).toMatch(/--seeds: wrong value/);
  });
});
