import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDecoder, loadTensors, loadWeights, saveDecoder, saveTensors } from "../../src/checkpoint/hugging-face.ts";
import { SafetensorsFile, writeSafetensors, type TensorSource } from "../../src/checkpoint/safetensors.ts";
import { toHuggingFace, type DecoderConfig } from "../../src/nn/config.ts";
import { fromHost, liveTensors } from "../../src/tensor/tensor.ts";
import { toElements } from "../../src/tensor/dtype.ts";
import { FileError } from "../../src/util/errors.ts";
import { hasGolden, modelFolder } from "../helpers/golden.ts";
import { tinyConfigs, tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "hugging-face-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** A saved folder of a tiny model whose tensors were changed by `change` first. */
async function altered(
  config: DecoderConfig,
  change: (tensors: Map<string, { shape: readonly number[]; values: Float32Array }>) => void,
): Promise<string> {
  const path = await mkdtemp(join(folder, "altered-"));
  const tensors = new Map(
    [...tinyWeights(config)].map(([name, values]) => {
      const decoder = tinyShapes(config).get(name)!;
      return [name, { shape: decoder, values }];
    }),
  );
  change(tensors);
  await writeFile(join(path, "config.json"), JSON.stringify(toHuggingFace(config)));
  await writeSafetensors(
    join(path, "model.safetensors"),
    [...tensors].map(([name, { shape, values }]): TensorSource => ({
      name,
      shape,
      dtype: "f32",
      sourceDtype: "f32",
      read: (row, rows) =>
        Promise.resolve(
          values.subarray(
            (row * values.length) / (shape.length < 2 ? 1 : shape[0]!),
            ((row + rows) * values.length) / (shape.length < 2 ? 1 : shape[0]!),
          ),
        ),
    })),
  );
  return path;
}

function tinyShapes(config: DecoderConfig): Map<string, readonly number[]> {
  const device = new ReferenceDevice();
  return new Map([...tinyDecoder(config, device).parameters()].map(([name, parameter]) => [name, parameter.shape]));
}

describe("a Hugging Face folder", () => {
  for (const [name, config] of Object.entries(tinyConfigs)) {
    it(`of a ${name} model is saved and loaded again bit for bit in f32`, async () => {
      const device = new ReferenceDevice();
      const path = join(folder, name);
      const decoder = tinyDecoder(config, device);
      await saveDecoder(decoder, path);
      const again = await loadDecoder(path, device);
      expect(again.config).toEqual({ ...config, extra: { ...config.extra, torch_dtype: "float32" } });
      for (const [key, parameter] of decoder.parameters())
        expect(await again.parameters().get(key)!.read(), key).toEqual(await parameter.read());
    });
  }

  it("holds bf16 bits exactly: read as f32 and written back as bf16 it is the same file", async () => {
    const device = new ReferenceDevice();
    const [first, second] = [join(folder, "bf16-a"), join(folder, "bf16-b")];
    await saveDecoder(tinyDecoder(tinyConfigs.qwen2, device), first, { dtype: "bf16" });
    await saveDecoder(await loadDecoder(first, device), second, { dtype: "bf16" });
    for (const file of ["model.safetensors", "config.json"])
      expect(await readFile(join(second, file))).toEqual(await readFile(join(first, file)));
    const frozen = await loadDecoder(first, device, { dtype: "bf16" });
    const original = tinyWeights(tinyConfigs.qwen2).get("model.norm.weight")!;
    expect(await frozen.parameters().get("model.norm.weight")!.read()).toEqual(toElements(original, "bf16"));
    expect(frozen.headWeight.requiresGrad).toBe(false);
  });

  it("may be in shards listed by an index", async () => {
    const device = new ReferenceDevice();
    const config = tinyConfigs.llama;
    const whole = join(folder, "whole");
    await saveDecoder(tinyDecoder(config, device), whole);
    const sharded = await mkdtemp(join(folder, "sharded-"));
    await copyFile(join(whole, "config.json"), join(sharded, "config.json"));
    const file = await SafetensorsFile.open(join(whole, "model.safetensors"));
    const names = [...file.tensors.keys()];
    const map: Record<string, string> = {};
    for (const [i, part] of [names.slice(0, 5), names.slice(5)].entries()) {
      const shard = `model-0000${i + 1}-of-00002.safetensors`;
      for (const key of part) map[key] = shard;
      await writeSafetensors(
        join(sharded, shard),
        part.map((key): TensorSource => {
          const { shape } = file.tensors.get(key)!;
          const cols = shape.length < 2 ? shape[0]! : shape[1]!;
          return {
            name: key,
            shape,
            dtype: "f32",
            sourceDtype: "f32",
            read: async (row, rows) => (await file.read(key, row * cols, rows * cols)) as Float32Array,
          };
        }),
      );
    }
    await file.close();
    const index = join(sharded, "model.safetensors.index.json");
    await writeFile(index, JSON.stringify({ weight_map: map }));
    const again = await loadDecoder(sharded, device);
    expect(await again.headWeight.read()).toEqual(tinyWeights(config).get("lm_head.weight"));
    await writeFile(
      index,
      JSON.stringify({
        weight_map: {
          ...map,
          "lm_head.weight":
            map[names[0]!] === map["lm_head.weight"] ? "model-00002-of-00002.safetensors" : "model-00001-of-00002.safetensors",
        },
      }),
    );
    await expect(loadDecoder(sharded, device)).rejects.toThrow(/model-0000.*: tensor "lm_head.weight" is missing/);
    await writeFile(index, JSON.stringify({ weight_map: 3 }));
    await expect(loadDecoder(sharded, device)).rejects.toThrow(/weight_map is missing or wrong/);
  });

  it("with a tied head may repeat it; an untied one must have it", async () => {
    const device = new ReferenceDevice();
    const tied = await altered(tinyConfigs.qwen2, (tensors) => tensors.set("lm_head.weight", tensors.get("model.embed_tokens.weight")!));
    expect((await loadDecoder(tied, device)).headWeight.name).toBe("model.embed_tokens.weight");
    const untied = await altered(tinyConfigs.llama, (tensors) => tensors.delete("lm_head.weight"));
    await expect(loadDecoder(untied, device)).rejects.toThrow(/1 of 35 tensors are missing; expected lm_head.weight/);
  });

  it("names missing, unexpected and mis-shaped tensors, and leaves nothing on the device", async () => {
    const device = new ReferenceDevice();
    const config = tinyConfigs.qwen3;
    const key = "model.layers.1.mlp.up_proj.weight";
    const missing = await altered(config, (tensors) => tensors.delete(key));
    await expect(loadDecoder(missing, device)).rejects.toThrow(new RegExp(`1 of 24 tensors are missing; expected ${key}`));
    const unexpected = await altered(config, (tensors) =>
      tensors.set("model.layers.1.self_attn.q_proj.bias", { shape: [3], values: new Float32Array(3) }),
    );
    await expect(loadDecoder(unexpected, device)).rejects.toThrow(
      /1 tensors belong to no parameter of this model: model.layers.1.self_attn.q_proj.bias/,
    );
    const turned = await altered(config, (tensors) => tensors.set(key, { shape: [24, 37], values: tensors.get(key)!.values }));
    await expect(loadDecoder(turned, device)).rejects.toThrow(
      new RegExp(`tensor "${key}" has the wrong shape; expected \\[37, 24\\], got \\[24, 37\\]`),
    );
    expect(liveTensors(device).tensors).toBe(0);
  });

  it("without config.json, with broken JSON or without weights is one clear error", async () => {
    const device = new ReferenceDevice();
    const path = await mkdtemp(join(folder, "broken-"));
    await expect(loadDecoder(path, device)).rejects.toThrow(/config.json: cannot be read; expected a model's config.json, got ENOENT/);
    await writeFile(join(path, "config.json"), "{ not json");
    await expect(loadDecoder(path, device)).rejects.toThrow(/config.json: not JSON/);
    await writeFile(join(path, "config.json"), JSON.stringify(toHuggingFace(tinyConfigs.llama)));
    await expect(loadDecoder(path, device)).rejects.toThrow(/model.safetensors: cannot be opened/);
    expect(liveTensors(device).tensors).toBe(0);
  });

  it.skipIf(!hasGolden)("that others made is loaded, and saved as the same tensors (needs ../shared/data)", async () => {
    const device = new ReferenceDevice();
    const decoder = await loadDecoder(modelFolder("stories260K-hf"), device);
    const path = join(folder, "stories");
    await saveDecoder(decoder, path);
    const [ours, theirs] = [
      await SafetensorsFile.open(join(path, "model.safetensors")),
      await SafetensorsFile.open(join(modelFolder("stories260K-hf"), "model.safetensors")),
    ];
    expect([...ours.tensors.keys()].sort()).toEqual([...theirs.tensors.keys()].sort());
    for (const [name, { dtype, shape }] of theirs.tensors) {
      expect(ours.tensors.get(name)).toMatchObject({ dtype, shape });
      expect(await ours.read(name)).toEqual(await theirs.read(name));
    }
    await ours.close();
    await theirs.close();
  });

  it("keeps other tensors too: what is saved by name comes back, and a stranger is refused", async () => {
    const device = new ReferenceDevice();
    const state = new Map([
      ["m.x", fromHost(device, [1, 2, 3], [3])],
      ["v.x", fromHost(device, [4, 5, 6, 7], [2, 2])],
    ]);
    const path = join(folder, "state.safetensors");
    await saveTensors(path, state, { metadata: { step: "3" } });
    const into = new Map([
      ["m.x", fromHost(device, [0, 0, 0], [3])],
      ["v.x", fromHost(device, [0, 0, 0, 0], [2, 2])],
    ]);
    expect((await loadTensors(path, into))["step"]).toBe("3");
    expect(await into.get("v.x")!.readFloats()).toEqual(Float32Array.of(4, 5, 6, 7));
    await expect(loadTensors(path, new Map([["m.x", into.get("m.x")!]]))).rejects.toThrow(FileError);
  });

  it("refuses weights of another model without touching the decoder's", async () => {
    const device = new ReferenceDevice();
    const path = join(folder, "other");
    await saveDecoder(tinyDecoder(tinyConfigs.llama, device), path);
    const decoder = tinyDecoder(tinyConfigs.qwen3, device);
    const before = await decoder.headWeight.read();
    await expect(loadWeights(decoder, path)).rejects.toThrow(FileError);
    expect(await decoder.headWeight.read()).toEqual(before);
  });
});
