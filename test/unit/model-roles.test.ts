/** Which weights a run holds, and who computes with them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packagedConfig, readOverride, readYaml, resolveConfig, type Config } from "../../src/config/index.ts";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { refuseDamagedWeights } from "../../src/setup/check-weights.ts";
import { Closing } from "../../src/setup/closing.ts";
import { addedAdapter, copiesOf, loraTargets, usesLora, type LocatedModels } from "../../src/setup/model-roles.ts";
import { locateConfigModels } from "../../src/setup/locate-models.ts";
import { files, type ModelReader } from "../../src/setup/open-model.ts";
import { openCopies } from "../../src/setup/open-models.ts";
import { tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";
import { hasQuickstart, root } from "../helpers/tiny-quickstart.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { liveTensors } from "../helpers/live-tensors.ts";

const configOf = (...settings: string[]): Config =>
  resolveConfig([...readYaml(packagedConfig("quickstart")), ...["rollout.maxContextTokens=500", ...settings].map(readOverride)]);

const at = (folder: string): { source: string; folder: string } => ({ source: `given/${folder}`, folder });
const located = (policy: string, simulator: string | null, reference: string | null = null): LocatedModels => ({
  policy: at(policy),
  simulator: simulator === null ? null : at(simulator),
  embedder: null,
  referencePolicy: reference === null ? null : at(reference),
  critic: null,
});
const plan = (config: Config, models: LocatedModels, trains = true) =>
  copiesOf(config, models, { simulatorPositions: 700, trains }).map(({ folder, dtype, learns, maxPositions, roles }) => ({
    copy: `${folder} ${dtype}${learns ? " learns" : ""} ${maxPositions}`,
    roles: roles.map(({ role, adapter }) => {
      if (adapter === null) return role;
      return `${role} + ${adapter.from ?? "new"}${adapter.learns ? " learns" : ""}`;
    }),
  }));

const lora = ["lora.rank=8", "model.dtype=bf16"];
const kl = "algorithm.klCoef=0.01";

describe("the copies of weights", () => {
  it("are one for all three roles where an adapter learns and the simulator is the same model, as long as the longest needs", () => {
    expect(plan(configOf(...lora, kl), located("base", "base"))).toEqual([
      { copy: "base bf16 700", roles: ["policy + new learns", "simulator", "reference"] },
    ]);
    expect(plan(configOf(...lora, kl, "simulator.adapter=sim"), located("base", "base", "base"))).toEqual([
      { copy: "base bf16 700", roles: ["policy + new learns", "simulator + sim", "reference"] },
    ]);
  });

  it("are one more for a simulator or a reference of its own", () => {
    expect(plan(configOf(...lora, kl, "simulator.adapter=sim"), located("base", "other"))).toEqual([
      { copy: "base bf16 500", roles: ["policy + new learns", "reference"] },
      { copy: "other bf16 700", roles: ["simulator + sim"] },
    ]);
    expect(plan(configOf(...lora, kl), located("base", null, "third"))).toEqual([
      { copy: "base bf16 500", roles: ["policy + new learns"] },
      { copy: "third bf16 500", roles: ["reference"] },
    ]);
  });

  it("have a reference with the adapter that the policy starts from, frozen, beside the one that learns", () => {
    expect(plan(configOf("lora.from=mine", kl), located("base", "base"))).toEqual([
      { copy: "base f32 700", roles: ["policy + mine learns", "simulator", "reference + mine"] },
    ]);
    // a reference that is named is that model as it is
    expect(plan(configOf("lora.from=mine", kl), located("base", "other", "base"))[0]!.roles).toEqual(["policy + mine learns", "reference"]);
  });

  it("are never shared with weights that learn; frozen ones of one folder are, without LoRA too", () => {
    expect(plan(configOf("model.dtype=f16", kl), located("base", "base"))).toEqual([
      { copy: "base f32 learns 500", roles: ["policy"] },
      { copy: "base f16 700", roles: ["simulator", "reference"] },
    ]);
    expect(plan(configOf(), located("base", "other"))).toEqual([
      { copy: "base f32 learns 500", roles: ["policy"] },
      { copy: "other f32 700", roles: ["simulator"] },
    ]);
  });

  it("neither learn nor have a reference where a policy is judged", () => {
    expect(plan(configOf(kl, "lora.from=mine"), located("base", "base"), false)).toEqual([
      { copy: "base f32 700", roles: ["policy + mine", "simulator"] },
    ]);
    expect(() => plan(configOf(...lora), located("base", "base"), false)).toThrow(
      /lora.from: is missing: lora.rank says that the policy is an adapter.*expected the folder of the adapter/,
    );
  });
});

describe("a model of the Hub", () => {
  it("keeps the commit that was found, by which an adapter's base is told from other branches of its repository", async () => {
    const commit = "0123456789012345678901234567890123456789";
    const config = configOf(...lora, "model.policy=a/b@branch", "simulator.path=there");
    const { located: models } = await locateConfigModels(config, {}, (_, key) => {
      const hub = key === "model.policy" ? { id: "a/b", commit } : null;
      return Promise.resolve({ folder: root, from: "folder", hub });
    });
    expect(models.policy).toMatchObject({ source: "a/b", commit });
    expect(models.simulator).toMatchObject({ source: "there", commit: undefined });
    const [copy] = copiesOf(config, models, { simulatorPositions: 700, trains: true });
    expect(copy?.roles[0]).toMatchObject({ source: "a/b", commit });
  });
});

describe("a policy that learns", () => {
  const device = new ReferenceDevice();
  it("is refused where its weights are not finite, by name; an adapter on such weights is asked for its own only", async () => {
    const decoder = tinyDecoder(tinyConfigs.qwen2, device);
    const policy = { source: "given", decoder, adapter: undefined };
    await refuseDamagedWeights(policy);
    const table = decoder.parameters().get("model.embed_tokens.weight")!;
    const values = await table.readFloats();
    values[values.length - 1] = NaN;
    table.write(values);
    decoder
      .parameters()
      .get("model.layers.0.self_attn.q_proj.bias")!
      .write(new Float32Array(decoder.parameters().get("model.layers.0.self_attn.q_proj.bias")!.size).fill(Infinity));
    await expect(refuseDamagedWeights(policy)).rejects.toThrow(
      /^given: 2 of \d+ tensors hold NaN or infinity: model.embed_tokens.weight, model.layers.0.self_attn.q_proj.bias\n/,
    );
    decoder.addAdapter("policy", { rank: 2, alpha: 4, seed: 1, targets: loraTargets("q_proj") });
    await refuseDamagedWeights({ ...policy, adapter: "policy" });
    decoder.dispose();
  });
});

describe("a new adapter", () => {
  it("is of the configured rank, alpha and layers, drawn by the run's seed", () => {
    const config = configOf("lora.rank=4", "lora.alpha=8", "lora.targets=v_proj, self_attn.q_proj", "seed=9");
    expect(usesLora(config)).toBe(true);
    expect(usesLora(configOf())).toBe(false);
    expect(addedAdapter(config)).toEqual({ rank: 4, alpha: 8, targets: ["self_attn.q_proj", "self_attn.v_proj"], seed: 9 });
    expect(loraTargets(configOf().lora.targets)).toHaveLength(7);
  });

  it("has targets that exist: a wrong one is an error with the nearest that does, before anything is loaded", () => {
    expect(() => plan(configOf("lora.rank=4", "lora.targets=q_proj,gate_porj"), located("a", "a"))).toThrow(
      /^lora.targets: is not a linear layer of a block; expected some of q_proj, k_proj.*, got "gate_porj"\n {2}did you mean gate_proj\?$/,
    );
    expect(() => loraTargets("mlp.q_proj")).toThrow(/got "mlp.q_proj"/);
    expect(() => loraTargets(" , ")).toThrow(/names no linear layer/);
  });

  it("has an alpha above 0: at 0 nothing would be learnt", () => {
    expect(() => configOf("lora.rank=4", "lora.alpha=0")).toThrow("wrong value for lora.alpha; expected a number above 0");
  });
});

describe.skipIf(!hasQuickstart)("models that are opened", () => {
  const folder = join(root, "checkpoints", "quickstart", "policy");
  const shape = fromHuggingFace({
    ...JSON.parse(readFileSync(join(folder, "config.json"), "utf8")),
    hidden_size: 8,
    head_dim: 4,
    intermediate_size: 8,
    num_hidden_layers: 1,
  });

  async function open(settings: readonly string[], models: LocatedModels) {
    const config = configOf(...settings);
    const device = new ReferenceDevice();
    const closing = new Closing();
    let loaded = 0;
    const reader: ModelReader = {
      text: files.text,
      template: files.template,
      weights: async ({ dtype, maxPositions }, to) => {
        loaded++;
        return Decoder.initialise(shape, to, 1, { dtype, maxPositions });
      },
      adapter: async (decoder, name) => decoder.addAdapter(name, { rank: 2, alpha: 2, seed: 2, targets: ["mlp.up_proj"] }),
    };
    try {
      return {
        ...(await openCopies(config, copiesOf(config, models, { simulatorPositions: 300, trains: true }), device, closing, reader)),
        loaded,
      };
    } finally {
      await closing.close();
      expect(liveTensors(device).tensors).toBe(0);
    }
  }

  it("are one decoder for roles that share it, each with its adapter, of which the policy's alone learns, and are freed once", async () => {
    const { policy, simulator, reference, loaded } = await open(
      [kl, "lora.from=mine", "simulator.adapter=sim", "rollout.maxContextTokens=200"],
      located(folder, folder),
    );
    expect(loaded).toBe(1);
    expect([simulator!.decoder, reference!.decoder]).toEqual([policy.decoder, policy.decoder]);
    expect([policy, simulator!, reference!].map(({ adapter, maxPositions }) => `${adapter ?? ""} ${maxPositions}`)).toEqual([
      "policy 200",
      "simulator 300",
      "reference 200",
    ]);
    const learns = (name: string): boolean[] => [...policy.decoder.adapterParameters(name).values()].map((one) => one.requiresGrad);
    expect([learns("policy"), learns("simulator"), learns("reference")]).toEqual([
      [true, true],
      [false, false],
      [false, false],
    ]);
    expect([...policy.decoder.parameters().values()].some((parameter) => parameter.requiresGrad)).toBe(false);
  });

  it("are refused where lora.rank is not the rank of the adapter that is given", async () => {
    const models = located(folder, null);
    await expect(open(["lora.from=mine", "lora.rank=8"], models)).rejects.toThrow(
      /^lora.rank: is not the rank of mine; expected 2, or 0, got 8\n.*keeps its own rank/,
    );
    await open(["lora.from=mine", "lora.rank=2"], models);
  });
});
