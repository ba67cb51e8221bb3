/** The road for one's own questions: `zerosearch init`, the plan of what it wrote, and a step on it; and the preset behind it. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildIfStale, readRows, start, train, type Ended } from "../helpers/program.ts";
import { qwen05B } from "../helpers/random-checkpoint.ts";
import { root, tinyQuickstart } from "../helpers/tiny-quickstart.ts";

let folder: string;
/** A tiny model with room for the long prompts of models that follow instructions. */
let model: string;
/** Of Qwen2.5-0.5B only its shape. */
let shape: string;

beforeAll(async () => {
  buildIfStale();
  folder = mkdtempSync(join(tmpdir(), "zerosearch-own-"));
  model = join(folder, "model");
  cpSync(join(await tinyQuickstart(), "policy"), model, { recursive: true });
  const config = JSON.parse(readFileSync(join(model, "config.json"), "utf8")) as object;
  writeFileSync(join(model, "config.json"), JSON.stringify({ ...config, max_position_embeddings: 8192 }));
  shape = join(folder, "shape");
  mkdirSync(shape);
  writeFileSync(join(shape, "config.json"), JSON.stringify(qwen05B));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const init = (...args: string[]): Promise<Ended> =>
  start(process.execPath, [join(root, "bin", "zerosearch.js"), "init", ...args], { cwd: folder });

describe("zerosearch init", () => {
  it("writes what is planned, trained on and judged as it stands", async () => {
    const written = await init("agent", "--yes", "--model", "model", "--gpu-memory", "0");
    expect(written.stderr).toBe("");
    expect(written.stdout).toMatch(/^Planned: \S+ of 4.00 GiB at most\.$/m);
    const config = ["--config", "agent/zerosearch.yaml"];
    expect(written.stdout.trimEnd().split("\n").slice(-3)).toEqual([
      "  npx zerosearch train --config agent/zerosearch.yaml --dry-run",
      "  npx zerosearch train --config agent/zerosearch.yaml",
      "  npx zerosearch evaluate --config agent/zerosearch.yaml lora.from=checkpoints/agent/policy",
    ]);
    const planned = await train([...config, "--dry-run"], { cwd: folder });
    expect([planned.code, planned.stderr]).toEqual([0, ""]);
    expect(planned.stdout).toContain("This fits: ");
    // The tiny model searches in the quickstart's words only, and writes long.
    const short = ["rollout.prompt=quickstart", "rollout.maxNewTokens=40", "simulator.maxNewTokens=24"];
    const quick = [...short, "train.steps=1", "train.groupSize=2", "evaluation.baselines=false", "evaluation.robustness=false"];
    const trained = await train([...config, ...quick], { cwd: folder });
    expect([trained.code, trained.stderr]).toEqual([0, ""]);
    expect(trained.stdout).toContain("The policy: checkpoints/agent/policy, a LoRA adapter on model.");
    const [row] = readRows(join(folder, "runs", "agent", "metrics.jsonl"));
    expect(row).toMatchObject({ step: 1, "rollout/logprob_mismatch_max": 0 });
    const rollouts = readRows(join(folder, "runs", "agent", "rollouts.jsonl"));
    expect(rollouts).toHaveLength(3 * 2);
    expect(rollouts.flatMap(({ searches }) => searches as object[]).length).toBeGreaterThan(0);
  });

  it("turns settings down until the run fits, and writes nothing where it never does", async () => {
    const { code, stdout, stderr } = await init("tight", "--yes", "--model", "shape", "--gpu-memory", "4.8");
    expect([code, stderr]).toEqual([0, ""]);
    const [, settings] = /^Planned: \S+ of 4.30 GiB at most, with (.*)\.$/m.exec(stdout)!;
    expect(settings).toMatch(/^(rollout|train)\.\w+=\d+/);
    const text = readFileSync(join(folder, "tight", "zerosearch.yaml"), "utf8");
    for (const setting of settings!.split(" "))
      expect(text).toContain(`${setting.replace(/^\w+\./, "").replace("=", ": ")} # so that it fits 4.30 GiB`);
    const never = await init("never", "--yes", "--model", "shape", "--gpu-memory", "2");
    expect(never.code).toBe(1);
    expect(never.stderr).toMatch(/^zerosearch init: a run with shape does not fit; expected at most 1.50 GiB, got \S+ GiB\n/);
    expect(() => readFileSync(join(folder, "never", "zerosearch.yaml"))).toThrow("ENOENT");
  });
});

describe("configs/qwen2.5-0.5b-lora.yaml", () => {
  it.each(["8", "10.6"])("fits %s GiB: a GPU of 8 GB, and two thirds of an Apple machine's 16", async (memory) => {
    const models = ["model.policy=shape", "simulator.path=shape", `device.memoryGiB=${memory}`];
    const config = join(root, "configs", "qwen2.5-0.5b-lora.yaml");
    const { code, stdout } = await train(["--config", config, "--dry-run", "--device", "webgpu", ...models], { cwd: folder });
    expect(stdout).toContain("This fits: ");
    expect(code).toBe(0);
  });
});
