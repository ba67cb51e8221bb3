/** The commands around runs: `ask`, `runs`, `evaluate --run`, `--version`; what a wrong Node and a wrong installation are told; `smoke --all`. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { methods } from "../../src/agent/methods/index.ts";
import { commands } from "../../src/commands/index.ts";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { presetNames } from "../../src/rl/settings.ts";
import { engines } from "../../src/search/engines.ts";
import { buildIfStale, readRows, settingsFor, shortRun, start, train, type Ended, type StartOptions } from "../helpers/program.ts";
import { hasQuickstart, root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
const program = join(root, "bin", "zerosearch.js");
const zerosearch = (args: readonly string[], options?: StartOptions): Promise<Ended> =>
  start(process.execPath, [program, ...args], { cwd: folder, ...options });

/** With lines on standard input. */
function fed(args: readonly string[], input: string): Promise<Pick<Ended, "code" | "stdout" | "stderr">> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], { cwd: folder });
    const said = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) child[name].setEncoding("utf8").on("data", (text: string) => (said[name] += text));
    child.on("error", reject).on("close", (code) => resolve({ code, ...said }));
    child.stdin.end(input);
  });
}

beforeAll(async () => {
  buildIfStale();
  const models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-commands-"));
  // Logs and states in the working directory, as they are unless told.
  const given = settingsFor(models, folder).filter((one) => !one.startsWith("output."));
  const short = [...given, ...shortRun, "evaluation.baselines=false", "evaluation.robustness=false", "device.kind=cpu"];
  const runs = [
    ["name=adapted", "train.steps=1", "lora.rank=2", "lora.alpha=4", "data.test=null", "data.validation=null"],
    ["name=first", "train.steps=3"],
    ["name=last", "train.steps=2", "seed=2", "train.validateEvery=0"],
  ];
  for (const settings of runs) {
    const { code, stderr } = await train([...short, ...settings], { cwd: folder });
    expect([code, stderr]).toEqual([0, ""]);
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const judged = (when: string): JudgedRow[] =>
  (readRows(join(folder, "runs", "first", "judged.jsonl")) as unknown as JudgedRow[]).filter((row) => row.when === when);
const scores = (file: string): { when: string; f1: number; em: number; searches: number }[] =>
  JSON.parse(readFileSync(join(folder, file), "utf8"));

describe("zerosearch ask", () => {
  it("answers as the run's policy was judged: the same text, with the same engine's documents", async () => {
    const rows = judged("after");
    const searched = rows.find(({ searches }) => searches.length > 0) ?? rows[0]!;
    const { code, stdout } = await zerosearch(["ask", "--run", "first", searched.question.question, "--json"]);
    expect(code).toBe(0);
    const { turns, ...told } = JSON.parse(stdout) as { turns: { think: string; search: string; documents: object[] }[] };
    const { question, answer, status, text, searches } = searched;
    expect(told).toMatchObject({ question: question.question, answer, status, text, engine: expect.stringMatching(/^bm25 over .*corpus/) });
    expect(turns).toHaveLength(searched.turns);
    expect(turns.filter(({ search }) => search !== null).map(({ search, documents }) => ({ query: search, documents }))).toEqual(
      searches.map(({ query, documents }) => ({ query, documents })),
    );
    expect(turns.map(({ think }) => think).join()).toMatch(/\w/);
  });

  it("takes the run that saved last, says which state of it, and shows what comes under names, not tags", async () => {
    const { code, stdout, stderr } = await zerosearch(["ask", "Which", "region", "does Chad belong to?"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^device: cpu/m);
    expect(stdout).toMatch(/^policy: run last after step 2 of 2, its newest state \(.*step-000002.policy\) \| engine: bm25 over /m);
    expect(stdout).toMatch(/^(think|search|answer) {4,}\w/m);
    expect(stdout).not.toMatch(/<\/?(think|search|answer|information)>/);
  });

  it("takes the best state of a run that was validated, the newest run of a configuration, and an adapter on its model", async () => {
    const best = JSON.parse(readFileSync(join(folder, "checkpoints", "first", "step-000003", "state.json"), "utf8")).best as {
      step: number;
    };
    const first = await zerosearch(["ask", "--run", "runs/first", "Where?"]);
    expect(first.stdout).toContain(`policy: run first after step ${best.step} of 3, best of its validations with F1 `);
    writeFileSync(join(folder, "mine.yaml"), `extends: ${join(root, "configs", "quickstart.yaml")}\nname: first\n`);
    expect((await zerosearch(["ask", "--config", "mine.yaml", "Where?"])).stdout).toContain("policy: run first after step");
    const adapted = await zerosearch(["ask", "--run", "adapted", "Where?"]);
    expect([adapted.code, adapted.stderr]).toEqual([0, ""]);
    expect(adapted.stdout).toContain("policy: run adapted after step 1 of 1");
  });

  it("answers each line of standard input, a question that does not fit too, and with --json nothing else is on stdout", async () => {
    const long = "Which region does Chad belong to? ".repeat(100);
    const { code, stdout, stderr } = await fed(["ask", "--json"], `Where is Chad?\n\n${long}\nIs 2 = 3?\n`);
    expect(code).toBe(1);
    expect(stderr).toMatch(/the prompt fills the whole rollout; expected fewer than 560 tokens, got \d+/);
    const rows = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { question: string });
    expect(rows.map(({ question }) => question)).toEqual(["Where is Chad?", "Is 2 = 3?"]);
  });

  it.each([
    { args: [""], says: "the question: is empty" },
    { args: [], says: "the question: is missing, and so is one on standard input" },
    { args: ["--run", "nobody", "Where?"], says: "run nobody: there is none in runs; expected adapted, first, last" },
    { args: ["--run", "first", "--config", "mine.yaml", "Where?"], says: "--config: and --run are both given" },
    { args: ["model.policy=nowhere", "Where?"], says: "model.policy: there is no folder nowhere" },
    { args: ["evaluation.engine=simulated", "Where?"], says: "evaluation.engine is told the right answer, which nobody has given" },
  ])("says once what is wrong: $says", async ({ args, says }) => {
    const { code, stderr } = await zerosearch(["ask", ...args]);
    expect(code).toBe(1);
    expect(
      stderr
        .slice(0, stderr.indexOf(says) + says.length)
        .split("\n")
        .at(-1),
    ).toContain(says);
    expect(stderr).not.toContain("    at ");
  });

  it("says that a run has saved nothing yet", async () => {
    mkdirSync(join(folder, "elsewhere", "young"), { recursive: true });
    cpSync(join(folder, "runs", "first", "config.yaml"), join(folder, "elsewhere", "young", "config.yaml"));
    const { code, stderr } = await zerosearch(["ask", "--run", "elsewhere/young", "Where?"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^run young: has saved no state yet; expected checkpoints.young.step-000001, or a later one$/m);
  });

  it.skipIf(!hasQuickstart)("where nothing was trained, asks the quickstart's policy and says that it is untrained", async () => {
    const empty = mkdtempSync(join(tmpdir(), "zerosearch-empty-"));
    const { code, stdout, stderr } = await zerosearch(["ask", "What is the capital of France?"], { cwd: empty });
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(
      /^policy: .*quickstart.policy as it starts, since runs holds no trained one; node train.js makes one \| engine: bm25 over /m,
    );
    expect(readdirSync(empty)).toEqual([]);
    rmSync(empty, { recursive: true });
  });
});

describe("zerosearch evaluate", () => {
  const evaluate = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await zerosearch(["evaluate", ...args, "--json", "judged.json"]);
    expect([code, stderr]).toEqual([0, ""]);
    return stdout;
  };
  const scored = ({ f1, em, searches }: ReturnType<typeof scores>[number]) => ({ f1, em, searches });
  const row = (when: string) => scored(scores("runs/first/evaluation.json").find((one) => one.when === when)!);

  it.each([
    ["--run", "first"],
    ["--config", "runs/first/config.yaml"],
  ])("%s %s judges what the run left, as the run did at its end, and says what it is", async (...args) => {
    expect(await evaluate(...args)).toMatch(
      /^policy run first after step \d of 3, best of its validations with F1 .*step-00000\d.policy\)/m,
    );
    expect(scores("judged.json").map((one) => ({ when: one.when, ...scored(one) }))).toEqual([{ when: "after", ...row("after") }]);
  });

  it("--run with --when before judges what the run started from", async () => {
    await evaluate("--run", "first", "--when", "before");
    expect(scores("judged.json").map((one) => ({ when: one.when, ...scored(one) }))).toEqual([{ when: "before", ...row("before") }]);
  });
});

describe("zerosearch runs", () => {
  interface Listed {
    runs: { name: string; steps: number; totalSteps: number; best: object | null; f1: number | null; bytes: number; state: string }[];
  }

  it("lists runs with their steps, their best validation, their final F1 and what they leave", async () => {
    const { code, stdout, stderr } = await zerosearch(["runs", "--json"]);
    expect([code, stderr]).toEqual([0, ""]);
    const { runs } = JSON.parse(stdout) as Listed;
    expect(runs.map(({ name, steps, totalSteps, state }) => [name, steps, totalSteps, state])).toEqual([
      ["adapted", 1, 1, "finished"],
      ["first", 3, 3, "finished"],
      ["last", 2, 2, "finished"],
    ]);
    expect(runs[1]).toMatchObject({
      best: { step: expect.any(Number), f1: expect.any(Number) },
      f1: scores("runs/first/evaluation.json").find(({ when }) => when === "after")!.f1,
    });
    expect(runs[1]!.bytes).toBeGreaterThan(1e6);
    expect(runs[2]!.best).toBeNull();
    const table = await zerosearch(["runs"]);
    expect(table.stdout).toMatch(/^run +started +steps +best validation F1 +final F1 +states$/m);
    expect(table.stdout).toMatch(/^first +\d{4}-\d\d-\d\d \d\d:\d\d +3 of 3 +\d\.\d{3} at step [23] +\d\.\d{3} +\d.* finished$/m);
  });

  it("compares runs: the settings that differ, and scores side by side", async () => {
    const { code, stdout, stderr } = await zerosearch(["runs", "compare", "first", "last", "--json"]);
    expect([code, stderr]).toEqual([0, ""]);
    const { settings, scores: rows } = JSON.parse(stdout) as Record<"settings" | "scores", { key: string; values: unknown[] }[]>;
    expect(Object.fromEntries(settings.map(({ key, values }) => [key, values]))).toEqual({
      seed: [1, 2],
      "train.steps": [3, 2],
      "train.validateEvery": [2, 0],
    });
    const finals = ["first", "last"].map((name) => scores(`runs/${name}/evaluation.json`).find(({ when }) => when === "after")!.f1);
    expect(rows.find(({ key }) => key === "zerosearch after, bm25, quickstart: F1")?.values).toEqual(finals);
    const table = await zerosearch(["runs", "compare", "first", "last"]);
    expect(table.stdout).toMatch(/^train\.steps +3 +2$/m);
  });

  it("removes a run's logs and states and nothing else, when it is told that nobody need be asked", async () => {
    const outside = join(folder, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "kept"), "");
    for (const part of ["runs", "checkpoints"]) cpSync(join(folder, part, "last"), join(folder, part, "doomed"), { recursive: true });
    symlinkSync(outside, join(folder, "checkpoints", "doomed", "step-000009"), "junction");
    const refused = await zerosearch(["runs", "remove", "doomed"]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("zerosearch runs remove doomed --yes") });

    writeFileSync(join(folder, "runs", "doomed", "run.lock"), "");
    const locked = await zerosearch(["runs", "remove", "doomed", "--yes"]);
    expect(locked).toMatchObject({ code: 1, stderr: expect.stringMatching(/run doomed: is under way\n.*its program holds .*run\.lock/) });
    expect((JSON.parse((await zerosearch(["runs", "--json"])).stdout) as Listed).runs.find(({ name }) => name === "doomed")?.state).toBe(
      "under way",
    );
    rmSync(join(folder, "runs", "doomed", "run.lock"));

    writeFileSync(join(folder, "checkpoints", "doomed", "thesis.tex"), "");
    const foreign = await zerosearch(["runs", "remove", "doomed", "--yes"]);
    expect(foreign).toMatchObject({ code: 1, stderr: expect.stringContaining("holds what no run leaves there, so nothing is removed") });
    rmSync(join(folder, "checkpoints", "doomed", "thesis.tex"));

    for (const name of ["../runs/doomed", "..", "checkpoints/doomed"])
      expect(await zerosearch(["runs", "remove", name, "--yes"])).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("this is no name of a run"),
      });
    expect(await zerosearch(["runs", "remove", "nobody", "--yes"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("run nobody: there is none in runs"),
    });
    expect(existsSync(join(folder, "checkpoints", "doomed", "step-000002"))).toBe(true);

    const { code, stdout, stderr } = await zerosearch(["runs", "remove", "doomed", "--yes"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^Removed checkpoints.doomed and runs.doomed, .*B\.$/m);
    expect(readdirSync(join(folder, "runs")).sort()).toEqual(["adapted", "first", "last"]);
    expect(readdirSync(join(folder, "checkpoints")).sort()).toEqual(["adapted", "first", "last"]);
    expect(readdirSync(outside)).toEqual(["kept"]);
  });
});

