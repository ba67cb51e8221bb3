/** Plans: what is held is counted by running the program on a device that computes nothing; here on GPUs that are not there. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readOverride, readYaml } from "../../src/config/source.ts";
import { packagedConfig, resolveConfig, type Config } from "../../src/config/index.ts";
import { findTarget } from "../../src/device/choose.ts";
import { gpuMemory, type Machine } from "../../src/device/gpu-memory.ts";
import { genericGpu } from "../../src/device/kinds/webgpu.ts";
import { DryWebGpuDevice } from "../../src/device/webgpu/dry-device.ts";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import type { Question } from "../../src/rl/trajectory.ts";
import { dryEvaluation, dryRun } from "../../src/plan/dry-run.ts";
import { Ledger } from "../../src/plan/ledger.ts";
import { checkIndexes } from "../../src/plan/passages.ts";
import { planRun } from "../../src/plan/plan.ts";
import { findRates, saveRates, type Rates } from "../../src/plan/rates.ts";
import { parts, phases, promptLengths, worstBatch } from "../../src/plan/rehearse.ts";
import { changesFor, findRemedies } from "../../src/plan/settings.ts";
import { productWeights, stepTime } from "../../src/plan/step-time.ts";
import { readModels } from "../../src/plan/models.ts";
import { trainStep } from "../../src/train.ts";
import { adapter, emptyProbe, h200 } from "../helpers/adapters.ts";
import { messageOf } from "../helpers/message-of.ts";
import { smol135M } from "../helpers/random-checkpoint.ts";

const GiB = 2 ** 30;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-plan-"));
  for (const [name, config] of Object.entries({ smol: smol135M, six: { ...smol135M, num_hidden_layers: 6 } })) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, "config.json"), JSON.stringify(config));
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const machine: Machine = {
  platform: "linux",
  memory: 16 * GiB,
  list: () => [],
  read: () => null,
  run: () => Promise.resolve(null),
  adapters: () => Promise.resolve(emptyProbe),
};
/** The paper's settings for a policy of 135 M parameters on a GPU that is not here. */
function configOf(...settings: string[]): Config {
  const defaults = [
    "data.train=missing.jsonl",
    "device.kind=webgpu",
    `model.policy=${join(folder, "smol")}`,
    `simulator.path=${join(folder, "smol")}`,
  ];
  return resolveConfig([...defaults, ...settings].map(readOverride));
}
const targetFor = (config: Config, found = emptyProbe) => findTarget(config.device, { ...machine, adapters: () => Promise.resolve(found) });
const planOf = async (config: Config, questions: readonly Question[] = []) =>
  planRun(config, { questions, target: await targetFor(config), step: trainStep });

describe("a ledger", () => {
  it("keeps the books by purpose, and as they stood when most was held in each phase", () => {
    const ledger = new Ledger();
    ledger.classify = ({ label }) => label;
    const take = (id: number, bytes: number, label: string): void => {
      ledger.taken(id, bytes, { kind: "storage", label });
    };
    ledger.begin("first");
    take(1, 100, "a");
    take(2, 50, "b");
    ledger.given(2);
    ledger.begin("second");
    take(3, 30, "b");
    take(1, 100, "c"); // changes its use
    expect([...ledger.phases].map(([name, { total, parts: books }]) => [name, total, [...books]])).toEqual([
      [
        "first",
        150,
        [
          ["a", 100],
          ["b", 50],
        ],
      ],
      [
        "second",
        130,
        [
          ["a", 100],
          ["b", 30],
        ],
      ],
    ]);
    expect(ledger.peak.total).toBe(150);
  });
});

