/** What a plan counts is what a device takes: the same program on a device that computes and on one that only counts. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packagedConfig, resolveConfig, type Config } from "../../src/config/index.ts";
import { readOverride, readYaml } from "../../src/config/source.ts";
import { targetOf } from "../../src/device/choose.ts";
import { createDryCpuDevice } from "../../src/device/cpu/cpu-device.ts";
import type { Device, MemoryReport } from "../../src/device/device.ts";
import { openTraining } from "../../src/index.ts";
import { dryRun } from "../../src/plan/dry-run.ts";
import { Ledger } from "../../src/plan/ledger.ts";
import { rehearseTuning } from "../../src/plan/rehearse-tuning.ts";
import { readModels } from "../../src/plan/models.ts";
import { rehearse } from "../../src/plan/rehearse.ts";
import type { Models } from "../../src/setup/open-models.ts";
import { tuningConfig } from "../../src/run/tuning-config.ts";
import { trainStep } from "../../src/train.ts";
import { makeDevice, testDevice, withDevice } from "../helpers/device.ts";
import { smol135M } from "../helpers/random-checkpoint.ts";
import { hasQuickstart } from "../helpers/tiny-quickstart.ts";

const tiny = {
  ...smol135M,
  hidden_size: 64,
  intermediate_size: 176,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 600,
};
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-plan-"));
  for (const [name, config] of Object.entries({ tiny, other: { ...tiny, num_hidden_layers: 2 }, smol: smol135M })) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, "config.json"), JSON.stringify(config));
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function configOf(policy: string, simulator: string, ...settings: string[]): Config {
  const models = ["data.train=none", `model.policy=${join(folder, policy)}`, `simulator.path=${join(folder, simulator)}`];
  return resolveConfig([...models, ...settings].map(readOverride));
}

const small = [
  "simulator.prompt=quickstart",
  "simulator.maxNewTokens=40",
  "rollout.maxNewTokens=20",
  "rollout.maxObservationTokens=60",
  "rollout.maxContextTokens=150",
  "train.questionsPerStep=3",
  "train.groupSize=2",
  "train.microBatchTokens=400",
];

/** Zeros: every kernel runs, and nothing is NaN. */
function fill({ policy, simulator, reference }: Models): void {
  for (const decoder of new Set([policy, simulator, reference].flatMap((model) => (model === null ? [] : [model.decoder])))) {
    const adapters = decoder.adapterNames.flatMap((name) => [...decoder.adapterParameters(name).values()]);
    for (const parameter of [...decoder.parameters().values(), ...adapters]) parameter.write(new Float32Array(parameter.size));
  }
}

interface Counted {
  readonly real: MemoryReport;
  readonly hollow: MemoryReport;
  /** By the books. */
  readonly total: number;
}

async function both(config: Config, device: Device): Promise<Counted> {
  const planned = await readModels(config, { simulatorPositions: 200 });
  await rehearse(config, planned, device, new Ledger(), trainStep, { opened: fill });
  const ledger = new Ledger();
  const hollow = await (await targetOf(device, config.device)).open(ledger);
  await rehearse(config, planned, hollow, ledger, trainStep);
  return { real: device.memory(), hollow: hollow.memory(), total: ledger.peak.total };
}

