/** Whole runs that train a LoRA adapter: what they leave, resuming, sharing one copy of the weights, and judging what was learnt. */
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareRuns, killAndResume } from "../../scripts/kill-resume.js";
import { buildIfStale, readRows, settingsFor, shortRun, start, train } from "../helpers/program.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
let base: string;
/** Of every run here: a frozen half-precision base, everything recomputed, and a KL term. */
const how = [
  "model.dtype=bf16",
  "train.recompute=true",
  "algorithm.klCoef=0.01",
  "optimizer.learningRate=5e-3",
  "evaluation.baselines=false",
];
let args: readonly string[];
const states = (...path: string[]): string => join(folder, "checkpoints", ...path);
const metrics = (name: string): Record<string, unknown>[] => readRows(join(folder, "runs", name, "metrics.jsonl"));

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  base = join(models, "policy");
  folder = mkdtempSync(join(tmpdir(), "zerosearch-lora-"));
  args = [...shortRun, "train.steps=3", ...settingsFor(models, folder), ...how].filter((one) => !one.startsWith("output."));
  // The run that is left alone is `whole`.
  await killAndResume({ args: [...args, "lora.rank=8"], kills: 1, folder, seed: 1 });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("a run that trains an adapter", () => {
  it("goes on to the same bits after SIGKILL: adapter, moments, logs and evaluation", () => {
    compareRuns(folder, "whole", "killed-1");
  });

  it("samples with the adapter that it trains: a mismatch of 0 in every step, and a policy that leaves its reference", () => {
    const rows = metrics("whole");
    expect(rows.map((row) => row["rollout/logprob_mismatch_max"])).toEqual([0, 0, 0]);
    for (const row of rows) expect(row["policy/grad_norm"]).toBeGreaterThan(0);
    expect(rows[2]!["policy/kl_reference"]).toBeGreaterThan(1e-6);
  });

  it("saves the adapter and its moments, never the base", () => {
    for (const step of [1, 2, 3]) {
      expect(readdirSync(states("whole", `step-00000${step}`)).sort()).toEqual([
        "manifest.json",
        "optimizer.safetensors",
        "policy",
        "state.json",
      ]);
      expect(readdirSync(states("whole", `step-00000${step}`, "policy")).sort()).toEqual([
        "adapter_config.json",
        "adapter_model.safetensors",
      ]);
    }
    const [first, second] = [1, 2].map((step) => readFileSync(states("whole", `step-00000${step}`, "policy", "adapter_model.safetensors")));
    expect(first!.equals(second!)).toBe(false);
  });

  it("leaves a PEFT folder that names the model as the user did", () => {
    expect(readdirSync(states("whole", "policy")).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    const config = JSON.parse(readFileSync(states("whole", "policy", "adapter_config.json"), "utf8")) as Record<string, unknown>;
    expect(config).toMatchObject({ peft_type: "LORA", r: 8, lora_alpha: 32, base_model_name_or_path: base });
    expect(config["target_modules"]).toHaveLength(7);
  });
});

describe("zerosearch evaluate", () => {
  const evaluate = (...more: string[]) =>
    start(process.execPath, [join(root, "bin", "zerosearch.js"), "evaluate", ...args, ...more], { cwd: folder });

  it("judges an adapter on its base with the numbers that the run gave it at its end", async () => {
    const json = join(folder, "judged.json");
    const { code, stderr, stdout } = await evaluate(`lora.from=${states("whole", "policy")}`, "--json", json);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`policy ${base} with the LoRA adapter ${states("whole", "policy")}`);
    const rows = JSON.parse(readFileSync(join(folder, "runs", "whole", "evaluation.json"), "utf8")) as Record<string, unknown>[];
    expect(JSON.parse(readFileSync(json, "utf8"))).toEqual(rows.filter(({ when }) => when === "after"));
  });

  it("says what is missing when it is told of an adapter but not which", async () => {
    const { code, stderr } = await evaluate("lora.rank=8");
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/lora.from: is missing: .*expected the folder of the adapter, got null\n.*checkpoints\/<run>\/policy/);
  });
});

describe("a simulator on the policy's own weights", () => {
  it("gives the run that it gives on a copy of them, and a run goes on from an adapter, with that as its reference", async () => {
    const copy = join(folder, "copy");
    cpSync(base, copy, { recursive: true });
    const adapters = [
      `lora.from=${states("whole", "step-000001", "policy")}`,
      `simulator.adapter=${states("whole", "step-000003", "policy")}`,
    ];
    const output = [`output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`];
    const said: string[] = [];
    for (const [name, simulator] of [
      ["shared", base],
      ["apart", copy],
    ] as const) {
      const own = [...adapters, ...output, "train.steps=2", "evaluation.questions=4", `simulator.path=${simulator}`, `name=${name}`];
      const { code, stderr, stdout } = await train([...args, ...own]);
      expect([code, stderr]).toEqual([0, ""]);
      said.push(stdout.split("\n").find((line) => line.startsWith("policy "))!);
    }
    expect(said[0]).toMatch(
      /^policy 0.\d\d M parameters and a LoRA adapter of 0.\d\d M that learns, simulator on the same weights with its own adapter \|/,
    );
    expect(said[1]).toMatch(/, simulator 0.\d\d M with its own adapter \|/);
    compareRuns(folder, "shared", "apart");
    expect(metrics("shared").map((row) => row["rollout/logprob_mismatch_max"])).toEqual([0, 0]);
    expect(metrics("shared")[0]!["generate/simulator_tokens"]).toBeGreaterThan(0);
    // The copy's weights: 2 bytes each, and besides them its RoPE table.
    const bytes = (name: string): number => metrics(name)[1]!["time/memory_bytes"] as number;
    const weights = readFileSync(join(base, "model.safetensors")).length / 2;
    expect(bytes("apart") - bytes("shared")).toBeGreaterThan(0.95 * weights);
  });
});
