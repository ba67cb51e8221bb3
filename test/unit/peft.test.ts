import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadAdapter, saveAdapter } from "../../src/checkpoint/peft.ts";
import { adapterPairs, parseAdapterConfig, readAdapterConfig } from "../../src/checkpoint/peft-config.ts";
import { SafetensorsFile } from "../../src/checkpoint/safetensors.ts";
import { linearNames } from "../../src/nn/block.ts";
import { ConfigError, FileError, ZeroSearchError } from "../../src/util/errors.ts";
import { peftFields, randomPairs, writeAdapter } from "../helpers/lora-adapter.ts";
import { tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { liveTensors } from "../helpers/live-tensors.ts";
import { roundTo } from "../helpers/round-to.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});
const fresh = (): Promise<string> => mkdtemp(join(folder, "adapter-"));
const { qwen2 } = tinyConfigs;
const all = (): number => 4;

/** The pairs that a configuration with these fields has in the two layers of the tiny Qwen2: module to [rank, scale]. */
function pairsOf(fields: Readonly<Record<string, unknown>>): Record<string, [number, number]> {
  const config = parseAdapterConfig(JSON.stringify({ ...peftFields, ...fields }), "adapter_config.json");
  return Object.fromEntries(
    adapterPairs(config, qwen2).map(({ module, rank, scale }) => [module.replace("model.layers.", ""), [rank, scale]]),
  );
}

describe("an adapter that was trained here", () => {
  it("is saved with PEFT's names, shapes and fields, and read again bit for bit", async () => {
    const device = new ReferenceDevice();
    const decoder = tinyDecoder(qwen2, device);
    const trained = decoder.addAdapter("policy", { rank: 3, alpha: 6, seed: 5, targets: ["self_attn.v_proj", "self_attn.q_proj"] });
    for (const parameter of trained.values())
      if (parameter.name.includes("lora_B")) parameter.write(Float32Array.from({ length: parameter.size }, (_, i) => i / 7));
    const place = join(await fresh(), "new");
    await saveAdapter(decoder, "policy", place, { baseModel: "Qwen/Qwen2.5-0.5B" });
    expect((await readdir(place)).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    expect(JSON.parse(await readFile(join(place, "adapter_config.json"), "utf8"))).toEqual({
      alpha_pattern: {},
      auto_mapping: null,
      base_model_name_or_path: "Qwen/Qwen2.5-0.5B",
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      layer_replication: null,
      layers_pattern: null,
      layers_to_transform: null,
      loftq_config: {},
      lora_alpha: 6,
      lora_dropout: 0,
      megatron_config: null,
      megatron_core: "megatron.core",
      modules_to_save: null,
      peft_type: "LORA",
      r: 3,
      rank_pattern: {},
      revision: null,
      target_modules: ["q_proj", "v_proj"],
      task_type: "CAUSAL_LM",
      use_dora: false,
      use_rslora: false,
    });
    const file = await SafetensorsFile.open(join(place, "adapter_model.safetensors"));
    expect(file.metadata).toEqual({ format: "pt" });
    // C 24, H D 24, K D 12
    expect(Object.fromEntries([...file.tensors].map(([name, { dtype, shape }]) => [name, [dtype, ...shape]]))).toEqual(
      Object.fromEntries(
        [0, 1].flatMap((layer) => [
          [`base_model.model.model.layers.${layer}.self_attn.q_proj.lora_A.weight`, ["F32", 3, 24]],
          [`base_model.model.model.layers.${layer}.self_attn.q_proj.lora_B.weight`, ["F32", 24, 3]],
          [`base_model.model.model.layers.${layer}.self_attn.v_proj.lora_A.weight`, ["F32", 3, 24]],
          [`base_model.model.model.layers.${layer}.self_attn.v_proj.lora_B.weight`, ["F32", 12, 3]],
        ]),
      ),
    );
    await file.close();
    const other = tinyDecoder(qwen2, device);
    await loadAdapter(other, "again", place);
    const again = other.adapterParameters("again");
    expect([...again.keys()].sort()).toEqual([...trained.keys()].sort());
    for (const [name, parameter] of trained) expect(await again.get(name)!.read(), name).toEqual(await parameter.read());
    expect(other.blocks[1]!.linears.get("self_attn.v_proj")!.adapters.get("again")!.scale).toBe(2);
    expect(other.blocks[1]!.linears.get("mlp.up_proj")!.adapters.size).toBe(0);
  });

  it("whose layers differ is written by whole names, and read again as it was", async () => {
    const device = new ReferenceDevice();
    const decoder = tinyDecoder(qwen2, device);
    const pair = (layer: number): { rank: number; scale: number } | null => (layer === 0 ? null : { rank: 2, scale: 10 / 3 });
    decoder.addAdapter("odd", { rank: 4, alpha: 8, seed: 1, targets: ["mlp.up_proj"], pair });
    const place = join(await fresh(), "odd");
    await saveAdapter(decoder, "odd", place, { baseModel: "x", dtype: "bf16" });
    expect(JSON.parse(await readFile(join(place, "adapter_config.json"), "utf8"))).toMatchObject({
      target_modules: ["model.layers.1.mlp.up_proj"],
      rank_pattern: { "model.layers.1.mlp.up_proj": 2 },
      alpha_pattern: { "model.layers.1.mlp.up_proj": 20 / 3 },
    });
    const other = tinyDecoder(qwen2, device);
    await loadAdapter(other, "odd", place);
    expect(other.blocks[1]!.linears.get("mlp.up_proj")!.adapters.get("odd")).toMatchObject({ scale: 10 / 3, a: { rows: 2 } });
    const name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight";
    const [before, after] = [
      await decoder.adapterParameters("odd").get(name)!.readFloats(),
      await other.adapterParameters("odd").get(name)!.readFloats(),
    ];
    expect(after).toEqual(before.map((x) => roundTo(x, "bf16")));
  });

  it("is not saved over somebody's files, nor when it holds NaN", async () => {
    const decoder = tinyDecoder(qwen2, new ReferenceDevice());
    const parameters = decoder.addAdapter("policy", { rank: 1, alpha: 1, seed: 5 });
    const place = await fresh();
    await writeFile(join(place, "thesis.txt"), "three years");
    await expect(saveAdapter(decoder, "policy", place, { baseModel: "x" })).rejects.toThrow(
      /will not be replaced; expected no such folder, an empty one, or an adapter and nothing else, got thesis.txt/,
    );
    parameters.values().next().value!.write(new Float32Array(24).fill(NaN));
    await expect(saveAdapter(decoder, "policy", join(place, "inner"), { baseModel: "x" })).rejects.toThrow(/not finite/);
    expect(await readdir(place)).toEqual(["thesis.txt"]);
  });
});

describe("an adapter that PEFT wrote", () => {
  it("is saved with the revision of the model that it now belongs to, not of the one before", async () => {
    const place = await writeAdapter(await fresh(), randomPairs(qwen2, all), { revision: "their-branch" });
    const decoder = tinyDecoder(qwen2, new ReferenceDevice());
    await loadAdapter(decoder, "theirs", place);
    const saved = async (options: { baseModel: string; revision?: string }): Promise<unknown> => {
      const again = join(await fresh(), "again");
      await saveAdapter(decoder, "theirs", again, options);
      return JSON.parse(await readFile(join(again, "adapter_config.json"), "utf8"));
    };
    expect(await saved({ baseModel: "a/b", revision: "c0ffee" })).toMatchObject({ base_model_name_or_path: "a/b", revision: "c0ffee" });
    expect(await saved({ baseModel: "a/b" })).toMatchObject({ revision: null });
  });

  for (const dtype of ["f32", "f16", "bf16"] as const)
    it(`in ${dtype} is read exactly, and saved again with the same tensors and whatever its file said besides`, async () => {
      const fields = { auto_mapping: { base_model_class: "Qwen2ForCausalLM" }, peft_version: "0.18.0", init_lora_weights: "gaussian" };
      const place = await writeAdapter(await fresh(), randomPairs(qwen2, all), fields, dtype);
      const decoder = tinyDecoder(qwen2, new ReferenceDevice());
      const config = await loadAdapter(decoder, "theirs", place);
      expect(config).toMatchObject({ rank: 4, alpha: 8, dropout: 0.05, baseModel: "Qwen/Qwen2.5-0.5B" });
      for (const [name, { values }] of randomPairs(qwen2, all))
        expect(await decoder.adapterParameters("theirs").get(name)!.readFloats(), name).toEqual(values.map((x) => roundTo(x, dtype)));
      const again = join(await fresh(), "again");
      await saveAdapter(decoder, "theirs", again, { baseModel: "Qwen/Qwen2.5-0.5B", dtype });
      expect(JSON.parse(await readFile(join(again, "adapter_config.json"), "utf8"))).toEqual({ ...peftFields, ...fields });
      const files = await Promise.all([place, again].map((one) => SafetensorsFile.open(join(one, "adapter_model.safetensors"))));
      expect([...files[1]!.tensors.keys()].sort()).toEqual([...files[0]!.tensors.keys()].sort());
      for (const name of files[0]!.tensors.keys()) expect(await files[1]!.read(name), name).toEqual(await files[0]!.read(name));
      await Promise.all(files.map((file) => file.close()));
    });

  it("may carry the adapter's own name inside the tensors' names", async () => {
    const tensors = new Map([...randomPairs(qwen2, all)].map(([name, tensor]) => [name.replace(".weight", ".default.weight"), tensor]));
    const decoder = tinyDecoder(qwen2, new ReferenceDevice());
    await loadAdapter(decoder, "a", await writeAdapter(await fresh(), tensors));
    const name = "base_model.model.model.layers.1.mlp.down_proj.lora_B";
    expect(await decoder.adapterParameters("a").get(`${name}.weight`)!.readFloats()).toEqual(tensors.get(`${name}.default.weight`)!.values);
    tensors.set(`${name}.other.weight`, tensors.get(`${name}.default.weight`)!);
    await expect(loadAdapter(decoder, "b", await writeAdapter(await fresh(), tensors))).rejects.toThrow(/more than one adapter/);
  });

  it("that lacks tensors, has others or wrong shapes is one error that names them all, and leaves the decoder as it was", async () => {
    const tensors = randomPairs(qwen2, all);
    const prefix = "base_model.model.model.layers.0";
    tensors.delete(`${prefix}.mlp.up_proj.lora_A.weight`);
    tensors.set("base_model.model.lm_head.lora_A.weight", { shape: [4, 24], values: new Float32Array(96) });
    tensors.set(`${prefix}.self_attn.q_proj.lora_A.weight`, { shape: [4, 32], values: new Float32Array(128) });
    const device = new ReferenceDevice();
    const decoder = tinyDecoder(qwen2, device);
    const before = liveTensors(device);
    const error: unknown = await loadAdapter(decoder, "a", await writeAdapter(await fresh(), tensors)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FileError);
    expect((error as Error).message).toMatch(/1 is missing: base_model.model.model.layers.0.mlp.up_proj.lora_A.weight/);
    expect((error as Error).message).toMatch(/1 is not known here: base_model.model.lm_head.lora_A.weight/);
    expect((error as Error).message).toMatch(/self_attn.q_proj.lora_A.weight: expected \[4, 24\], got \[4, 32\]/);
    expect((error as Error).message).toMatch(
      /made for "Qwen\/Qwen2.5-0.5B", with rank 4; this one is a Qwen2ForCausalLM of 2 layers, width 24/,
    );
    expect(liveTensors(device)).toEqual(before);
    expect(decoder.adapterNames).toEqual([]);
  });

  it("without tensors in safetensors is an error that says how to convert them", async () => {
    const decoder = tinyDecoder(qwen2, new ReferenceDevice());
    const place = await writeAdapter(await fresh(), randomPairs(qwen2, all));
    await rm(join(place, "adapter_model.safetensors"));
    await expect(loadAdapter(decoder, "a", place)).rejects.toThrow(/there are no weights; expected adapter_model.safetensors/);
    await writeFile(join(place, "adapter_model.bin"), "pickle");
    await expect(loadAdapter(decoder, "a", place)).rejects.toThrow(/pickle.*\n.*python3 -c .*save_file/);
    await expect(loadAdapter(decoder, "a", join(folder, "nowhere"))).rejects.toThrow(/adapter_config.json: cannot be read.*ENOENT/);
  });
});

describe("adapter_config.json", () => {
  const names = (targets: readonly string[], layers = [0, 1]): string[] =>
    layers.flatMap((layer) => targets.map((target) => `${layer}.${target}`));
  const attention = ["self_attn.q_proj", "self_attn.v_proj"];
  const listed: readonly [string, Readonly<Record<string, unknown>>, readonly string[]][] = [
    ["a list of names", { target_modules: ["v_proj", "q_proj"] }, names(attention)],
    ["names that this model lacks besides", { target_modules: ["q_proj", "v_proj", "c_attn"] }, names(attention)],
    [
      "a longer end of the name",
      { target_modules: ["self_attn.q_proj", "1.self_attn.v_proj"] },
      ["0.self_attn.q_proj", ...names(attention, [1])],
    ],
    ["not a part of a name", { target_modules: ["proj", "q_proj"] }, names(["self_attn.q_proj"])],
    ["all-linear", { target_modules: "all-linear" }, names(linearNames)],
    ["nothing: PEFT's own choice", { target_modules: null }, names(attention)],
    ["a pattern over whole names", { target_modules: String.raw`.*\.1\.self_attn\.(q|v)_proj` }, names(attention, [1])],
    [
      "a pattern as Unsloth writes it",
      { target_modules: String.raw`(?:.*?(?:self_attn|attention|attn).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.mlp\.none)` },
      names(attention),
    ],
    ["Python's way of naming groups", { target_modules: String.raw`model\.layers\.(?P<n>\d)\.self_attn\.[qv]_proj\Z` }, names(attention)],
    [
      "all but excluded ones",
      { target_modules: "all-linear", exclude_modules: ["o_proj", "k_proj", "gate_proj", "up_proj", "down_proj"] },
      names(attention),
    ],
    ["all but an excluded pattern", { target_modules: ["q_proj", "v_proj"], exclude_modules: ".*layers.0.*" }, names(attention, [1])],
    ["some layers", { target_modules: ["q_proj", "v_proj"], layers_to_transform: [1], layers_pattern: ["layers"] }, names(attention, [1])],
    ["one layer", { target_modules: ["q_proj", "v_proj"], layers_to_transform: 0 }, names(attention, [0])],
  ];
  for (const [what, fields, expected] of listed)
    it(`with target_modules as ${what} means those layers`, () => {
      expect(Object.keys(pairsOf(fields))).toEqual(expected);
    });

  it("gives each pair the rank and scale of the first pattern that fits the end of its name", () => {
    const fields = {
      target_modules: ["q_proj", "v_proj"],
      rank_pattern: { "layers.0.self_attn.q_proj": 2, "[qv]_proj": 8, q_proj: 16 },
      alpha_pattern: { v_proj: 20 },
    };
    expect(pairsOf(fields)).toEqual({
      "0.self_attn.q_proj": [2, 8 / 2],
      "0.self_attn.v_proj": [8, 20 / 8],
      "1.self_attn.q_proj": [8, 8 / 8],
      "1.self_attn.v_proj": [8, 20 / 8],
    });
    expect(pairsOf({ target_modules: ["v_proj"], use_rslora: true, rank_pattern: { "1.self_attn.v_proj": 9 } })).toEqual({
      "0.self_attn.v_proj": [4, 8 / 2],
      "1.self_attn.v_proj": [9, 8 / 3],
    });
  });

  const refused: readonly [string, unknown, RegExp][] = [
    ["peft_type", "ADALORA", /peft_type is wrong; expected "LORA".*got "ADALORA"/],
    ["peft_type", undefined, /peft_type is missing/],
    ["use_dora", true, /not supported: use_dora true/],
    ["modules_to_save", ["lm_head"], /not supported: modules_to_save \["lm_head"\]/],
    ["bias", "lora_only", /not supported: bias "lora_only"/],
    ["lora_bias", true, /not supported: lora_bias true/],
    ["fan_in_fan_out", true, /not supported: fan_in_fan_out true/],
    ["layer_replication", [[0, 1]], /not supported: layer_replication/],
    ["trainable_token_indices", [5], /not supported: trainable_token_indices/],
    ["target_parameters", ["experts"], /not supported: target_parameters/],
    ["alora_invocation_tokens", [1, 2], /not supported: alora_invocation_tokens/],
    ["init_lora_weights", "pissa_niter_16", /init_lora_weights "pissa_niter_16"(.|\n)*changes the base model/],
    ["init_lora_weights", "olora", /init_lora_weights "olora"/],
    ["init_lora_weights", "loftq", /init_lora_weights "loftq"/],
    ["layers_pattern", ["h"], /layers_pattern \["h"\]/],
    ["use_something_of_2030", { strength: 3 }, /not supported: use_something_of_2030 \{"strength":3\}/],
    ["r", 0, /r is wrong; expected a positive integer, got 0/],
    ["r", undefined, /r is missing/],
    ["lora_alpha", "16", /lora_alpha is wrong; expected a number, got "16"/],
    ["use_rslora", 1, /use_rslora is wrong; expected true or false/],
    ["target_modules", [3], /target_modules is wrong/],
    ["target_modules", ["lm_head", "q_proj"], /target_modules means lm_head, which cannot have an adapter here/],
    ["target_modules", ".*", /target_modules means model.embed_tokens and lm_head/],
    ["target_modules", ["c_attn"], /mean no linear layer of this model.*got \["c_attn"\]/],
    ["target_modules", "(q_proj", /target_modules has a pattern that cannot be read/],
    ["target_modules", "(?>q)_proj", /target_modules has a pattern that cannot be read/],
    ["target_modules", "(([a-z]|\\.|_|[0-9])*)*!", /the patterns of target_modules do not come to an end/],
    ["layers_to_transform", [-1], /layers_to_transform is wrong/],
    ["layers_to_transform", [7], /mean no linear layer of this model.*in layers 7/],
    ["rank_pattern", { q_proj: 1.5 }, /rank_pattern is wrong; expected an object from patterns of names to positive integers/],
    ["alpha_pattern", [1], /alpha_pattern is wrong/],
  ];
  for (const [field, value, message] of refused)
    it(`with ${field} ${JSON.stringify(value) ?? "missing"} is refused by name`, () => {
      expect(() => pairsOf({ [field]: value })).toThrow(message);
    });

  it("may have fields of later versions that are off", () => {
    const fields = { use_new: false, new_config: null, new_list: [], new_map: {}, new_name: "", new_count: 0 };
    expect(Object.keys(pairsOf(fields))).toHaveLength(14);
  });

  it("lists all features that are not supported at once, as a ConfigError", () => {
    const read = (): unknown => pairsOf({ use_dora: true, modules_to_save: ["embed_tokens"] });
    expect(read).toThrow(ConfigError);
    expect(read).toThrow(/modules_to_save \["embed_tokens"\], use_dora true/);
  });

  it("that is broken is a FileError with the place", async () => {
    const place = await fresh();
    for (const text of ["", "{", "[]", "3", '{"r": 1, "r": 2}', '{"r": 01}']) {
      await writeFile(join(place, "adapter_config.json"), text);
      await expect(readAdapterConfig(place), text).rejects.toThrow(FileError);
    }
  });

  it("whatever stands in it gives pairs that can be made, or an error in words", () => {
    const value = fc.oneof(
      fc.constantFrom<unknown>(
        null,
        true,
        false,
        0,
        1,
        2,
        -1,
        0.5,
        1e300,
        "",
        "none",
        "q_proj",
        "all-linear",
        "layers",
        "eva",
        "pissa",
        "(",
        "[]",
        [],
        {},
        [0],
        ["q_proj"],
        { q_proj: 2 },
        { "(": 3 },
      ),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(peftFields)), value, { maxKeys: 4 }), (fields) => {
        try {
          const pairs = Object.values(pairsOf(fields));
          expect(pairs.length).toBeGreaterThan(0);
          for (const [rank, scale] of pairs) expect(Number.isInteger(rank) && rank > 0 && Number.isFinite(scale)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(ZeroSearchError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