describe("the sizes that are rehearsed", () => {
  it("are rollouts of full length and one that fills the micro-batch; at most what the policy may write is in the loss", () => {
    const config = configOf(
      "rollout.maxContextTokens=1001",
      "rollout.maxObservationTokens=200",
      "train.microBatchTokens=2500",
      "rollout.maxTurns=1",
      "rollout.maxNewTokens=250",
    );
    // 999 tokens predict the others of 1000: the last one predicts nothing
    expect(worstBatch(config, 8192)).toEqual({ lengths: [1000, 1000, 500], lossTokens: 1250 });
    expect(worstBatch(config, 101)).toEqual({ lengths: [...Array.from({ length: 25 }, () => 100)], lossTokens: 2500 });
    expect(worstBatch({ ...config, train: { ...config.train, questionsPerStep: 1, groupSize: 1 } }, 8192).lengths).toEqual([1000]);
  });

  it("are prompts that fit the cache, the first as long as any", () => {
    for (const [rows, blocks, positions] of [
      [256, 109, 4096],
      [128, 1000, 560],
      [1, 10, 560],
      [4, 9, 560],
    ] as const) {
      const lengths = promptLengths(rows, blocks, positions, 9);
      const held = lengths.reduce((sum, length) => sum + Math.ceil((length + 9) / 64), 0);
      expect([lengths.length <= rows, lengths[0], held <= Math.max(blocks, Math.ceil(positions / 64))]).toEqual([
        true,
        positions - 9,
        true,
      ]);
    }
  });
});

