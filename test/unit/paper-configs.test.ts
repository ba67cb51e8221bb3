import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { packageFolder, readOverride, readYaml, resolveConfig, type Config } from "../../src/config/index.ts";
import { contextRoom } from "../../src/run/context-room.ts";
import { learningRate } from "../../src/optim/schedule.ts";

const folder = join(packageFolder, "configs");
const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => !/^(prompts|algorithms|engines)\//.test(name))
  .sort();
const resolve = (file: string, ...settings: string[]): Config =>
  file.startsWith("simulator-")
    ? resolveConfig([...readYaml(join(folder, file)), ...["sft.data=pairs.jsonl", ...settings].map(readOverride)], "sft")
    : resolveConfig([...readYaml(join(folder, file)), ...settings.map(readOverride)]);
const paper = files.filter((file) => file.startsWith("paper/"));
const root = "paper/qwen2.5-3b.yaml";

/** The released scripts, `train_reinforce.sh` and `train_grpo.sh`, with the defaults they do not override. */
const script = {
  "rollout.prompt": "paper",
  "rollout.maxTurns": 5,
  "rollout.maxNewTokens": 500,
  "rollout.maxObservationTokens": 2048,
  "rollout.maxContextTokens": 4096,
  "rollout.temperature": 1,
  "rollout.topK": 0,
  "train.steps": 203,
  "train.questionsPerStep": 64,
  "train.groupSize": 5,
  // 320 rollouts in mini-batches of 256.
  "train.updatesPerStep": Math.ceil((64 * 5) / 256),
  "train.recompute": true,
  "train.saveEvery": 50,
  "optimizer.learningRate": 1e-6,
  "optimizer.schedule": "constant",
  "optimizer.beta1": 0.9,
  "optimizer.beta2": 0.999,
  "optimizer.eps": 1e-8,
  "optimizer.weightDecay": 0.01,
  "optimizer.maxGradNorm": 1,
  "algorithm.clipLow": 0.2,
  "algorithm.clipHigh": 0.2,
  "algorithm.klCoef": 0.001,
  "algorithm.entropyCoef": 0.001,
  "algorithm.normalizeByStd": true,
  "curriculum.end": 0.5,
  "curriculum.base": 4,
  "reward.kind": "f1",
  "simulator.prompt": "paper",
  "simulator.documents": 5,
  "simulator.maxNewTokens": 600,
  "simulator.temperature": 0.8,
  "simulator.topK": 0,
  "simulator.topP": 1,
  "bm25.documents": 5,
} as const;

const valueOf = (config: Config, key: string): unknown =>
  key.split(".").reduce<unknown>((tree, part) => (tree as Record<string, unknown>)[part], config);

