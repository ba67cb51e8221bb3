/** `zerosearch evaluate` with several methods, engines and sets: one table, which goes on after a kill and ends in the same bits. */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GridReport } from "../../src/evaluation/grid-report.ts";
import { evaluationFolder, wholeTable } from "../helpers/evaluation-folder.ts";
import { readRows, start, type Ended, type StartOptions } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

const shared = join(root, "../shared/data");
const lasting = ["judged.jsonl", "evaluation.json", "table.md", "table.svg"];

let folder: string;
const evaluate = (args: readonly string[], options: Pick<StartOptions, "onOutput"> = {}): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), "evaluate", ...args], { cwd: folder, ...options });
const report = (name: string): GridReport => JSON.parse(readFileSync(join(folder, name, "evaluation.json"), "utf8")) as GridReport;
const text = (name: string, file: string): string => readFileSync(join(folder, name, file), "utf8");

beforeAll(async () => {
  folder = await evaluationFolder();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("zerosearch evaluate --methods --sets --engines", () => {
  it("makes one table of all, whose numbers are those of judged.jsonl", async () => {
    const { code, stdout, stderr } = await evaluate([...wholeTable, "--out", "whole"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^nq: 10 questions of nq_test\.jsonl \(all rows\)$/m);
    expect(stdout).toMatch(/^method +engine +NQ \(10\) +my \(12\) +average +95 %$/m);
    expect(stdout).toMatch(/^rag with bm25 +zerosearch with bm25 +22 /m);
    const rows = readRows(join(folder, "whole", "judged.jsonl")) as {
      method: string;
      engine: string;
      em: number;
      question: { dataSource: string };
    }[];
    expect(rows.length).toBe(5 * 22);
    const { averages, rows: scored, sets, reference } = report("whole");
    expect(sets.map(({ name, n, group }) => [name, n, group])).toEqual([
      ["nq", 10, "single-hop"],
      ["my", 12, null],
    ]);
    expect(reference).toBe("zerosearch");
    expect(averages.map(({ method, engine }) => `${method}/${engine}`)).toEqual([
      "zerosearch/bm25",
      "zerosearch/simulated:useful",
      "rag/bm25",
      "rag/simulated:useful",
      "direct/none",
    ]);
    for (const { method, engine, dataset, em } of scored) {
      const own = rows.filter((row) => row.method === method && row.engine === engine && row.question.dataSource === dataset);
      expect(em).toBeCloseTo(own.reduce((sum, row) => sum + row.em, 0) / own.length, 12);
    }
    for (const { method, engine, em } of averages) {
      const own = scored.filter((row) => row.method === method && row.engine === engine);
      expect(em).toBeCloseTo(own.reduce((sum, row) => sum + row.em, 0) / 2, 12);
    }
    expect(text("whole", "table.svg")).toMatch(/^<svg [^>]+>[^]+<\/svg>\n$/);
    expect(text("whole", "table.md")).toContain("| zerosearch | bm25 |");
  });

  it("goes on after kills, a half-written row too, and ends in the bits of one that was never stopped", async () => {
    const killed = async (at: string, ...more: string[]): Promise<void> => {
      const { signal } = await evaluate([...wholeTable, "--out", "killed", ...more], {
        onOutput: (stdout, kill) => {
          if (stdout.includes(at)) kill("SIGKILL");
        },
      });
      expect(signal).toBe("SIGKILL");
      expect(existsSync(join(folder, "killed", "evaluation.json"))).toBe(false);
    };
    await killed("2/5 ");
    const first = readRows(join(folder, "killed", "judged.jsonl")).length;
    expect(first).toBeGreaterThanOrEqual(22);
    appendFileSync(join(folder, "killed", "judged.jsonl"), '{"when":"after","met');
    await killed("4/5 ", "--resume");
    const { code, stdout, stderr } = await evaluate([...wholeTable, "--out", "killed", "--resume"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).not.toMatch(/^[12]\/5 /m);
    for (const file of lasting) expect(text("killed", file), file).toBe(text("whole", file));
    // Once more there is nothing left to judge.
    const again = await evaluate([...wholeTable, "--out", "killed", "--resume"]);
    expect(again.stdout).not.toMatch(/^\d\/5 /m);
    for (const file of lasting) expect(text("killed", file), file).toBe(text("whole", file));
  });

  it("refuses to go on with other settings, and names the difference; rows stay as they are", async () => {
    const before = text("whole", "judged.jsonl");
    const refused = async (...more: string[]): Promise<string> => {
      const { code, stderr } = await evaluate([...wholeTable, "--out", "whole", "--resume", ...more]);
      expect(code).toBe(1);
      return stderr;
    };
    const other = "--resume (whole): the evaluation there was made with other settings: ";
    expect(await refused("seed=2")).toContain(`${other}seed 1, here 2`);
    expect(await refused("--limit", "3")).toContain(`${other}set nq "10 questions`);
    expect(await refused("model.policy=simulator")).toContain(`${other}model.policy/model.safetensors`);
    expect(text("whole", "judged.jsonl")).toBe(before);
    writeFileSync(join(folder, "whole", "judged.jsonl"), before.split("\n").slice(1).join("\n"));
    expect(await refused()).toMatch(
      /judged\.jsonl:1: is not the row that belongs here; expected zerosearch with bm25, question nq \S+, got zerosearch with bm25, question nq /,
    );
    writeFileSync(join(folder, "whole", "judged.jsonl"), before);
  });

  it("compares the methods of a run by default, with the run's own, on the score that is asked for", async () => {
    const { code, stdout, stderr } = await evaluate([
      "--config",
      "judge.yaml",
      "--metric",
      "f1",
      "evaluation.questions=5",
      "evaluation.hotpotYesNo=true",
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^F1, in percent$/m);
    expect(stdout).toMatch(/^direct +zerosearch with bm25 +5 /m);
    expect(stdout).toMatch(/^rag with bm25 +zerosearch with bm25 +5 /m);
    expect(stdout).toContain("F1 of HotpotQA by its own script's rule for yes and no (evaluation.hotpotYesNo).");
  });

  it("needs no engine, nor a corpus, for methods that never search", async () => {
    const { code, stdout, stderr } = await evaluate([
      "--config",
      "judge.yaml",
      "--methods",
      "direct",
      "--sets",
      "nq",
      "data.corpus=null",
      "data.test=null",
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^direct +none +\d/m);
  });

  it("counts the questions whose answers the corpus does not hold", async () => {
    const rows = readRows(join(folder, "mine.jsonl"));
    const lacking = rows.map((row, i) => (i < 3 ? { ...row, golden_answers: ["an answer that nobody wrote down"] } : row));
    writeFileSync(join(folder, "lacking.jsonl"), lacking.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const { stdout } = await evaluate([
      "--config",
      "judge.yaml",
      "--methods",
      "rag",
      "--sets",
      "lacking=lacking.jsonl",
      "--out",
      "lacking",
    ]);
    expect(stdout).toMatch(/^lacking +12 +3 +25\.0 %$/m);
    expect(report("lacking").coverage).toEqual([{ set: "lacking", n: 12, missing: 3 }]);
  });

  it("tells what is wrong in one line, with the nearest name, before anything is opened", async () => {
    const refused = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await evaluate(["--config", "judge.yaml", ...args]);
      expect(code).toBe(1);
      expect(stdout).not.toContain("device:");
      return stderr;
    };
    expect(await refused("--engines", "bm25,bm52")).toMatch(/there is no engine bm52; expected .*\n {2}did you mean bm25\?/);
    expect(await refused("--sets", "bambogle")).toContain("did you mean bamboogle?");
    expect(await refused("--engines", "http")).toContain("http.api is missing");
    expect(await refused("--engines", "simulated:noisy", "simulator.path=null")).toContain("simulator.path is missing");
  });

  it("judges modules of one's own, by the names that they have, and refuses two of one name", async () => {
    const passage = (name: string): string =>
      `export default { name: "${name}", search: async () => ({ documents: [{ text: "Oceania" }], kind: "real" }), close: async () => {} };\n`;
    for (const file of ["one", "two"]) writeFileSync(join(folder, `${file}.mjs`), passage("fixed"));
    writeFileSync(join(folder, "three.mjs"), passage("other"));
    writeFileSync(
      join(folder, "method.mjs"),
      `import { methods } from ${JSON.stringify(pathToFileURL(join(root, "dist", "index.js")).href)};\nexport default { ...methods.rag, name: "my-rag" };\n`,
    );
    const quick = ["--config", "judge.yaml", "--methods", "rag,./method.mjs", "--sets", "nq", "--limit", "3"];
    const { code, stdout, stderr } = await evaluate([...quick, "--engines", "./one.mjs,./three.mjs", "--out", "modules"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(report("modules").averages.map(({ method, engine }) => `${method}/${engine}`)).toEqual([
      "rag/fixed",
      "rag/other",
      "my-rag/fixed",
      "my-rag/other",
    ]);
    expect(stdout).toMatch(/^my-rag with fixed +rag with fixed +3 +0\.0 /m);
    expect((await evaluate([...quick, "--engines", "./one.mjs,./two.mjs"])).stderr).toContain(
      "--engines ./one.mjs,./two.mjs: two engines are called fixed",
    );
    writeFileSync(join(folder, "three.mjs"), passage("other").replace("Oceania", "Africa"));
    const changed = await evaluate([...quick, "--engines", "./one.mjs,./three.mjs", "--out", "modules", "--resume"]);
    expect(changed.stderr).toContain("made with other settings: engine ./three.mjs");
  });

  it("is stopped by Ctrl-C, says so, and goes on", async () => {
    const stopped = await evaluate([...wholeTable, "--out", "stopped"], {
      onOutput: (stdout, kill) => {
        if (stdout.includes("1/5 ")) kill("SIGINT");
      },
    });
    expect(stopped.stdout).toContain("Stopped; what was judged is kept: --resume goes on.");
    expect((await evaluate([...wholeTable, "--out", "stopped", "--resume"])).code).toBe(0);
    for (const file of lasting) expect(text("stopped", file), file).toBe(text("whole", file));
  });

  it("answers again from a recording alone, to the same bits", async () => {
    const quick = [
      "--config",
      "judge.yaml",
      "--methods",
      "zerosearch,rag",
      "--sets",
      "nq",
      "--limit",
      "4",
      "--engines",
      "bm25,simulated:noisy",
    ];
    const made = await evaluate([...quick, "--out", "asked", "search.record=searches.db"]);
    expect([made.code, made.stderr]).toEqual([0, ""]);
    const again = await evaluate([...quick, "--out", "replayed", "search.replay=searches.db", "--json", "replayed.json"]);
    expect([again.code, again.stderr]).toEqual([0, ""]);
    for (const file of lasting) expect(text("replayed", file), file).toBe(text("asked", file));
    expect(readFileSync(join(folder, "replayed.json"), "utf8")).toBe(text("asked", "evaluation.json"));
  });

  it("says beforehand how many searches it would make", async () => {
    const { stdout } = await evaluate([...wholeTable, "--dry-run"]);
    expect(stdout).toContain("22 questions by zerosearch, rag, direct");
    expect(stdout).toMatch(/^bm25 +44 +88$/m);
  });
});

describe.skipIf(!existsSync(join(shared, "qa")))("the seven sets and Wikipedia passages", () => {
  it("are judged by a model of 0.3 M parameters, in the paper's layout", async () => {
    const settings = [
      ...[
        `model.policy=${join(shared, "models/stories260K-hf")}`,
        `data.corpus=${join(shared, "corpus/wiki_corpus.jsonl")}`,
        "data.test=null",
      ],
      ...[`evaluation.setsFolder=${join(shared, "qa")}`, "rollout.prompt=paper", "rollout.maxContextTokens=512", "rollout.maxNewTokens=16"],
      ...["rollout.maxObservationTokens=128", "rollout.maxTurns=1", "evaluation.bootstrapSamples=100", "simulator.path=null"],
    ];
    const sets = "nq,triviaqa,popqa,hotpotqa,2wikimultihopqa,musique,bamboogle";
    const { code, stdout, stderr } = await evaluate([
      ...["--config", "judge.yaml", "--methods", "direct,rag", "--sets", sets, "--limit", "2", "--out", "seven"],
      ...settings,
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^ +single-hop +multi-hop +mean over sets$/m);
    expect(stdout).toMatch(
      /^method +engine +NQ \(2\) +TriviaQA \(2\) +PopQA \(2\) +HotpotQA \(2\) +2Wiki \(2\) +MuSiQue \(2\) +Bamboogle \(2\) +average +95 %$/m,
    );
    expect(report("seven").coverage?.map(({ n }) => n)).toEqual([2, 2, 2, 2, 2, 2, 2]);
  });
});