describe("a plan", () => {
  it("holds weights, moments and gradients of every parameter in f32, and adds up", async () => {
    const { peak, phases: all, models } = await planOf(configOf("train.recompute=true", "algorithm.klCoef=0"));
    const P = 134_515_008;
    expect(models.map(({ parameters }) => parameters)).toEqual([P, P]);
    const held = (part: string): number => peak.parts.get(part) ?? 0;
    // buffers are rounded up: weights to 256 bytes, the others by up to a quarter of a power of two; a RoPE table comes with the weights
    const table = 4096 * 64 * 4;
    expect(held("policy: weights that learn")).toBeGreaterThanOrEqual(4 * P + table);
    expect(held("policy: weights that learn")).toBeLessThan(1.001 * (4 * P + table));
    for (const [part, bytes] of [
      [parts.moments, 8 * P],
      [parts.gradients, 4 * P],
    ] as const) {
      expect(held(part)).toBeGreaterThanOrEqual(bytes);
      expect(held(part)).toBeLessThan(1.25 * bytes);
    }
    for (const { total, parts: books } of all.values()) expect([...books.values()].reduce((a, b) => a + b, 0)).toBe(total);
    expect(peak.total).toBe(Math.max(...[...all.values()].map(({ total }) => total)));
    expect([...all.keys()]).toEqual([phases.loading, phases.rollout, phases.update, phases.watch]);
  });

  it("of PPO holds a critic's weights, gradients and moments besides: of its own as many as the policy's, with LoRA an adapter's, on the policy none", async () => {
    const P = 134_515_008;
    const settings = ["train.recompute=true", "algorithm.klCoef=0"];
    const heldBy = async (...more: string[]) => {
      const { peak, phases: all } = await planOf(configOf(...settings, ...more));
      return { held: (part: string): number => peak.parts.get(part) ?? 0, all: [...all.keys()], total: peak.total };
    };
    const own = await heldBy("algorithm.name=ppo");
    expect(own.held("critic: weights that learn")).toBeGreaterThanOrEqual(4 * P);
    expect(own.held(parts.gradients)).toBeGreaterThanOrEqual(8 * P);
    expect(own.held(parts.moments)).toBeGreaterThanOrEqual(16 * P);
    expect(own.all).toEqual([phases.loading, phases.rollout, phases.values, phases.update, phases.watch]);
    const plain = await heldBy("algorithm.name=reinforce");
    const shared = await heldBy("algorithm.name=ppo", "critic.trunk=policy");
    expect(shared.held("critic: weights that learn")).toBe(0);
    expect(shared.held(parts.gradients) - plain.held(parts.gradients)).toBeLessThan(1e6);
    const [lora, loraCritic] = [await heldBy("algorithm.name=reinforce", "lora.rank=8"), await heldBy("algorithm.name=ppo", "lora.rank=8")];
    expect(loraCritic.held("LoRA adapters")).toBeGreaterThan(1.9 * lora.held("LoRA adapters"));
    expect(loraCritic.held(parts.gradients)).toBeGreaterThan(1.9 * lora.held(parts.gradients));
    // One copy of the base serves both.
    expect(loraCritic.total - lora.total).toBeLessThan(P);
  });

  it("keeps 4 N C L bytes of activations and one block's more with recomputation, and every block's without", async () => {
    const settings = ["algorithm.klCoef=0", "train.microBatchTokens=8192"];
    const activations = async (...more: string[]): Promise<number> =>
      (await planOf(configOf(...settings, ...more))).phases.get(phases.update)?.parts.get(parts.activations) ?? 0;
    const [N, C, F, L] = [8192, 576, 1536, 30];
    // per block: norms, q, k, v, turned q and k, the mix, its product, the sum, norm, gate, up, their product, its product, the sum
    const block = 4 * N * (8 * C + C + 4 * (C / 3) + 3 * F);
    const kept = 4 * N * C * L;
    const [without, withIt] = [await activations(), await activations("train.recompute=true")];
    expect(without / (L * block)).toBeGreaterThan(0.8);
    expect(without / (L * block)).toBeLessThan(1.3);
    expect(withIt).toBeGreaterThan(kept);
    expect(withIt).toBeLessThan(kept + 3 * block);
  });

  it("shares one copy of frozen weights between the policy's base, reference and simulator with LoRA", async () => {
    const { peak } = await planOf(configOf("lora.rank=8", "model.dtype=bf16"));
    expect([...peak.parts.keys()].filter((part) => part.includes("weights") && !part.includes("packed"))).toEqual([
      "policy, simulator, reference policy: frozen weights",
    ]);
    expect(peak.parts.get("policy, simulator, reference policy: frozen weights")).toBeLessThan(2.1 * 134_515_008);
  });

  it("holds no simulator that runs behind an endpoint, nor a reference where the loss has no KL term", async () => {
    const { peak } = await planOf(configOf("simulator.path=null", "simulator.endpoint=http://127.0.0.1:1/v1", "algorithm.klCoef=0"));
    expect([...peak.parts.keys()].filter((part) => part.includes("weights"))).toEqual(["policy: weights that learn"]);
  });

  it("says which config.json is missing, and how to come by it", async () => {
    await expect(planOf(configOf("model.policy=Some/Model"))).rejects.toThrow(
      /model\.policy: there is no config\.json of Some\/Model on this machine.*zerosearch download Some\/Model/s,
    );
    await expect(planOf(configOf("model.policy=no/such/folder"))).rejects.toThrow("a folder with config.json");
  });
});

describe("the head's backward pass on a GPU", () => {
  it("takes its scratch memory once, however many chunks the tokens make", () => {
    const scratch = (N: number): number => {
      const device = new DryWebGpuDevice({ capabilities: genericGpu.capabilities, precision: "f16", fuse: true, notes: false });
      const [C, V] = [256, 151936];
      const storage = (rows: number, cols: number, dtype: "f32" | "u32" = "f32") => device.allocate(rows, cols, dtype, "activation", "x");
      const weight = device.allocate(V, C, "f32", "parameter", "weight");
      const vector = () => storage(1, N);
      const inputs = [storage(N, C), weight, storage(1, N, "u32"), vector(), vector(), vector(), vector()];
      const outputs = [storage(N, C), storage(V, C)];
      const before = device.memory().inUse;
      device.run("log_prob_backward", { temperature: 1 }, inputs, outputs);
      const { inUse, peak } = device.memory();
      // the weight's f16 copy stays, and while it is read where it lies that of the hidden states
      expect(inUse - before).toBe(Math.ceil(V / 128) * 128 * C * 2 + (N === 768 ? N * C * 2 : 0));
      return peak - inUse;
    };
    // chunks of 768 rows
    expect(scratch(768)).toBeGreaterThan(4 * 768 * 151936);
    expect(scratch(20 * 768)).toBeLessThan(1.05 * scratch(2 * 768));
  });
});