describe("configs/", () => {
  it.each(files)("%s resolves", (file) => {
    expect(resolve(file).name).toMatch(/\w/);
  });

  it("gives every run a name of its own, and its README a row for every file", () => {
    expect(new Set(files.map((file) => resolve(file).name)).size).toBe(files.length);
    const readme = readFileSync(join(folder, "README.md"), "utf8");
    for (const file of files) expect(readme).toContain(`| \`${file}\` |`);
  });

  it("says of every value why it is so", () => {
    for (const file of files) {
      const lines = readFileSync(join(folder, file), "utf8").split("\n");
      const bare = lines.filter((line) => /^ +\w+: \S/.test(line) && !line.includes(" # "));
      // The quickstart's and the smoke test's are explained by the lines beside them.
      if (/^(paper\/|methods\/qwen|simulator-qwen|qwen)/.test(file))
        expect(
          bare.filter((line) => !/endpoint: |path: "/.test(line)),
          file,
        ).toEqual([]);
      expect(lines[0], file).toMatch(/^# /);
    }
  });
});

describe("qwen2.5-0.5b-lora.yaml", () => {
  const { model, simulator, rollout, lora, train, bm25 } = resolve("qwen2.5-0.5b-lora.yaml");

  it("trains an adapter on one copy of the weights, which the simulator uses too, prompted", () => {
    expect([model.policy, simulator.path, simulator.prompt]).toEqual([simulator.path, "Qwen/Qwen2.5-0.5B-Instruct", "prompted"]);
    expect(lora.rank).toBeGreaterThan(0);
    expect(bm25.documents).toBe(simulator.documents);
  });

  it("has room for a prompt of 250 tokens and every search at full length, with a last turn", () => {
    const { needed } = contextRoom(rollout, { prompt: 250, positions: 32768 });
    expect(needed + rollout.maxNewTokens).toBeLessThanOrEqual(rollout.maxContextTokens);
    expect(train.microBatchTokens).toBeGreaterThanOrEqual(rollout.maxContextTokens);
  });
});

describe("the simulators", () => {
  const simulators = files.filter((file) => file.startsWith("simulator-qwen"));

  it("are tuned from the paper's three Instruct models, the large ones by adapters", () => {
    expect(simulators.map((file) => [resolve(file).model.policy, resolve(file).lora.rank])).toEqual([
      ["Qwen/Qwen2.5-14B-Instruct", 64],
      ["Qwen/Qwen2.5-3B-Instruct", 0],
      ["Qwen/Qwen2.5-7B-Instruct", 64],
    ]);
  });

  it.each(simulators)("%s takes ten times the learning rate of all weights for an adapter, and whole examples in a micro-batch", (file) => {
    const { sft, lora, train } = resolve(file);
    expect(sft.learningRate).toBeCloseTo(lora.rank > 0 ? 1e-4 : 1e-5, 10);
    expect(train.microBatchTokens).toBeGreaterThanOrEqual(sft.maxTokens);
  });
});

describe("the methods that the paper compares with", () => {
  it.each([
    ["methods/qwen2.5-3b-search-r1.yaml", "search-r1", "http", 5],
    ["methods/qwen2.5-3b-r1.yaml", "r1", "simulated", 0],
    ["methods/qwen2.5-3b-instruct-tools.yaml", "tools", "simulated", 5],
  ])("%s has the scripts' hyperparameters, and %s with the engine %s", (file, method, engine, maxTurns) => {
    const config = resolve(file);
    expect([config.rollout.method, config.search.engine, config.rollout.maxTurns]).toEqual([method, engine, maxTurns]);
    const other = ["rollout.maxTurns", "rollout.maxNewTokens", "curriculum.end"];
    for (const [key, value] of Object.entries(script)) if (!other.includes(key)) expect(valueOf(config, key), key).toEqual(value);
    expect(config.algorithm.name).toBe("reinforce");
  });
});

describe("the paper's runs", () => {
  it("are of the paper's six policies, and of two that fit smaller GPUs", () => {
    expect(paper.map((file) => [relative("paper", file), resolve(file).model.policy])).toEqual([
      ["llama-3.2-3b-instruct.yaml", "meta-llama/Llama-3.2-3B-Instruct"],
      ["llama-3.2-3b.yaml", "meta-llama/Llama-3.2-3B"],
      ["qwen2.5-3b-grpo.yaml", "Qwen/Qwen2.5-3B"],
      ["qwen2.5-3b-instruct.yaml", "Qwen/Qwen2.5-3B-Instruct"],
      ["qwen2.5-3b-lora-24gib.yaml", "Qwen/Qwen2.5-3B"],
      ["qwen2.5-3b-ppo.yaml", "Qwen/Qwen2.5-3B"],
      ["qwen2.5-3b.yaml", "Qwen/Qwen2.5-3B"],
      ["qwen2.5-7b-instruct.yaml", "Qwen/Qwen2.5-7B-Instruct"],
      ["qwen2.5-7b-lora-80gib.yaml", "Qwen/Qwen2.5-7B"],
      ["qwen2.5-7b.yaml", "Qwen/Qwen2.5-7B"],
    ]);
  });

  it.each(paper)("%s has the scripts' hyperparameters, but for what it says", (file) => {
    const config = resolve(file);
    const lora = config.lora.rank > 0;
    for (const [key, value] of Object.entries(script)) {
      if (lora && key === "optimizer.learningRate") expect(config.optimizer.learningRate).toBe(1e-5);
      else expect(valueOf(config, key), key).toEqual(value);
    }
    expect(config.algorithm.name).toBe(/-(grpo|ppo)\.yaml$/.exec(file)?.[1] ?? "reinforce");
    expect(config.curriculum.start).toBe(file.includes("llama") ? 0.25 : 0);
    expect(config.rollout.topP).toBe(1);
    expect(config.model.referencePolicy).toBeNull();
    expect(config.simulator.path === null).toBe(!lora);
  });

  it("warm up as the scripts do: over 0.95 of 203 steps, then constant", () => {
    const { optimizer, train } = resolve(root);
    const steps = Math.floor(0.95 * 203);
    expect(optimizer.warmupSteps).toBe(steps * train.updatesPerStep);
    const schedule = {
      kind: optimizer.schedule,
      peak: optimizer.learningRate,
      warmupSteps: optimizer.warmupSteps,
      finalFraction: optimizer.finalFraction,
      totalSteps: train.steps * train.updatesPerStep,
    };
    expect(learningRate(schedule, steps * 2)).toBe(1e-6);
    expect(learningRate(schedule, schedule.totalSteps - 1)).toBe(1e-6);
    expect(learningRate(schedule, steps)).toBeCloseTo(0.5e-6, 8);
  });

  it("of PPO are the third script's: KL as k1 in the reward, gamma and lambda 1, a critic of its own with its rate and clip", () => {
    const { algorithm, critic, optimizer, train } = resolve("paper/qwen2.5-3b-ppo.yaml");
    expect(algorithm).toMatchObject({
      advantage: "gae",
      gamma: 1,
      lambda: 1,
      whiten: true,
      klIn: "reward",
      klEstimator: "k1",
      klTarget: 0,
    });
    expect(critic).toMatchObject({ trunk: "own", path: null, learningRate: 1e-5, clip: 0.5, headStartSteps: 0 });
    expect(optimizer.warmupSteps).toBe(Math.floor(0.285 * 203) * train.updatesPerStep);
    expect(critic.warmupSteps).toBe(Math.floor(0.015 * 203) * train.updatesPerStep);
  });

  it.each(paper)("%s takes the overrides that configs/README.md names", (file) => {
    const grpo = resolve(file, "algorithm.name=grpo");
    expect(grpo.algorithm.name).toBe("grpo");
    for (const size of ["3B", "7B", "14B"]) {
      const path = `sunhaonlp/Simulation_LLM_google_${size}_V2`;
      const { simulator } = resolve(file, "simulator.endpoint=null", `simulator.path=${path}`);
      expect(simulator).toMatchObject({ path, endpoint: null });
    }
    const prompted = resolve(file, "simulator.endpoint=null", "simulator.path=Qwen/Qwen2.5-14B-Instruct", "simulator.prompt=prompted");
    expect(prompted.simulator.prompt).toBe("prompted");
  });
});
