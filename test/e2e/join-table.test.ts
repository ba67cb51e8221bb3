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
        /--compare-to dirct: there is no such row; expected direct; rag\n {2}did you mean direct\?/,
      ],
      [["direct", "--out", "direct"], /--out direct: is the folder of a run or an evaluation \(judged\.jsonl\)/],
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

  it("names a damaged row, file or folder, and a file that has lost rows", async () => {
    const damaged = (name: string, change: (row: Record<string, unknown>) => unknown, at = 3): string => {
      cpSync(join(folder, "direct"), join(folder, name), { recursive: true });
      const rows = readRows(join(folder, name, "judged.jsonl"));
      writeRows(join(folder, name, "judged.jsonl"), rows.map((row, i) => (i === at ? change(row) : row)) as object[]);
      return name;
    };
    const cut = damaged("cut", (row) => row);
    writeFileSync(join(folder, cut, "judged.jsonl"), readFileSync(join(folder, cut, "judged.jsonl"), "utf8").slice(0, -20));
    const settings = damaged("settings", (row) => row);
    writeFileSync(join(folder, settings, "settings.json"), '{"seed": 1');
    const unended = damaged("unended", (row) => row);
    rmSync(join(folder, unended, "evaluation.json"));
    const cases: [string[], RegExp][] = [
      [[damaged("null", (row) => ({ ...row, em: null }))], /null.judged\.jsonl:4: has a wrong em; expected a number from 0 to 1, got null/],
      [[damaged("seven", (row) => ({ ...row, f1: 7 }))], /seven.judged\.jsonl:4: has a wrong f1; expected a number from 0 to 1, got 7/],
      [[damaged("text", (row) => ({ ...row, em: "1" }))], /has a wrong em; expected a number from 0 to 1, got "1"/],
      [[damaged("unasked", (row) => ({ ...row, question: undefined }))], /unasked.judged\.jsonl:4: is no stored rollout/],
      [[damaged("masks", (row) => ({ ...row, lossMask: null }))], /masks.judged\.jsonl:4: is no stored rollout/],
      [
        [damaged("nobody", (row) => ({ ...row, method: undefined }))],
        /nobody.judged\.jsonl:4: has no method; expected a name, got nothing/,
      ],
      [[cut], /cut.judged\.jsonl: holds 11 rows of direct with none \(after training\) on my; expected 12, as evaluation\.json has it/],
      [[settings], /settings\.json: is damaged; expected a JSON object, got \{"seed": 1/],
      [["direct", "--out", "test.jsonl"], /--out test\.jsonl: [^]*nothing was joined/],
    ];
    for (const [args, expected] of cases) {
      const { code, stderr } = await table(...args);
      expect([args, code]).toEqual([args, 1]);
      expect(stderr).toMatch(expected);
      expect(stderr).not.toMatch(/^ +at /m);
    }
    expect((await table(unended)).stdout).toContain(
      "note: unended has no evaluation.json: it has not ended, and what it holds may not be all",
    );
  });

  it("does not depend on the order of runs, and writes any name as text", async () => {
    for (const order of ["direct,whole", "whole,direct"]) {
      const { code, stderr } = await table(`A=${order}`);
      expect([code, /whole.judged|direct.judged/.test(stderr), stderr.includes("has no rows of")]).toEqual([1, true, true]);
    }
    const { code, stdout } = await table("a|b_<i>\n*\u001b=direct", "--out", "named");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^a\|b_<i> \* +none/m);
    expect(readFileSync(join(folder, "named", "table.md"), "utf8")).toContain("| a\\|b\\_\\<i\\> \\* | none |");
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

  it("passes a stop on to the program that runs, and goes on from there to the same bits", async () => {
    const own = [...args];
    own[own.indexOf("--out") + 1] = "stopped";
    const sure = [...small.filter((one) => !one.startsWith("train.steps")), "train.steps=3"];
    let told = false;
    const stopped = await start(process.execPath, [join(root, "bin", "zerosearch.js"), ...own, ...sure], {
      cwd: folder,
      onOutput: (stdout, kill) => {
        if (told || !/^step 1\/3 /m.test(stdout)) return;
        told = true;
        kill("SIGTERM");
      },
    });
    expect(stopped.code).toBe(143);
    expect(stopped.stdout).toContain("Stopped; the same command goes on from here.");
    expect((await zerosearch(...own, ...sure)).code).toBe(0);
    own[own.indexOf("--out") + 1] = "unstopped";
    expect((await zerosearch(...own, ...sure)).code).toBe(0);
    const table = (name: string): string => readFileSync(join(folder, name, "table.md"), "utf8").replaceAll(name, "");
    expect(table("stopped")).toBe(table("unstopped"));
  }, 240_000);

  it("refuses other settings in its folder, and rows and seeds that are none", async () => {
    expect((await zerosearch(...args, "train.steps=2")).stderr).toMatch(/--out table: was begun with other settings/);
    expect((await zerosearch("quickstart", "table", "--rows", "r2")).stderr).toMatch(
      /--rows r2: there is no such row; expected direct, cot, /,
    );
    for (const seeds of ["1,1", "", "1.5"])
      expect((await zerosearch("quickstart", "table", `--seeds=${seeds}`)).stderr).toMatch(/--seeds: wrong value/);
    expect((await zerosearch("quickstart", "table", "--out", "direct")).stderr).toMatch(
      /--out direct: is the folder of a run or an evaluation/,
    );
  });
});