describe("a program's surroundings", () => {
  it("--version names package, Node and platform, of every program", async () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const line = `zerosearch ${version}, Node ${process.version}, ${process.platform} ${process.arch}\n`;
    for (const args of [[program], [join(root, "train.js")], [program, "evaluate"]])
      expect(await start(process.execPath, [...args, "--version"])).toMatchObject({ code: 0, stdout: line, stderr: "" });
  });

  it.each(["18.20.8", "20.10.0"])("Node %s is refused with the reason, before anything of the program is loaded", async (version) => {
    const preload = `data:text/javascript,Object.defineProperty(process.versions,"node",{value:"${version}"})`;
    for (const file of ["train.js", "bin/zerosearch.js"]) {
      const { code, stdout, stderr } = await start(process.execPath, ["--import", preload, join(root, file), "--help"]);
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr).toMatch(new RegExp(`^\\w+(\\.js)?: this Node is too old; expected 20\\.11 or newer, got ${version}\n.*relaxed SIMD`));
    }
  });

  it("a clone installed without development dependencies says that they are needed, and what to do", async () => {
    const clone = mkdtempSync(join(tmpdir(), "zerosearch-clone-"));
    for (const file of ["package.json", "bin/start.js", "scripts/prepare.js"])
      cpSync(join(root, file), join(clone, file), { recursive: true });
    const { code, stdout, stderr } = await start(process.platform === "win32" ? "npm.cmd" : "npm", ["run", "--silent", "prepare"], {
      cwd: clone,
    });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(
      /^zerosearch: a clone is compiled when it is installed, .*; missing: typescript, assemblyscript\n.*npm ci && npm prune --omit=dev/,
    );
    rmSync(clone, { recursive: true });
  });

  it("what drivers say while a device is opened reaches nobody", async () => {
    const { stderr } = await zerosearch(["evaluate", "--run", "first", "--device", "webgpu", "evaluation.questions=1"], {
      env: { XDG_RUNTIME_DIR: "" },
    });
    expect(stderr.replace(/^webgpu device: no adapter was found\n.*\n/, "")).toBe("");
  });

  it.skipIf(!hasQuickstart)("npm run smoke -- --all tries every command, method, engine and configuration", async () => {
    const { code, stdout } = await start(process.execPath, [join(root, "scripts", "smoke.js"), "--all", "device.kind=cpu"]);
    expect(stdout).toMatch(/^\d+ ok, 0 failed, \d+ left out, in \d+ s$/m);
    expect(code).toBe(0);
    const tried = (part: string, names: readonly string[]): void => {
      for (const name of names) expect(stdout).toMatch(new RegExp(`^${part} +${name} +(ok|left out) `, "m"));
    };
    tried(
      "command",
      commands.map(({ name }) => name),
    );
    tried("method", Object.keys(methods));
    tried("engine", Object.keys(engines));
    tried("algorithm", presetNames);
    tried("configuration", ["quickstart\\.yaml", "smoke\\.yaml", "quickstart-lora\\.yaml", "paper/llama-3\\.2-3b\\.yaml"]);
  });
});
