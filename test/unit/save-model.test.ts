import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { SafetensorsFile } from "../../src/checkpoint/safetensors.ts";
import { fromHuggingFace, type DecoderConfig } from "../../src/nn/config.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { toElements } from "../../src/tensor/dtype.ts";
import { ConfigError, FileError, ZeroSearchError } from "../../src/util/errors.ts";
import { tinyConfigs, tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "save-model-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** As others write it: odd spaces, floats that JavaScript would print otherwise, fields nobody here knows. */
const configText = `{
  "architectures": ["Qwen3ForCausalLM"],
  "_name_or_path" : "somebody/model",
  "hidden_size": 24, "intermediate_size": 37,
    "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "head_dim": 8,
  "vocab_size": 41,
  "max_position_embeddings": 256,
  "rms_norm_eps": 1e-05,
  "rope_theta": 1000.0,
  "attention_dropout": 0.0,
  "initializer_range": 2E-2,
  "model_type": "qwen3",
  "tie_word_embeddings": true,
  "torch_dtype": "float32",
  "text": "a \\"torch_dtype\\": \\u00e9",
  "transformers_version": "4.51.0"
}`;

/** Files of a model's folder, what they hold, and whether a model that is saved has them. */
const companions: Readonly<Record<string, string>> = {
  "generation_config.json": '{"eos_token_id": [1, 2],   "temperature": 0.60}\r\n',
  "tokenizer.json": "{ }",
  "tokenizer_config.json": '{"chat_template": "{{ x }}"}',
  "special_tokens_map.json": "{}\n",
  "added_tokens.json": "{}",
  "vocab.json": "\ufeff{}",
  "merges.txt": "a b\n",
  "chat_template.jinja": "{{ messages }}",
  "tokenizer.model": "\0\u0001",
  LICENSE: "Apache",
  NOTICE: "Built with",
  "USE_POLICY.md": "be kind",
};

async function original(): Promise<string> {
  const from = await mkdtemp(join(folder, "original-"));
  const decoder = tinyDecoder(tinyConfigs.qwen3, new ReferenceDevice());
  await saveModelFolder(decoder, from);
  await writeFile(join(from, "config.json"), configText);
  for (const [name, text] of Object.entries(companions)) await writeFile(join(from, name), text);
  await mkdir(join(from, "additional_chat_templates"));
  await writeFile(join(from, "additional_chat_templates", "tools.jinja"), "{{ tools }}");
  return from;
}

const fieldsOf = async (place: string): Promise<Record<string, unknown>> => JSON.parse(await readFile(join(place, "config.json"), "utf8"));

describe("saveModelFolder", () => {
  it("leaves of the original all but the type of the weights, byte for byte, links followed; of its README nothing", async () => {
    const from = await original();
    await writeFile(join(from, "README.md"), "of the original");
    await writeFile(join(from, "pytorch_model.bin"), "old");
    await writeFile(join(folder, "blob"), "linked");
    await rm(join(from, "merges.txt"));
    await symlink(join(folder, "blob"), join(from, "merges.txt"));
    const device = new ReferenceDevice();
    const decoder = await loadDecoder(from, device);
    const place = join(folder, "exported");
    await saveModelFolder(decoder, place, { from, dtype: "bf16" });
    expect(await readFile(join(place, "config.json"), "utf8")).toBe(configText.replace('"float32"', '"bfloat16"'));
    for (const [name, text] of Object.entries(companions))
      expect(await readFile(join(place, name), "utf8"), name).toBe(name === "merges.txt" ? "linked" : text);
    expect(await readFile(join(place, "additional_chat_templates", "tools.jinja"), "utf8")).toBe("{{ tools }}");
    expect((await readdir(place)).sort()).toEqual(
      [...Object.keys(companions), "additional_chat_templates", "config.json", "model.safetensors"].sort(),
    );
    const again = await loadDecoder(place, device, { dtype: "bf16" });
    for (const [name, values] of tinyWeights(tinyConfigs.qwen3))
      expect(await again.parameters().get(name)!.read(), name).toEqual(toElements(values, "bf16"));
  });

  it("writes the type where transformers 5 has it, and adds it where nobody does", async () => {
    const device = new ReferenceDevice();
    for (const [field, expected] of [
      ['"dtype": "float32"', { dtype: "float16", torch_dtype: undefined }],
      ['"dtype": null, "torch_dtype": "bfloat16"', { dtype: "float16", torch_dtype: "float16" }],
      ['"no": 1', { dtype: undefined, torch_dtype: "float16" }],
    ] as const) {
      const from = await original();
      await writeFile(join(from, "config.json"), configText.replace('"torch_dtype": "float32"', field));
      await saveModelFolder(await loadDecoder(from, device), join(folder, "typed"), { from, dtype: "f16" });
      const fields = await fieldsOf(join(folder, "typed"));
      expect({ dtype: fields["dtype"], torch_dtype: fields["torch_dtype"] }).toEqual(expected);
    }
  });

  it("writes what else differs, and nothing of another model", async () => {
    const from = await original();
    const device = new ReferenceDevice();
    const { qwen3 } = tinyConfigs;
    const changed: DecoderConfig = { ...qwen3, ropeTheta: 5e5, maxPositions: 512, ropeScaling: { type: "linear", factor: 2 } };
    const place = join(folder, "changed");
    await saveModelFolder(tinyDecoder(changed, device), place, { from });
    const before = JSON.parse(configText) as Record<string, unknown>;
    const rope = { rope_theta: 500000, rope_scaling: { rope_type: "linear", factor: 2 } };
    expect(await fieldsOf(place)).toEqual({ ...before, ...rope, max_position_embeddings: 512 });
    // The fields of transformers 5.
    await writeFile(join(from, "config.json"), configText.replace('"rope_theta": 1000.0', '"rope_parameters": {"rope_theta": 1000.0}'));
    await saveModelFolder(tinyDecoder(changed, device), place, { from });
    expect((await fieldsOf(place))["rope_parameters"]).toEqual({ rope_type: "linear", factor: 2, rope_theta: 500000 });
    expect((await loadDecoder(place, device)).config).toEqual({ ...changed, extra: (await loadDecoder(place, device)).config.extra });
    const saving = saveModelFolder(tinyDecoder(tinyConfigs.qwen2, device), place, { from });
    await expect(saving).rejects.toThrow(
      /original-.*config.json: model_type is not that of the model to be saved; expected "qwen2", got "qwen3"/,
    );
    await expect(saving).rejects.toThrow(ConfigError);
  });

  it("replaces the folder that the model came from, whatever shards it had, and keeps its README", async () => {
    const from = await original();
    await writeFile(join(from, "README.md"), "mine");
    const device = new ReferenceDevice();
    const decoder = await loadDecoder(from, device);
    await saveModelFolder(decoder, from, { from, maxShardBytes: 8000 });
    expect((await readdir(from)).filter((name) => name.startsWith("model")).length).toBeGreaterThan(3);
    await saveModelFolder(await loadDecoder(from, device), from, { from, dtype: "f16" });
    expect((await readdir(from)).filter((name) => name.startsWith("model"))).toEqual(["model.safetensors"]);
    expect(await readFile(join(from, "README.md"), "utf8")).toBe("mine");
    expect((await readdir(folder)).filter((name) => name.startsWith(".tmp"))).toEqual([]);
    const again = await loadDecoder(from, device);
    expect(await again.headWeight.read()).toEqual(
      Float32Array.from(await (await loadDecoder(from, device, { dtype: "f16" })).headWeight.readFloats()),
    );
  });

  it("keeps the tokenizer of a folder that it replaces without an original", async () => {
    const from = await original();
    await saveModelFolder(tinyDecoder(tinyConfigs.qwen3, new ReferenceDevice()), from, { dtype: "bf16" });
    for (const [name, text] of Object.entries(companions)) expect(await readFile(join(from, name), "utf8"), name).toBe(text);
  });

  it("puts tensors in files of at most so many bytes, a larger one alone, with the index that transformers reads", async () => {
    const place = join(folder, "shards");
    const decoder = tinyDecoder(tinyConfigs.llama, new ReferenceDevice());
    // The embedding and the head take 3936 bytes, up_proj 3552, down_proj and gate_proj too, q_proj 4608.
    await saveModelFolder(decoder, place, { maxShardBytes: 4000 });
    const index = JSON.parse(await readFile(join(place, "model.safetensors.index.json"), "utf8")) as {
      metadata: { total_size: number };
      weight_map: Record<string, string>;
    };
    const names = [...decoder.parameters().keys()];
    expect(Object.keys(index.weight_map)).toEqual([...names].sort());
    const files = (await readdir(place)).filter((name) => name.endsWith(".safetensors")).sort();
    expect(new Set(Object.values(index.weight_map))).toEqual(new Set(files));
    const count = String(files.length).padStart(5, "0");
    expect(files).toEqual(files.map((_, i) => `model-${String(i + 1).padStart(5, "0")}-of-${count}.safetensors`));
    let total = 0;
    for (const name of files) {
      const file = await SafetensorsFile.open(join(place, name));
      expect({ ...file.metadata }).toEqual({ format: "pt" });
      const bytes = [...file.tensors.values()].reduce((sum, { start, end }) => sum + end - start, 0);
      expect(bytes <= 4000 || file.tensors.size === 1, `${name}: ${bytes}`).toBe(true);
      for (const tensor of file.tensors.keys()) expect(index.weight_map[tensor]).toBe(name);
      total += bytes;
      await file.close();
    }
    expect(index.metadata.total_size).toBe(total);
    expect(total).toBe(4 * names.reduce((sum, name) => sum + decoder.parameters().get(name)!.size, 0));
    await expect(saveModelFolder(decoder, place, { maxShardBytes: 0 })).rejects.toThrow(ConfigError);
  });

  it("refuses weights that are not finite or that the type cannot hold, names them, and leaves what was there", async () => {
    const device = new ReferenceDevice();
    const place = join(folder, "refused");
    const decoder = tinyDecoder(tinyConfigs.qwen2, device);
    await saveModelFolder(decoder, place);
    const before = await readFile(join(place, "model.safetensors"));
    const up = decoder.parameters().get("model.layers.1.mlp.up_proj.weight")!;
    const norm = decoder.parameters().get("model.norm.weight")!;
    const attempt = async (tensor: typeof up, index: number, value: number, dtype: "f32" | "f16" | "bf16"): Promise<string> => {
      const values = await tensor.readFloats();
      const changed = values.slice();
      changed[index] = value;
      tensor.write(changed);
      const error: unknown = await saveModelFolder(decoder, place, { dtype }).catch((cause: unknown) => cause);
      tensor.write(values);
      if (error === undefined) return "saved";
      expect(before.equals(await readFile(join(place, "model.safetensors")))).toBe(true);
      return error instanceof ZeroSearchError ? error.message : "";
    };
    expect(await attempt(up, 24 * 3 + 5, 65520, "f16")).toMatch(
      /saving "model.layers.1.mlp.up_proj.weight": a number is too large for F16; expected at most 65504 in size, got 65520 at \[3, 5\]\n {2}save as bf16 or f32/,
    );
    expect(await attempt(up, 0, -3.4e38, "bf16")).toMatch(
      /too large for BF16; expected at most 3.39e38 in size, got -3\.\d+e\+38 at \[0, 0\]/,
    );
    expect(await attempt(norm, 7, NaN, "bf16")).toMatch(/saving "model.norm.weight": the weights are not finite; got NaN at \[7\]/);
    expect(await attempt(up, 1, -Infinity, "f32")).toMatch(/the weights are not finite; got -Infinity at \[0, 1\]/);
    expect(await attempt(up, 1, 65519, "f32")).toBe("saved");
  });

  it("replaces no folder that holds something else, and no file", async () => {
    const device = new ReferenceDevice();
    const decoder = new Decoder(tinyConfigs.qwen2, device);
    const place = await mkdtemp(join(folder, "precious-"));
    await writeFile(join(place, "thesis.tex"), "x");
    await writeFile(join(place, "adapter_model.safetensors"), "x");
    await expect(saveModelFolder(decoder, place)).rejects.toThrow(
      /precious-.*: will not be replaced; .* got adapter_model.safetensors, thesis.tex/,
    );
    await expect(saveModelFolder(decoder, join(place, "thesis.tex"))).rejects.toThrow(FileError);
    expect((await readdir(place)).sort()).toEqual(["adapter_model.safetensors", "thesis.tex"]);
  });

  it("leaves the old folder and nothing else when the device fails in the middle", async () => {
    const device = new ReferenceDevice();
    const from = await original();
    const decoder = await loadDecoder(from, device);
    const before = await readdir(from);
    const read = device.read.bind(device);
    let reads = 0;
    device.read = (...args) => (++reads === 9 ? Promise.reject(new Error("device lost")) : read(...args));
    await expect(saveModelFolder(decoder, from, { from })).rejects.toThrow("device lost");
    expect(await readdir(from)).toEqual(before);
    expect((await readdir(folder)).filter((name) => name.startsWith(".tmp"))).toEqual([]);
  });

  it("makes a config.json that says what the decoder is, with factors that Python reads as floats", async () => {
    const device = new ReferenceDevice();
    const config = fromHuggingFace({
      ...(JSON.parse(configText) as object),
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      rope_theta: 500000,
      rope_scaling: {
        rope_type: "llama3",
        factor: 32,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
    });
    const place = join(folder, "anew");
    await saveModelFolder(tinyDecoder(config, device), place, { dtype: "bf16" });
    const text = await readFile(join(place, "config.json"), "utf8");
    for (const line of ['"factor": 32.0', '"low_freq_factor": 1.0', '"original_max_position_embeddings": 8192', '"hidden_size": 24'])
      expect(text).toMatch(new RegExp(`^ *${line.replaceAll(".", "\\.")},?$`, "m"));
    const again = await loadDecoder(place, device);
    expect(again.config).toEqual({ ...config, extra: { ...config.extra, torch_dtype: "bfloat16" } });
  });

  it("says of YaRN what is not usual, so that it reads back to the same", async () => {
    const device = new ReferenceDevice();
    const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 };
    for (const fields of [yarn, { ...yarn, attention_factor: 2, beta_fast: 16, beta_slow: 0.5, truncate: false }]) {
      const config = fromHuggingFace({ ...(JSON.parse(configText) as object), rope_scaling: fields });
      const place = join(folder, "yarn");
      await saveModelFolder(tinyDecoder(config, device), place);
      expect((await fieldsOf(place))["rope_scaling"]).toEqual(fields);
      expect((await loadDecoder(place, device)).config).toEqual(config);
      expect(await readFile(join(place, "config.json"), "utf8")).toContain('"factor": 4.0');
    }
  });

  it("changes RoPE in the field that transformers 5 reads, where the original has both", async () => {
    const from = await original();
    const both = '"rope_parameters": {"rope_theta": 1.0}, "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 1000.0';
    await writeFile(join(from, "config.json"), configText.replace('"rope_theta": 1000.0', both));
    const device = new ReferenceDevice();
    const changed: DecoderConfig = { ...(await loadDecoder(from, device)).config, ropeTheta: 5e5, ropeScaling: { type: "default" } };
    await saveModelFolder(tinyDecoder(changed, device), join(folder, "both"), { from });
    expect((await loadDecoder(join(folder, "both"), device)).config).toEqual(changed);
  });
});