describe("what does not fit", () => {
  /** The same with six layers. */
  const small = (memoryGiB: number, ...settings: string[]): Config =>
    configOf(
      ...[`model.policy=${join(folder, "six")}`, `simulator.path=${join(folder, "six")}`, `device.memoryGiB=${memoryGiB}`],
      ...["train.microBatchTokens=16384", "algorithm.klCoef=0", ...settings],
    );

  it("is refused with the setting that makes it fit, and with that it fits", async () => {
    const config = small(5);
    const { plan, text } = await dryRun(config, trainStep, await targetFor(config));
    expect(plan.fits).toBe(false);
    expect(text).toMatch(/This does not fit the GPU: \d+\.\d+ GiB are needed, 4\.50 GiB are there\./);
    const [, words = ""] = /^With (.*) it fits: /m.exec(text) ?? [];
    expect(words).toBe("train.recompute=true");
    expect((await planOf(small(5, words))).fits).toBe(true);
  });

  it("takes several settings where no single one is enough, those that cost most last", async () => {
    const config = small(4);
    const { enough } = await findRemedies(await planOf(config), planOf);
    const settings = enough?.changes.flatMap((change) => change.settings) ?? [];
    expect(settings).toEqual(["train.recompute=true", "train.microBatchTokens=8192"]);
    expect(enough?.plan.fits).toBe(true);
  });

  it("is told what memory would do where no setting helps", async () => {
    const config = small(0.6);
    const { text } = await dryRun(config, trainStep, await targetFor(config));
    expect(text).toMatch(/No setting makes it fit\. With .*lora\.rank=16, \d\.\d+ GiB would do/);
    expect(text).toMatch(/As it is, \d+ GiB of memory would do\./);
  });

  it("offers only what changes something", () => {
    const names = (config: Config): string[] => changesFor(config).map(({ settings: [first = ""] }) => first);
    const all = names(configOf("train.microBatchTokens=16384"));
    expect(all).toEqual([
      "train.recompute=true",
      "train.microBatchTokens=8192",
      "train.microBatchTokens=4096",
      "rollout.cacheMiB=256",
      "optimizer.moments=bf16",
      "optimizer.moments=8bit",
      "model.cacheDtype=f16",
      "model.dtype=bf16",
      "simulator.path=null",
      "algorithm.klCoef=0",
      "lora.rank=16",
    ]);
    const settled = [
      "train.recompute=true",
      "train.microBatchTokens=4096",
      "rollout.cacheMiB=256",
      "optimizer.moments=8bit",
      "model.cacheDtype=f16",
    ];
    expect(names(configOf(...settled, "model.dtype=bf16", "lora.rank=4", "algorithm.klCoef=0"))).toEqual(["simulator.path=null"]);
  });
});

