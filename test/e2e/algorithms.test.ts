/** Whole runs with other algorithms than the default: what they log and save, and that a killed one goes on to the same bits. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareRuns, killAndResume } from "../../scripts/kill-resume.js";
import { buildIfStale, readRows, settingsFor, shortRun, train } from "../helpers/program.ts";
import { tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
const metrics = (place: string, name: string): Record<string, number>[] =>
  readRows(join(place, "runs", name, "metrics.jsonl")) as Record<string, number>[];
const states = (place: string, ...path: string[]): string => join(place, "checkpoints", ...path);
/** Without the places where a run writes. */
const args = (...more: string[]): string[] => [
  ...[...shortRun, "train.steps=3", ...settingsFor(models, folder), "evaluation.baselines=false", "data.test=null"].filter(
    (one) => !one.startsWith("output."),
  ),
  ...more,
];

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-algorithms-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe.each<[string, string[], string[]]>([
  ["a critic with weights of its own, and KL in the reward", ["algorithm.klCoef=0.05"], ["config.json", "model.safetensors"]],
  [
    "a critic that is an adapter",
    ["lora.rank=4", "model.dtype=bf16", "train.updatesPerStep=2"],
    ["adapter_config.json", "adapter_model.safetensors"],
  ],
  [
    "a critic on the policy's weights, and a weight of KL that adapts",
    ["critic.trunk=policy", "algorithm.klCoef=0.05", "algorithm.klTarget=0.001", "algorithm.klHorizon=20"],
    [],
  ],
])("PPO with %s", (what, settings, files) => {
  const place = (): string => join(folder, what.replaceAll(/\W+/g, "-"));

  it("goes on to the same bits after SIGKILL, critic and all", async () => {
    const ppo = args("algorithm.name=ppo", "critic.learningRate=1e-3", "critic.warmupSteps=0", "optimizer.learningRate=5e-3", ...settings);
    await killAndResume({ args: ppo, kills: 1, folder: place(), seed: 1 });
    compareRuns(place(), "whole", "killed-1");
    const own = settings.includes("critic.trunk=policy") ? [] : ["critic-optimizer.safetensors"];
    expect(readdirSync(states(place(), "whole", "step-000003")).sort()).toEqual(
      ["critic", "manifest.json", "optimizer.safetensors", "policy", "state.json", ...own].sort(),
    );
    const saved = readdirSync(states(place(), "whole", "step-000003", "critic"));
    expect(saved).toEqual(expect.arrayContaining(["value_head.safetensors", ...files]));
  });

  it("says how well the critic foretells returns, and samples what it trains: a mismatch of 0", () => {
    const rows = metrics(place(), "whole");
    expect(rows.map((row) => row["rollout/logprob_mismatch_max"])).toEqual([0, 0, 0]);
    // The head is zero at the start: all values are, too.
    expect(rows[0]!["critic/value_mean"]).toBe(0);
    expect(rows[0]!["critic/explained_variance"]).toBe(0);
    expect(rows[1]!["critic/value_mean"]).not.toBe(0);
    for (const row of rows) {
      expect(row["critic/loss"]).toBeGreaterThan(0);
      expect(row["policy/grad_norm"]).toBeGreaterThan(0);
    }
    const adapts = settings.some((one) => one.startsWith("algorithm.klTarget"));
    const coefs = rows.map((row) => row["policy/kl_coef"]);
    if (adapts) expect(new Set(coefs).size).toBe(3);
    else if (settings.includes("algorithm.klCoef=0.05")) expect(coefs).toEqual([0.05, 0.05, 0.05]);
  });
});

describe("a run", () => {
  const run = (name: string, ...more: string[]) =>
    train([...args(...more), `name=${name}`, `output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`]);

  it("whose critic has a head start leaves the policy as it is until then", async () => {
    expect(await run("head-start", "algorithm.name=ppo", "critic.headStartSteps=2")).toMatchObject({ code: 0, stderr: "" });
    const rows = metrics(folder, "head-start");
    expect(rows.map((row) => row["policy/grad_norm"] !== undefined)).toEqual([false, false, true]);
    expect(rows.every((row) => row["critic/loss"]! > 0)).toBe(true);
  });

  it("with dynamic sampling asks other questions in place of those whose rewards are all equal, and says how many", async () => {
    expect(await run("dynamic", "algorithm.dynamicSampling=2", "train.steps=2")).toMatchObject({ code: 0, stderr: "" });
    const rows = metrics(folder, "dynamic");
    const rollouts = readRows(join(folder, "runs", "dynamic", "rollouts.jsonl")) as unknown as {
      step: number;
      reward: number;
      key: { question: number };
    }[];
    for (const row of rows) {
      const own = rollouts.filter(({ step }) => step === row["step"]);
      const groups = [...new Set(own.map(({ key }) => key.question))].map((question) => own.filter(({ key }) => key.question === question));
      expect(groups.every((group) => group.length === 4)).toBe(true);
      const equal = groups.filter((group) => group.every(({ reward }) => reward === group[0]!.reward)).length;
      expect(row["sampling/dropped_groups"]).toBe(equal);
      expect(equal).toBeGreaterThan(0);
      const kept = groups.length - equal;
      expect(kept).toBeLessThanOrEqual(4);
      if (kept < 4) expect(row["sampling/rounds"]).toBe(2);
    }
  });

  it("with dynamic sampling goes on where every reward of a later round fails, and says so", async () => {
    const reward = join(folder, "first-round.js");
    // The first round's rollouts are paid the same, so that all its groups are asked again.
    writeFileSync(reward, "let calls = 0;\nexport default () => (++calls <= 16 ? 1 : NaN);\n");
    const ended = await run("broken-round", "algorithm.dynamicSampling=1", "train.steps=1", `reward.kind=${reward}`);
    expect(ended.code).toBe(0);
    expect(ended.stdout).toMatch(/16 of 32 rewards failed, and their rollouts were left out/);
    expect(metrics(folder, "broken-round")[0]).toMatchObject({ "reward/mean": 1, "reward/failed": 16, "sampling/rounds": 1 });
  });

  it("without a critic cannot go on with one, and says so before anything is trained", async () => {
    expect(await run("plain", "train.steps=1")).toMatchObject({ code: 0 });
    const ended = await train([
      ...["--resume", "plain", "algorithm.name=ppo", "train.steps=2"],
      ...[`output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`],
    ]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("holds no critic: this run was trained without one; expected algorithm.advantage as it was");
    expect(existsSync(states(folder, "plain", "step-000002"))).toBe(false);
  });
});
