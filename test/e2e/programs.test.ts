/** The other programs, the example and the commands that the README names. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keys } from "../../src/config/keys.ts";
import { buildIfStale, readRows, settingsFor, start, train } from "../helpers/program.ts";
import { smol135M } from "../helpers/random-checkpoint.ts";
import { hasQuickstart, root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-programs-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("node train.js", () => {
  it("--help tells the keys that people set, at most 60, and how to see the others; --help all tells every key", async () => {
    const keysOf = (text: string): string[] => keys.map(({ key }) => key).filter((key) => text.includes(`  ${key} = `));
    const { code, stdout, stderr } = await train(["--help"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(keysOf(stdout)).toEqual(keys.filter(({ rare }) => !rare).map(({ key }) => key));
    expect(keysOf(stdout).length).toBeLessThanOrEqual(60);
    expect(stdout).toContain("--help all");
    for (const all of [["--help", "all"], ["--help=all"]]) expect(keysOf((await train(all)).stdout)).toHaveLength(keys.length);
  });

  it("--print-config prints the resolved configuration and computes nothing", async () => {
    const { code, stdout, stderr } = await train(["--print-config", "--config", "configs/smoke.yaml", "train.steps=7"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^name: smoke$/m);
    expect(stdout).toMatch(/^ {2}steps: 7$/m);
    expect(stdout).toMatch(/^ {2}groupSize: 4$/m);
  });

  it("runs from another folder", async () => {
    const { code, stdout } = await train(["--print-config"], { cwd: folder });
    expect(code).toBe(0);
    expect(stdout).toContain(`policy: ${join(root, "checkpoints/quickstart/policy")}`);
  });

  it("--dry-run says what will be held where, and that it fits", async () => {
    const { code, stdout, stderr } = await train(["--dry-run", "--device", "cpu"], { cwd: folder });
    expect([code, stderr]).toEqual([0, ""]);
    for (const what of ["KV cache", "activations", "moments of AdamW", "policy: weights that learn", "simulator: frozen weights"])
      expect(stdout).toMatch(new RegExp(`^${what} +memory +\\d+ `, "m"));
    expect(stdout).toMatch(/^Activations of an update: .* with train\.recompute=false .* with train\.recompute=true/m);
    expect(stdout).toMatch(/^This fits: 0\.\d+ of 4\.00 GiB\.$/m);
  });

  it("refuses what cannot fit, planned or started, before any weight is read", async () => {
    const model = join(folder, "135M");
    mkdirSync(model, { recursive: true });
    writeFileSync(join(model, "config.json"), JSON.stringify(smol135M)); // no weights
    const settings = [`model.policy=${model}`, "train.microBatchTokens=16384", `output.runs=${join(folder, "runs")}`];
    const planned = await train(["--dry-run", "--device", "cpu", ...settings]);
    expect([planned.code, planned.stderr]).toEqual([1, ""]);
    expect(planned.stdout).toMatch(/^This does not fit the CPU device: \d+\.\d+ GiB are needed, 4\.00 GiB are there\.$/m);
    const [help = ""] = /^With .* it fits: .*$/m.exec(planned.stdout) ?? [];
    expect(help).toContain("train.recompute=true");
    const started = await train(["--device", "cpu", ...settings]);
    expect(started.code).toBe(1);
    expect(started.stderr).toMatch(/memory: this run does not fit the CPU device; expected at most 4\.00 GiB, got \d+\.\d+ GiB/);
    expect(started.stderr).toContain(help);
    expect(existsSync(join(folder, "runs"))).toBe(false);
  });
});

describe("npx zerosearch", () => {
  it("--help lists the programs", async () => {
    const { code, stdout } = await start("npx", ["zerosearch", "--help"]);
    expect(code).toBe(0);
    for (const name of ["train", "quickstart", "doctor"]) expect(stdout).toMatch(new RegExp(`^ {2}${name} `, "m"));
  });

  it("doctor finds this machine fit", async () => {
    const { code, stdout, stderr } = await start(process.execPath, [join(root, "bin", "zerosearch.js"), "doctor"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^wasm +ok: cpu: .*GFLOP\/s/m);
    expect(stdout).toMatch(/^threads +ok: /m);
  });

  it("doctor --json is one object: the machine, adapters with their tiers, what auto takes, checks and findings", async () => {
    const { code, stdout, stderr } = await start(process.execPath, [join(root, "bin", "zerosearch.js"), "doctor", "--json"]);
    expect([code, stderr]).toEqual([0, ""]);
    const report = JSON.parse(stdout);
    expect(report.node).toBe(process.version);
    expect(report.auto.why).toMatch(/^auto: /);
    expect(report.checks).toContainEqual(expect.objectContaining({ name: "wasm", state: "ok" }));
    for (const { fullName, tiers } of report.probe.adapters) {
      expect(fullName).not.toBe("");
      for (const { used, why } of tiers) expect([used, why].filter((text) => text !== null)).toHaveLength(1);
    }
    for (const { level, what } of report.findings)
      expect([level, what.length > 0]).toEqual([expect.stringMatching(/^(missing|note)$/), true]);
  });

  it("names the nearest program", async () => {
    const { code, stderr } = await start(process.execPath, [join(root, "bin", "zerosearch.js"), "docter"]);
    expect(code).toBe(1);
    expect(stderr).toContain("there is no command docter; did you mean doctor?");
  });
});

describe("the examples", () => {
  it("learn another task than search, in two turns, from what the policy sampled and not from what it was shown", async () => {
    const { code, stdout, stderr } = await start(process.execPath, [join(root, "dist", "examples", "not-search.js")]);
    expect([code, stderr]).toEqual([0, ""]);
    // In angle brackets where lossMask is 1: neither the box that was asked for nor what lay in the box that was opened.
    const line = /^step \d+: reward (\d\.\d{3}), mismatch 0, open box\d <\w+> (?:ruby|opal|jade|onyx|nothing) <\w+>$/;
    const lines = stdout.trimEnd().split("\n");
    for (const text of lines) expect(text).toMatch(line);
    const rewards = lines.map((text) => Number(line.exec(text)?.[1]));
    expect(rewards).toHaveLength(60);
    expect(rewards[0]).toBeLessThan(0.25);
    expect(Math.min(...rewards.slice(-5))).toBeGreaterThan(0.7);
  });

  it("train the quickstart's policy for three steps", async () => {
    const { code, stdout, stderr } = await start(process.execPath, [
      join(root, "dist", "examples", "three-steps.js"),
      ...settingsFor(models, folder),
      "evaluation.questions=4",
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    for (let step = 1; step <= 3; step++)
      expect(stdout).toMatch(new RegExp(`^step ${step}: reward \\d\\.\\d{3}, searches \\d\\.\\d\\d$`, "m"));
    const rows = readRows(join(folder, "runs", "three-steps", "metrics.jsonl"));
    expect(rows.map(({ step }) => step)).toEqual([1, 2, 3]);
    expect(readdirSync(join(folder, "checkpoints", "three-steps"))).toContain("step-000003");
  });
});

describe.skipIf(!hasQuickstart)("the shipped models", () => {
  it("pass npm run smoke in a minute", async () => {
    const begun = performance.now();
    const { code, stdout, stderr } = await start("npm", [
      "run",
      "smoke",
      "--",
      `output.runs=${join(folder, "runs")}`,
      `output.checkpoints=${join(folder, "checkpoints")}`,
    ]);
    expect([code, stderr.replace(/^npm warn .*\n/gm, "")]).toEqual([0, ""]);
    expect(stdout).toMatch(/^zerosearch +after /m);
    // A shared machine may take twice its quiet time.
    expect(performance.now() - begun).toBeLessThan(120_000);
  });

  it("learn: a short run answers better on held-out questions with the real engine", async () => {
    const short = [
      "train.steps=6",
      "train.validateEvery=0",
      "train.saveEvery=0",
      "curriculum.start=0",
      "curriculum.end=0",
      "optimizer.learningRate=4e-4",
      "optimizer.warmupSteps=2",
      "evaluation.questions=80",
      "evaluation.baselines=false",
    ];
    const { code, stderr } = await train([
      "name=learns",
      `output.runs=${join(folder, "runs")}`,
      `output.checkpoints=${join(folder, "checkpoints")}`,
      ...short,
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    const rows = readRows(join(folder, "runs", "learns", "metrics.jsonl"));
    for (const row of rows) expect(row["rollout/logprob_mismatch_max"]).toBe(0);
    const [before, after] = JSON.parse(readFileSync(join(folder, "runs", "learns", "evaluation.json"), "utf8")) as { f1: number }[];
    expect(after!.f1).toBeGreaterThan(before!.f1 + 0.1);
  });
});