describe("rollout.cacheMiB=0", () => {
  const zero = (...settings: string[]): Config => configOf("rollout.cacheMiB=0", "train.recompute=true", ...settings);
  const cache = ({ peak }: Awaited<ReturnType<typeof planOf>>): number => peak.parts.get(parts.cache) ?? 0;

  it("takes what the memory leaves after all else, as far as the rollouts can use it, and fits", async () => {
    const least = await planOf(zero("device.memoryGiB=100", "rollout.cacheMiB=1"));
    const rest = (least.peak.total - cache(least)) / GiB;
    const [tight, wide, widest] = [
      await planOf(zero(`device.memoryGiB=${rest + 6}`)),
      await planOf(zero("device.memoryGiB=30")),
      await planOf(zero("device.memoryGiB=100")),
    ];
    for (const plan of [tight, wide, widest]) expect([plan.fits, plan.config.rollout.cacheMiB > 0]).toEqual([true, true]);
    expect(cache(tight) / GiB).toBeGreaterThan(2);
    expect(tight.peak.total / GiB).toBeLessThan(rest + 6);
    expect(cache(wide)).toBeGreaterThan(cache(tight));
    // 320 rollouts of 4096 tokens: 64 blocks each; of the simulator's usual sequences, 26; in buffers of size classes.
    const block = KvCache.bytesFor(fromHuggingFace(smol135M), 1, "f32");
    expect(cache(widest)).toBeLessThanOrEqual(1.25 * 320 * (64 + 26) * block);
    expect(cache(widest)).toBeGreaterThanOrEqual(320 * (64 + 26) * block);
  });

  it("is planned as 512 where nobody knows the memory, and with the least where even that does not fit", async () => {
    expect((await planOf(zero())).config.rollout.cacheMiB).toBe(512);
    const small = await planOf(zero("device.memoryGiB=1"));
    expect([small.fits, small.config.rollout.cacheMiB]).toEqual([false, 1]);
  });

  it("says how many rollouts go on at once", async () => {
    const config = zero("device.memoryGiB=100");
    const { text } = await dryRun(config, trainStep, await targetFor(config));
    expect(text).toMatch(
      /KV cache of the policy: \d+\.\d GiB, 1310720 tokens: at full length \(4096 tokens\) 320 of 320 sequences decode at once\.\n/,
    );
  });
});

describe("the device that is planned for", () => {
  it("is a GPU like today's where none is here, with the memory that is given", async () => {
    const target = await targetFor(configOf("device.memoryGiB=80"));
    expect([target.name, target.memory]).toEqual(["a GPU that is not here, f32", { bytes: 80 * GiB, source: "device.memoryGiB" }]);
    expect(target.notes.join()).toContain("no GPU adapter is here: planned for a GPU with the limits of today's NVIDIA GPUs");
  });

  it("is the adapter that is here; a software one only where no other memory is given", async () => {
    const software = adapter({ fullName: "llvmpipe", vendor: "mesa", software: true });
    const [here, soft] = [
      { ...emptyProbe, adapters: [h200] },
      { ...emptyProbe, adapters: [software] },
    ];
    expect((await targetFor(configOf(), here)).name).toBe("NVIDIA H200, f32");
    expect(await targetFor(configOf(), soft)).toMatchObject({ name: "llvmpipe, f32", memory: { bytes: 16 * GiB } });
    const given = await targetFor(configOf("device.memoryGiB=80"), soft);
    expect([given.name, given.notes[0]]).toEqual([
      "a GPU that is not here, f32",
      expect.stringContaining("only a software adapter is here (llvmpipe)"),
    ]);
    expect((await targetFor(configOf("device.kind=auto"), soft)).kind).toBe("cpu");
    expect((await targetFor(configOf("device.kind=auto"), here)).kind).toBe("webgpu");
  });

  it("has unknown memory where nothing tells, and the plan says so instead of guessing", async () => {
    const config = configOf();
    const { plan, text } = await dryRun(config, trainStep, await targetFor(config));
    expect(plan.fits).toBeNull();
    expect(text).toContain("memory unknown: give device.memoryGiB");
    expect(text).toMatch(/It is unknown whether this fits: .* Give device\.memoryGiB=N; \d+\.?\d* GiB are needed\./);
  });

  it("learns its memory from nvidia-smi, from the kernel for AMD, and from the machine where it is shared", async () => {
    const smi = (text: string): Machine => ({ ...machine, run: (program) => Promise.resolve(program === "nvidia-smi" ? text : null) });
    const nvidia = { vendor: "nvidia", fullName: "NVIDIA H200", software: false };
    expect(await gpuMemory(nvidia, smi("NVIDIA H200, 143771\n"))).toEqual({ bytes: 143771 * 2 ** 20, source: "nvidia-smi" });
    const two = smi("NVIDIA L4, 23034\nNVIDIA H200, 143771\n");
    for (const fullName of ["NVIDIA H200", "nvidia-h200"])
      expect((await gpuMemory({ ...nvidia, fullName }, two))?.bytes).toBe(143771 * 2 ** 20);
    expect(await gpuMemory({ ...nvidia, fullName: "other" }, two)).toBeNull();
    expect(await gpuMemory(nvidia, machine)).toBeNull();
    const files: Readonly<Record<string, string>> = {
      "/sys/class/drm/card0/device/vendor": "0x1002\n",
      "/sys/class/drm/card0/device/mem_info_vram_total": "25753026560\n",
      "/sys/class/drm/card1/device/vendor": "0x1002\n",
      "/sys/class/drm/card1/device/mem_info_vram_total": "536870912\n", // a processor's own
    };
    const linux: Machine = { ...machine, list: () => ["card0", "card0-DP-1", "card1"], read: (file) => files[file] ?? null };
    expect((await gpuMemory({ vendor: "amd", fullName: "RX", software: false }, linux))?.bytes).toBe(25753026560);
    expect((await gpuMemory({ ...nvidia, vendor: "apple" }, { ...machine, platform: "darwin" }))?.bytes).toBe(16 * GiB);
    expect(await gpuMemory({ vendor: "intel", fullName: "Arc", software: false }, machine)).toBeNull();
  });
});

