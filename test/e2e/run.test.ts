/** Whole runs of the trainer as a user starts them: files, repeatability, resuming, the mismatch between sampler and trainer. */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareRuns, killAndResume } from "../../scripts/kill-resume.js";
import type { JudgedRow } from "../../src/evaluation/judge.ts";
import { createDevice } from "../../src/device/create.ts";
import { makeRandom } from "../../src/data/random.ts";
import { tokenLogProbs } from "../../src/rl/update.ts";
import type { RolloutRow } from "../../src/log/rows.ts";
import { openModel } from "../../src/setup/open-model.ts";
import { buildIfStale, readRows, settingsFor, shortRun, train, type Ended } from "../helpers/program.ts";
import { tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
let models: string;
let args: readonly string[];
let whole: Ended;
const runs = (name: string, file: string): string => join(folder, "runs", name, file);
const states = (name: string, ...path: string[]): string => join(folder, "checkpoints", name, ...path);

beforeAll(async () => {
  buildIfStale();
  models = await tinyQuickstart();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-e2e-"));
  args = [...shortRun, ...settingsFor(models, folder)];
  whole = await train([...args, "name=whole", "device.threads=2"]);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("a run", () => {
  it("goes from arguments to tables", () => {
    expect(whole.stderr).toBe("");
    expect(whole.code).toBe(0);
    const [base = "", first = "", second = ""] = whole.stdout.split("\n");
    expect(base).toMatch(/^configuration: \S*configs\/quickstart\.yaml, as no --config is given$/);
    expect(first).toMatch(/^device: cpu: 2 threads, .* \(auto: .*\)$/);
    expect(second).toMatch(/^policy [\d.]+ M parameters, simulator [\d.]+ M \| seed 1 \| run whole$/);
    for (let step = 1; step <= 5; step++)
      expect(whole.stdout).toMatch(new RegExp(`^step ${step}/5 .*reward .*p\\(noise\\) .*searches .*valid .*tokens/s .*mismatch 0 `, "m"));
    expect(whole.stdout).toMatch(/^step 1\/5 .*ETA \d/m);
    expect(whole.stdout).toMatch(/^method +when +questions +n +engine +EM +SubEM +F1 +95 % +searches +valid$/m);
    expect(whole.stdout).toMatch(/^first documents hold +when +n +searched again +F1$/m);
  });

  it("writes one row of metrics a step, and every rollout with all that it was", () => {
    const metrics = readRows(runs("whole", "metrics.jsonl"));
    expect(metrics.map((row) => row["step"])).toEqual([1, 2, 3, 4, 5]);
    for (const row of metrics) {
      for (const key of [
        "reward/mean",
        "rollout/searches",
        "rollout/valid",
        "curriculum/noise_probability",
        "policy/loss",
        "policy/grad_norm",
        "policy/entropy",
        "time/step",
      ])
        expect(row[key], key).toBeTypeOf("number");
      expect(row["policy/grad_norm"]).toBeGreaterThan(0);
    }
    const rollouts = readRows(runs("whole", "rollouts.jsonl"));
    expect(rollouts).toHaveLength(5 * 16);
    for (const row of rollouts) {
      for (const key of ["step", "reward", "advantage", "promptLength", "invalidActions", "turns"])
        expect(row[key], key).toBeTypeOf("number");
      for (const key of ["text", "status"]) expect(row[key], key).toBeTypeOf("string");
      const { key, ids, lossMask, logProbs, question, searches, promptLength, sampling } = row as unknown as RolloutRow;
      expect(Object.keys(key)).toEqual(["step", "question", "rollout"]);
      expect(key.step).toBe(row["step"]);
      expect(sampling).toEqual({ temperature: 1, topK: 0, topP: 1 });
      expect([lossMask.length, logProbs.length]).toEqual([ids.length, ids.length]);
      expect(lossMask.slice(0, promptLength).every((mask) => mask === 0)).toBe(true);
      expect(lossMask[promptLength]).toBe(1);
      expect(question.goldenAnswers.length).toBeGreaterThan(0);
      for (const search of searches)
        expect(Object.keys(search).sort()).toEqual(["containsGold", "documents", "kind", "noiseProbability", "query", "text", "turn"]);
    }
    expect(rollouts.flatMap((row) => row["searches"] as unknown[]).length).toBeGreaterThan(0);
    expect(new Set(rollouts.map((row) => row["reward"])).size).toBeGreaterThan(1);
  });

  it("leaves evaluation.json with the documented fields, before and after, for each method", () => {
    const rows = JSON.parse(readFileSync(runs("whole", "evaluation.json"), "utf8")) as Record<string, unknown>[];
    expect(rows.map(({ method, when }) => `${String(method)} ${String(when)}`)).toEqual(
      ["direct", "rag", "zerosearch"].map((m) => `${m} before`).concat(["direct", "rag", "zerosearch"].map((m) => `${m} after`)),
    );
    for (const row of rows) {
      expect(Object.keys(row)).toEqual([
        "method",
        "model",
        "when",
        "engine",
        "dataset",
        "n",
        "em",
        "subem",
        "f1",
        "f1Low",
        "f1High",
        "searches",
      ]);
      expect(row).toMatchObject({ n: 8, dataset: "quickstart", engine: row["method"] === "direct" ? "none" : "bm25" });
      expect(row["f1Low"]).toBeLessThanOrEqual(row["f1"] as number);
    }
  });

  it("leaves judged.jsonl: each question of each method, before and after, in order, with all that its answer was", () => {
    const rows = readRows(runs("whole", "judged.jsonl")) as unknown as JudgedRow[];
    const methods = ["direct", "rag", "zerosearch"];
    expect(rows.map((row) => [row.when, row.method, row.key.question])).toEqual(
      ["before", "after"].flatMap((when) => methods.flatMap((method) => Array.from({ length: 8 }, (_, i) => [when, method, i]))),
    );
    const asked = readRows(join(models, "world", "test.jsonl"));
    const { best } = JSON.parse(readFileSync(states("whole", "step-000005", "state.json"), "utf8")) as { best: { step: number } };
    for (const row of rows) {
      const { ids, lossMask, logProbs, searches, promptLength, status } = row;
      const { id, question, golden_answers: goldenAnswers } = asked[row.key.question]!;
      expect(row.question).toMatchObject({ id, question, goldenAnswers, dataSource: "quickstart" });
      expect(row.engine).toBe(row.method === "direct" ? "none" : "bm25");
      expect(row.step).toBe(row.when === "before" ? 0 : best.step);
      expect(row.answer === null).toBe(status !== "answered");
      expect(row.sampling.temperature).toBe(0);
      expect([lossMask.length, logProbs.length]).toEqual([ids.length, ids.length]);
      expect(lossMask.indexOf(1)).toBe(promptLength);
      expect(searches.every(({ text, query }) => text.length > 0 && typeof query === "string")).toBe(true);
      expect(row.text).toBeTypeOf("string");
    }
    // The scores of the rows are those of the tables.
    const table = JSON.parse(readFileSync(runs("whole", "evaluation.json"), "utf8")) as Record<string, unknown>[];
    for (const { when, method, f1, em, searches } of table) {
      const own = rows.filter((row) => row.when === when && row.method === method);
      const mean = (value: (row: JudgedRow) => number): number => own.reduce((sum, row) => sum + value(row), 0) / own.length;
      expect([mean((row) => row.f1), mean((row) => row.em)]).toEqual([f1, em]);
      expect(mean((row) => row.searches.length)).toBe(searches);
    }
  });

  it("leaves states, the best policy as a model folder, and its configuration", async () => {
    expect(readdirSync(states("whole")).sort()).toEqual(["policy", ...[1, 2, 3, 4, 5].map((step) => `step-00000${step}`)]);
    expect(readdirSync(states("whole", "policy")).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(readFileSync(runs("whole", "config.yaml"), "utf8")).toContain("questionsPerStep: 4");
    const { best } = JSON.parse(readFileSync(states("whole", "step-000005", "state.json"), "utf8")) as { best: { step: number } };
    const weights = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
    expect(weights(states("whole", "policy", "model.safetensors"))).toBe(
      weights(states("whole", `step-00000${best.step}`, "policy", "model.safetensors")),
    );
  });

  it("holds as many bytes after every step from the third on, to the few that the last batch of rows takes", () => {
    const bytes = readRows(runs("whole", "metrics.jsonl"))
      .slice(2)
      .map((row) => row["time/memory_bytes"] as number);
    expect(Math.max(...bytes) - Math.min(...bytes)).toBeLessThan(4096);
  });
});

describe("one seed", () => {
  it("gives the same metrics, rollouts and weights again, with one thread as with two", async () => {
    const { code, stderr } = await train([...args, "name=again", "device.threads=1"]);
    expect([code, stderr]).toEqual([0, ""]);
    compareRuns(folder, "whole", "again");
  });
});

describe("the sampler and the trainer", () => {
  it("give the same log-probabilities in every step", () => {
    for (const row of readRows(runs("whole", "metrics.jsonl"))) expect(row["rollout/logprob_mismatch_max"]).toBe(0);
  });

  it("give the same ones from the logged ids in a fresh batch of other composition, on one thread", async () => {
    const rows = readRows(runs("whole", "rollouts.jsonl")) as unknown as RolloutRow[];
    const device = await createDevice({ threads: 1 });
    try {
      let compared = 0;
      for (const step of [1, 3, 5]) {
        const weights = step === 1 ? join(models, "policy") : states("whole", `step-00000${step - 1}`, "policy");
        const { decoder } = await openModel(weights, device, { dtype: "f32", maxPositions: 560, trainable: false });
        const ofStep = rows.filter((row) => row.step === step);
        const mixed = makeRandom(`mix ${step}`).shuffle(ofStep);
        const again = await tokenLogProbs(decoder, mixed, { microBatchTokens: 700 + 50 * step });
        for (const trajectory of mixed) {
          const logged = trajectory.logProbs.filter((_, t) => trajectory.lossMask[t] === 1);
          expect([...again.get(trajectory)!]).toEqual(logged);
          compared += logged.length;
        }
        decoder.dispose();
      }
      expect(compared).toBeGreaterThan(500);
    } finally {
      await device.destroy();
    }
  });
});

describe("other ways of computing", () => {
  const two = ["train.steps=2", "evaluation.baselines=false", "evaluation.questions=4"];

  it("half-precision storage, recomputed activations and a KL term keep sampler and trainer equal", async () => {
    const how = ["model.dtype=f16", "model.cacheDtype=f16", "train.recompute=true", "algorithm.klCoef=0.01", "algorithm.entropyCoef=0.001"];
    const { code, stderr } = await train([...args, ...two, ...how, "name=half"]);
    expect([code, stderr]).toEqual([0, ""]);
    const rows = readRows(runs("half", "metrics.jsonl"));
    for (const row of rows) expect(row["rollout/logprob_mismatch_max"]).toBe(0);
    expect(rows[1]!["policy/kl_reference"]).toBeGreaterThan(0);
  });
});

describe("a run that has ended", () => {
  it("is judged again when resumed, and goes on when it is given more steps", async () => {
    const resume = ["--resume", "again", `output.runs=${join(folder, "runs")}`];
    const left = (): string[] => ["evaluation.json", "judged.jsonl"].map((file) => readFileSync(runs("again", file), "utf8"));
    const before = left();
    const ended = await train(resume);
    expect([ended.code, ended.stderr]).toEqual([0, ""]);
    expect(left()).toEqual(before);
    const more = await train([...resume, "train.steps=6"]);
    expect([more.code, more.stderr]).toEqual([0, ""]);
    expect(more.stdout).toMatch(/^warning: train.steps was 5 when this run was started, now it is 6$/m);
    expect(readRows(runs("again", "metrics.jsonl")).map((row) => row["step"])).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe("a run that is stopped", () => {
  it("by SIGKILL at any moment, while saving too, goes on to the same bits, with each step once in the logs", async () => {
    const kills = await killAndResume({
      args: [...args.filter((one) => !one.startsWith("output."))],
      kills: 3,
      folder: join(folder, "killed"),
      seed: 3,
    });
    expect(kills).toHaveLength(3);
  });

  it("by Ctrl-C saves, says how to go on, and goes on to the same bits", async () => {
    const stopAt = (text: string) => {
      let sent = false;
      return (stdout: string, kill: (signal: NodeJS.Signals) => void): void => {
        if (sent || !stdout.includes(text)) return;
        sent = true;
        kill("SIGINT");
      };
    };
    const goOn = `node train.js --resume stopped output.runs=${join(folder, "runs")}`;
    const first = await train([...args, "name=stopped"], { onOutput: stopAt("run stopped\n") });
    expect([first.code, first.stderr]).toEqual([130, ""]);
    expect(first.stdout).toContain(`Stopped before the first step was done; nothing is saved.\nGo on with: ${goOn}\n`);
    const resume = goOn.split(" ").slice(2);

    const second = await train(resume, { onOutput: stopAt("step 2/5") });
    expect([second.code, second.stderr]).toEqual([130, ""]);
    const [, stoppedAt = ""] = /Stopped after step (\d) of 5; saved in /.exec(second.stdout) ?? [];
    expect(second.stdout).toContain(`Go on with: ${goOn}\n`);
    expect(existsSync(states("stopped", `step-00000${stoppedAt}`, "manifest.json"))).toBe(true);

    const third = await train(resume);
    expect([third.code, third.stderr]).toEqual([0, ""]);
    expect(third.stdout).toContain(`Going on after step ${stoppedAt} from`);
    compareRuns(folder, "whole", "stopped");
  });
});