describe("a device that only counts", () => {
  it.each([
    ["all weights learn", []],
    ["activations are recomputed, and the loss has KL and entropy terms", ["train.recompute=true", "algorithm.klCoef=0.01"]],
    ["an adapter learns on shared 16-bit weights", ["lora.rank=4", "model.dtype=bf16", "model.cacheDtype=f16", "optimizer.moments=bf16"]],
    ["moments have 8 bits", ["optimizer.moments=8bit", "algorithm.klCoef=0"]],
  ])("takes the same bytes, in use and at most, where %s", async (_, settings) => {
    // Kernels compile slowly on a software adapter.
    for (const simulator of testDevice === "cpu" ? ["tiny", "other"] : ["tiny"])
      await withDevice(
        async (device) => {
          const { real, hollow, total } = await both(configOf("tiny", simulator, ...small, ...settings), device);
          expect([hollow.inUse, hollow.peak, total]).toEqual([real.inUse, real.peak, real.peak]);
          if (testDevice === "cpu") expect(hollow.reserved).toBeGreaterThanOrEqual(real.reserved);
        },
        { poison: false },
      );
  });

  // On a software adapter it takes minutes.
  it.runIf(testDevice === "cpu")("takes the same bytes of a model of 135 M parameters that is updated once", async () => {
    const lengths = ["rollout.maxContextTokens=64", "rollout.maxObservationTokens=24", "train.microBatchTokens=64", "algorithm.klCoef=0"];
    const rows = ["train.questionsPerStep=1", "train.groupSize=2"];
    const config = configOf("smol", "tiny", ...small, ...lengths, ...rows);
    await withDevice(
      async (device) => {
        const { real, hollow } = await both(config, device);
        expect(real.peak).toBeGreaterThan(16 * 134_515_008);
        expect(hollow.peak / real.peak).toBeGreaterThan(0.99);
        expect(hollow.peak / real.peak).toBeLessThan(1.01);
      },
      { poison: false },
    );
  });

  it.runIf(testDevice === "cpu")("drops panels of weights before it says that memory has run out, as the device does", async () => {
    const config = configOf("tiny", "other", ...small);
    const peakWith = async (maxMemoryBytes: number): Promise<{ hollow: number | null; real: number | null }> => {
      const planned = await readModels(config, { simulatorPositions: 200 });
      const ledger = new Ledger();
      const hollow = await createDryCpuDevice({ threads: 1, maxMemoryBytes }, ledger);
      await rehearse(config, planned, hollow, ledger, trainStep);
      const real = await makeDevice({ threads: 1, maxMemoryBytes, poison: false });
      const peak = await rehearse(config, planned, real, new Ledger(), trainStep, { opened: fill }).then(
        () => real.memory().peak,
        () => null,
      );
      await real.destroy();
      return { hollow: hollow.overflow === undefined ? hollow.memory().peak : null, real: peak };
    };
    const { peak } = (await both(config, await makeDevice({ threads: 1, poison: false }))).hollow;
    const fixed = 6 * 2 ** 20; // threads' scratch and statics
    const results = [];
    for (const part of [0.6, 0.9, 0.97, 1.2]) results.push(await peakWith(Math.ceil(fixed + part * peak)));
    for (const { hollow, real } of results) expect(hollow).toBe(real);
    expect(results[0]!.real).toBeNull();
    expect(results[3]!.real).not.toBeNull();
  });
});

describe("a fine-tuning on a device that only counts", () => {
  it.each([
    ["all weights learn", []],
    ["activations are recomputed", ["train.recompute=true"]],
    ["an adapter learns on 16-bit weights", ["lora.rank=4", "model.dtype=bf16", "optimizer.moments=bf16"]],
  ])("takes the same bytes, in use and at most, where %s", async (_, settings) => {
    const config = tuningConfig(configOf("tiny", "tiny", ...small, "sft.maxTokens=150", ...settings));
    await withDevice(
      async (device) => {
        const planned = await readModels(config, { simulatorPositions: 0, simulates: false });
        expect(planned.flatMap(({ copy }) => copy.roles.map(({ role }) => role))).toEqual(["policy"]);
        await rehearseTuning(config, planned, device, new Ledger(), fill);
        const ledger = new Ledger();
        const hollow = await (await targetOf(device, config.device)).open(ledger);
        await rehearseTuning(config, planned, hollow, ledger);
        const [real, counted] = [device.memory(), hollow.memory()];
        expect([counted.inUse, counted.peak, ledger.peak.total]).toEqual([real.inUse, real.peak, real.peak]);
      },
      { poison: false },
    );
  });
});

describe.skipIf(!hasQuickstart)("a step of the quickstart", () => {
  it("holds at most what the plan says, to a tenth", async () => {
    // On software adapters a whole step takes minutes.
    const sizes =
      testDevice === "cpu"
        ? []
        : ["train.questionsPerStep=2", "train.groupSize=4", "train.microBatchTokens=700", "algorithm.entropyCoef=0.001"];
    const settings = [
      `device.kind=${testDevice}`,
      ...sizes,
      "train.saveEvery=0",
      `output.runs=${join(folder, "runs")}`,
      `output.checkpoints=${join(folder, "checkpoints")}`,
    ];
    const { plan } = await dryRun(resolveConfig([...readYaml(packagedConfig("quickstart")), ...settings.map(readOverride)]), trainStep);
    const training = await openTraining({ config: packagedConfig("quickstart"), settings });
    try {
      const { costs } = await trainStep(training.run, 1);
      expect(plan.fits).toBe(true);
      expect(costs.memory.peak / plan.peak.total).toBeGreaterThan(0.9);
      expect(costs.memory.peak / plan.peak.total).toBeLessThan(1.1);
    } finally {
      await training.close();
    }
  });
});