describe("the models of a plan", () => {
  it("are without a simulator where the run trains on a real engine", async () => {
    const roles = async (...settings: string[]): Promise<string[]> =>
      (await readModels(configOf("algorithm.klCoef=0", ...settings), { simulatorPositions: 1000 })).flatMap(({ copy }) =>
        copy.roles.map(({ role }) => role),
      );
    expect(await roles()).toEqual(["policy", "simulator"]);
    expect(await roles("search.engine=bm25", "data.corpus=c")).toEqual(["policy"]);
  });
});

describe("the time of a step", () => {
  const rates: Rates = {
    device: "one",
    measured: "today",
    trainFlops: 1e12,
    prefillFlops: 2e12,
    decodeFlops: 1e12,
    decodeBytes: 1e11,
    layerSeconds: 1e-4,
  };

  it("is work over measured rates: a step of full rollouts worked out by hand", async () => {
    const config = configOf("algorithm.klCoef=0", "simulator.path=null", "simulator.endpoint=http://127.0.0.1:1/v1", "rollout.maxTurns=0");
    const models = await readModels(config, { simulatorPositions: 1000 });
    const shape = models[0]!.config;
    const weights = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536) + 576 * 49152;
    expect(productWeights(shape)).toBe(weights);
    const { update, decode, prefill, reference } = stepTime(config, models, rates, 1);
    const [rollouts, T, sampled] = [320, 4096, 500];
    const forward = 2 * weights + 4 * 30 * 576 * (T / 2);
    expect(update).toBeCloseTo((3 * rollouts * T * forward) / 1e12, 6);
    expect(prefill).toBeCloseTo((rollouts * (T - sampled) * (forward - 2 * 576 * 49152)) / 2e12, 6);
    expect(reference).toBe(0);
    // 512 MiB of cache hold 2 x 30 x 3 x 64 x 4 bytes a token: 22.7 sequences of 4096, so 320 x 500 tokens take 7031 steps
    const tokenBytes = 2 * 30 * 3 * 64 * 4;
    const steps = (rollouts * sampled) / (2 ** 29 / tokenBytes / T);
    const bytes = steps * weights * 4 + rollouts * sampled * (T / 2) * tokenBytes;
    expect(decode).toBeCloseTo(bytes / 1e11 + steps * 30 * 1e-4, 3);
  });

  it("counts two passes where only an adapter learns, and one more where activations are recomputed", async () => {
    const time = async (...settings: string[]): Promise<number> => {
      const config = configOf(...settings);
      return stepTime(config, await readModels(config, { simulatorPositions: 1000 }), rates, 1).update;
    };
    const whole = await time();
    expect((await time("lora.rank=8")) / whole).toBeCloseTo(2 / 3, 9);
    expect((await time("train.recompute=true")) / whole).toBeCloseTo(4 / 3, 9);
  });

  it("comes from rates that were kept for the device, the user's own first, and from no others", () => {
    const [own, packaged] = [join(folder, "a", "rates.json"), join(folder, "rates.json")];
    expect(findRates("one", [own, packaged])).toBeNull();
    saveRates({ ...rates, trainFlops: 5 }, packaged);
    saveRates(rates, own);
    saveRates({ ...rates, device: "two" }, own);
    saveRates({ ...rates, measured: "again" }, own);
    expect(findRates("one", [own, packaged])?.measured).toBe("again");
    expect(findRates("one", [packaged])?.trainFlops).toBe(5);
    expect(findRates("three", [own, packaged])).toBeNull();
    writeFileSync(own, '{"rates": [{"device": "one", "trainFlops": 0}, 3, null]}');
    expect(findRates("one", [own])).toBeNull();
  });

  it("is said to be unknown for a device that nobody has measured, with the command that measures it", async () => {
    const config = configOf("device.memoryGiB=80");
    const { text } = await dryRun(config, trainStep, await targetFor(config));
    expect(text).toContain("Time of a step: unknown, as nobody has measured a GPU that is not here, f32");
    expect(text).toContain("npm run bench -- --save-rates");
  });
});

