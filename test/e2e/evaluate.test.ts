/** `zerosearch evaluate`: a policy, questions and a corpus are enough. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readOverride, readYaml } from "../../src/config/index.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { Bm25Search, evaluate as evaluateAll, loadQuestions, methods, openPolicy, resolveConfig } from "../../src/index.ts";
import { buildIfStale, readRows, start, type Ended } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
const evaluate = (...args: string[]): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), "evaluate", ...args], { cwd: folder });

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-evaluate-"));
  // Nothing else of the quickstart is within reach.
  cpSync(join(models, "policy"), join(folder, "policy"), { recursive: true });
  for (const name of ["test", "corpus"]) cpSync(join(models, "world", `${name}.jsonl`), join(folder, `${name}.jsonl`));
  writeFileSync(
    join(folder, "judge.yaml"),
    "model: { policy: policy }\ndata: { test: test.jsonl, corpus: corpus.jsonl }\n" +
      "rollout: { prompt: quickstart, maxTurns: 3, maxNewTokens: 40, maxObservationTokens: 110, maxContextTokens: 560 }\n" +
      "bm25: { documents: 3 }\nevaluation: { questions: 6, bootstrapSamples: 100 }\n",
  );
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("openPolicy", () => {
  it("opens the policy and nothing else: what else the configuration names is not even looked for", async () => {
    const absent = [
      "simulator.path=nowhere",
      "algorithm.klCoef=1",
      "model.referencePolicy=nowhere",
      "data.train=nowhere",
      "device.kind=cpu",
    ];
    const settings = [...absent, `model.policy=${join(models, "policy")}`];
    const config = resolveConfig([...readYaml(join(folder, "judge.yaml")), ...settings.map(readOverride)]);
    const engine = await Bm25Search.fromCorpus(join(folder, "corpus.jsonl"), 3);
    const opened = await openPolicy(config);
    try {
      expect([opened.simulator, opened.reference]).toEqual([null, null]);
      const questions = (await loadQuestions(join(folder, "test.jsonl"))).slice(0, 6);
      const judged = await evaluateAll(questions, methods.zerosearch, opened.judging(engine));
      // What the program gives, through the public API.
      const { stdout, code } = await evaluate("--config", "judge.yaml", "--out", "program", "evaluation.baselines=false");
      expect([code, stdout.includes("zerosearch  after")]).toEqual([0, true]);
      expect(readRows(join(folder, "program", "judged.jsonl")).map(({ ids, f1 }) => ({ ids, f1 }))).toEqual(
        judged.map(({ trajectory, scores }) => ({ ids: trajectory.ids, f1: scores.f1 })),
      );
    } finally {
      await opened.close();
      await engine.close();
    }
  });
});

describe("zerosearch evaluate", () => {
  it("judges with model.policy, data.test and data.corpus alone, and says that the simulator's table is left out", async () => {
    const { code, stdout, stderr } = await evaluate("--config", "judge.yaml", "--out", "judged", "--json", "rows.json");
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^no simulator is configured: how the policy takes useless documents is not measured$/m);
    expect(stdout).toMatch(/^zerosearch +after +quickstart +6 +bm25 /m);
    expect(stdout).not.toContain("first documents hold");
    const rows = JSON.parse(readFileSync(join(folder, "judged", "evaluation.json"), "utf8")) as Record<string, unknown>[];
    expect(rows.map((row) => row["method"])).toEqual(["direct", "rag", "zerosearch"]);
    expect(readFileSync(join(folder, "rows.json"), "utf8")).toBe(readFileSync(join(folder, "judged", "evaluation.json"), "utf8"));
    const judged = readRows(join(folder, "judged", "judged.jsonl")) as unknown as JudgedRow[];
    expect(judged.map((row) => row.key.question)).toEqual([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
    for (const row of judged) expect(row).toMatchObject({ when: "after", step: null });
    for (const { method, f1 } of rows) {
      const own = judged.filter((row) => row.method === method);
      expect(own.reduce((sum, row) => sum + row.f1, 0) / own.length).toBe(f1);
    }
    // A second time, the folder holds the second time's rows only.
    const again = await evaluate("--config", "judge.yaml", "--out", "judged", "evaluation.baselines=false", "--when", "before");
    expect([again.code, again.stderr]).toEqual([0, ""]);
    expect(readRows(join(folder, "judged", "judged.jsonl"))).toEqual(judged.slice(12).map((row) => ({ ...row, when: "before" })));
  });

  it("measures how the policy takes noise where a simulator is configured", async () => {
    const simulator = `simulator.path=${join(models, "simulator")}`;
    const settings = [
      simulator,
      "evaluation.baselines=false",
      "simulator.documents=3",
      "simulator.maxNewTokens=60",
      "simulator.prompt=quickstart",
    ];
    const { code, stdout, stderr } = await evaluate("--config", "judge.yaml", ...settings);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^first documents hold +when +n +searched again +F1$/m);
    expect(stdout).not.toContain("no simulator");
  });

  it("is one error where --out lies under a file, and never leaves the rows of one evaluation beside those of another", async () => {
    const under = await evaluate("--config", "judge.yaml", "--out", "judge.yaml/out");
    expect(under.code).toBe(1);
    expect(under.stderr).toMatch(/^--out judge\.yaml\/out: .*\n.*; nothing was judged\n$/);
    const stale = join(folder, "stale");
    mkdirSync(stale);
    for (const name of ["evaluation.json", "judged.jsonl"]) writeFileSync(join(stale, name), "[]\n");
    const stopped = await start(
      process.execPath,
      [join(root, "bin", "zerosearch.js"), "evaluate", "--config", "judge.yaml", "--out", stale],
      {
        cwd: folder,
        onOutput: (stdout, kill) => {
          if (stdout.includes("direct after training")) kill("SIGKILL");
        },
      },
    );
    expect(stopped.signal).toBe("SIGKILL");
    expect(existsSync(join(stale, "evaluation.json"))).toBe(false);
  });

  it("says which configuration is the base where none is named, and train says so of its settings", async () => {
    const line = /^configuration: \S*configs\/quickstart\.yaml, as no --config is given$/m;
    const judged = await evaluate("model.policy=nowhere", "device.kind=cpu");
    expect([judged.code, judged.stdout.split("\n")[0]]).toEqual([1, expect.stringMatching(line)]);
    const train = (...args: string[]) => start(process.execPath, [join(root, "train.js"), ...args], { cwd: folder });
    expect((await train("model.policy=nowhere", "data.train=nowhere")).stdout).toMatch(line);
    expect((await train("--print-config", "seed=2")).stdout).not.toMatch(line);
  });

  it("says what is missing, before anything is opened", async () => {
    const without = async (key: string): Promise<string> => {
      const { code, stdout, stderr } = await evaluate("--config", "judge.yaml", `${key}=null`);
      expect([code, stdout]).toEqual([1, ""]);
      return stderr;
    };
    expect(await without("data.test")).toContain("data.test: there is nothing to judge by; expected a file of questions, got null");
    expect(await without("data.corpus")).toContain(
      "data.corpus is missing; expected a path, or an index in bm25.index: bm25 has nothing to search, got null",
    );
    expect(existsSync(join(folder, "runs"))).toBe(false);
  });
});