describe("a plan", () => {
  it("names the modules of one's own that are not here, which the run itself will need", async () => {
    const config = configOf("device.memoryGiB=80", "reward.kind=./no-reward.js", "search.engine=./no-engine.js");
    const { text } = await dryRun(config, trainStep, await targetFor(config));
    expect(text).toContain("reward.kind=./no-reward.js is not here: the run itself will need it");
    expect(text).toContain("search.engine=./no-engine.js is not here: the run itself will need it");
    expect(text).not.toContain("rollout.method=");
  });

  it("of a run, an evaluation or a collection is refused, in the words of the program itself, where the index that is searched is not there", async () => {
    const missing = join(folder, "gone.index");
    const dense = ["dense.endpoint=http://127.0.0.1:9/v1", "dense.endpointModel=m", `dense.index=${missing}`];
    for (const [engine, settings] of [
      ["bm25", [`bm25.index=${missing}`]],
      ["dense", dense],
    ] as const) {
      const config = configOf("device.memoryGiB=80", "data.test=missing.jsonl", `evaluation.engine=${engine}`, ...settings);
      const message = `${missing}: there is no such index\n  npx zerosearch index CORPUS ${engine === "dense" ? "--dense dense.path=MODEL " : ""}--to FILE makes one.`;
      expect(await messageOf(dryRun(config, trainStep, await targetFor(config)))).toBe(message);
      expect(await messageOf(dryEvaluation(config))).toBe(message);
      expect(await messageOf(checkIndexes(config, "collect"))).toBe(message);
    }
    // What nobody searches may be anywhere.
    await checkIndexes(configOf("evaluation.engine=bm25", "data.corpus=c", ...dense), "evaluate");
  });
});

describe("the shipped configurations", () => {
  it("are planned for a GPU of 4 GiB without their models' weights", async () => {
    const config = resolveConfig([
      ...readYaml(packagedConfig("quickstart")),
      ...["device.kind=webgpu", "device.memoryGiB=4"].map(readOverride),
    ]);
    const { plan } = await dryRun(config, trainStep, await findTarget(config.device, machine));
    expect(plan.fits).toBe(true);
  });
});
