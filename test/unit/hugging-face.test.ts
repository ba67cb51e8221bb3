import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDecoder, loadTensors, loadWeights } from "../../src/checkpoint/load-model.ts";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { saveTensors } from "../../src/checkpoint/save-tensors.ts";
import { SafetensorsFile } from "../../src/checkpoint/safetensors.ts";
import { writeSafetensors, type TensorSource } from "../../src/checkpoint/safetensors-write.ts";
import { toHuggingFace, type DecoderConfig } from "../../src/nn/config.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { toElements, toFloats } from "../../src/tensor/dtype.ts";
import { FileError } from "../../src/util/errors.ts";
import { hasGolden, modelFolder } from "../helpers/golden.ts";
import { tinyConfigs, tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { liveTensors } from "../helpers/live-tensors.ts";

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
      await saveModelFolder(decoder, path);
      const again = await loadDecoder(path, device);
      expect(again.config).toEqual({ ...config, extra: { ...config.extra, torch_dtype: "float32" } });
      for (const [key, parameter] of decoder.parameters())
        expect(await again.parameters().get(key)!.read(), key).toEqual(await parameter.read());
    });
  }

  it("holds bf16 bits exactly: read as f32 and written back as bf16 it is the same file", async () => {
    const device = new ReferenceDevice();
    const [first, second] = [join(folder, "bf16-a"), join(folder, "bf16-b")];
    await saveModelFolder(tinyDecoder(tinyConfigs.qwen2, device), first, { dtype: "bf16" });
    await saveModelFolder(await loadDecoder(first, device), second, { dtype: "bf16" });
    for (const file of ["model.safetensors", "config.json"])
      expect(await readFile(join(second, file))).toEqual(await readFile(join(first, file)));
    const frozen = await loadDecoder(first, device, { dtype: "bf16" });
    const original = tinyWeights(tinyConfigs.qwen2).get("model.norm.weight")!;
    expect(await frozen.parameters().get("model.norm.weight")!.read()).toEqual(toElements(original, "bf16"));
    expect(frozen.headWeight.requiresGrad).toBe(false);
  });

  it("may be in shards listed by an index; one that lies, or lacks a file, is told in full", async () => {
    const device = new ReferenceDevice();
    const config = tinyConfigs.llama;
    const sharded = join(folder, "sharded");
    await saveModelFolder(tinyDecoder(config, device), sharded, { maxShardBytes: 20_000 });
    const again = await loadDecoder(sharded, device);
    expect(await again.headWeight.read()).toEqual(tinyWeights(config).get("lm_head.weight"));
    const index = join(sharded, "model.safetensors.index.json");
    const { weight_map: map } = JSON.parse(await readFile(index, "utf8")) as { weight_map: Record<string, string> };
    expect(new Set(Object.values(map)).size).toBe(4);
    const refused = async (weightMap: unknown): Promise<string> => {
      await writeFile(index, JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));
      return loadDecoder(sharded, device).then(
        () => "",
        (error: unknown) => (error instanceof FileError ? error.message : ""),
      );
    };
    expect(await refused({ ...map, "lm_head.weight": map["model.embed_tokens.weight"] })).toMatch(
      /1 is missing: lm_head\.weight \(the index says model-00001-of-00004\.safetensors, where it is not\)/,
    );
    for (const name of ["../outside.safetensors", "/etc/passwd", "a\\\\b.safetensors", "..", "", "a\0.safetensors", 3, null])
      expect(await refused({ ...map, "lm_head.weight": name })).toMatch(/weight_map names no file of this folder for "lm_head\.weight"/);
    for (const wrong of [3, null, ["model-00001-of-00004.safetensors"]])
      expect(await refused(wrong)).toMatch(/weight_map is missing or wrong/);
    await writeFile(index, '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}');
    await expect(loadDecoder(sharded, device)).rejects.toThrow(/the name "a" comes twice/);
    await rename(join(sharded, "model-00002-of-00004.safetensors"), join(sharded, "away"));
    expect(await refused(map)).toMatch(
      /sharded: 1 of 4 weight files are missing, with \d+ of 35 tensors; expected model-00002-of-00004\.safetensors\n.*index\.json names them/,
    );
  });

  it("with a tied head may repeat it; an untied one must have it", async () => {
    const device = new ReferenceDevice();
    const tied = await altered(tinyConfigs.qwen2, (tensors) => tensors.set("lm_head.weight", tensors.get("model.embed_tokens.weight")!));
    expect((await loadDecoder(tied, device)).headWeight.name).toBe("model.embed_tokens.weight");
    const untied = await altered(tinyConfigs.llama, (tensors) => tensors.delete("lm_head.weight"));
    await expect(loadDecoder(untied, device)).rejects.toThrow(/not the 35 that are needed\n {2}1 is missing: lm_head.weight\n/);
  });

  it("that fits badly is told of in one error: what is missing, unexpected, of another shape and of another type; the device gives no memory", async () => {
    const device = new ReferenceDevice();
    const config = tinyConfigs.qwen3;
    const key = (name: string): string => `model.layers.1.mlp.${name}_proj.weight`;
    const path = await altered(config, (tensors) => {
      tensors.delete(key("up"));
      tensors.set(key("gate"), { shape: [24, 37], values: tensors.get(key("gate"))!.values });
      for (let i = 0; i < 14; i++) tensors.set(`stranger.${i}`, { shape: [3], values: new Float32Array(3) });
      // What old checkpoints carry besides.
      tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", { shape: [4], values: new Float32Array(4) });
    });
    const file = join(path, "model.safetensors");
    // As many bytes under another name of the type.
    const bytes = await readFile(file);
    const norm = bytes.indexOf('"model.norm.weight"');
    bytes.write("I32", bytes.indexOf("F32", norm));
    await writeFile(file, bytes);
    const error: unknown = await loadDecoder(path, device).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(FileError);
    expect((error as Error).message.split("\n").slice(0, -1)).toEqual([
      `${path}: the tensors are not the 24 that are needed`,
      `  1 is missing: ${key("up")}`,
      `  14 are not known here: ${Array.from({ length: 12 }, (_, i) => `stranger.${i}`).join(", ")}, and 2 more`,
      `  1 has another shape: ${key("gate")}: expected [37, 24], got [24, 37]`,
      "  1 is of another type: model.norm.weight: expected F32, F16 or BF16, got I32",
    ]);
    expect((error as Error).message).toMatch(/\n {2}config.json and weights do not fit together/);
    expect(liveTensors(device).tensors).toBe(0);
    expect(device.memory().peak).toBe(0);
  });

  it("without config.json, with broken JSON or without weights is one clear error", async () => {
    const device = new ReferenceDevice();
    const path = await mkdtemp(join(folder, "broken-"));
    await expect(loadDecoder(path, device)).rejects.toThrow(/config.json: cannot be read; expected a model's config.json, got ENOENT/);
    await writeFile(join(path, "config.json"), "{ not json");
    await expect(loadDecoder(path, device)).rejects.toThrow(/config.json: it is not JSON, at character 2/);
    await writeFile(join(path, "config.json"), '{"hidden_size": 8, "hidden_size": 16}');
    await expect(loadDecoder(path, device)).rejects.toThrow(/config.json: .*the name "hidden_size" comes twice/);
    await writeFile(join(path, "config.json"), JSON.stringify(toHuggingFace(tinyConfigs.llama)));
    await expect(loadDecoder(path, device)).rejects.toThrow(/there are no weights; expected model.safetensors, or model.safetensors.index/);
    await writeFile(join(path, "pytorch_model.bin"), "");
    await expect(loadDecoder(path, device)).rejects.toThrow(/there are no weights; .*, got pytorch_model.bin\n {2}convert them/);
    expect(liveTensors(device).tensors).toBe(0);
  });

  it.skipIf(!hasGolden)("that others made is loaded, and saved as the same tensors (needs ../shared/data)", async () => {
    const device = new ReferenceDevice();
    const decoder = await loadDecoder(modelFolder("stories260K-hf"), device);
    const path = join(folder, "stories");
    await saveModelFolder(decoder, path);
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

  it("keeps whole numbers as they are", async () => {
    const device = new ReferenceDevice();
    const path = join(folder, "codes.safetensors");
    const codes = Uint32Array.of(0, 1, 0xffffffff, 0x80000000, 7, 8);
    await saveTensors(path, new Map([["codes", fromHost(device, codes, [3, 2])]]));
    const into = fromHost(device, new Uint32Array(6), [3, 2]);
    await loadTensors(path, new Map([["codes", into]]));
    expect(await into.read()).toEqual(codes);
    await expect(loadTensors(path, new Map([["codes", fromHost(device, new Float32Array(6), [3, 2])]]))).rejects.toThrow(
      /1 is of another type: codes: expected F32, F16 or BF16, got U32/,
    );
    await expect(saveTensors(path, new Map([["codes", into]]), { dtype: "f16" })).rejects.toThrow(/it holds whole numbers/);
  });

  it("takes any float type into any, to nearest even where it is narrower", async () => {
    const device = new ReferenceDevice();
    const values = Float32Array.from({ length: 6 }, (_, i) => (i - 2.5) * 1.00390625);
    for (const from of ["f32", "f16", "bf16"] as const)
      for (const to of ["f32", "f16", "bf16"] as const) {
        const path = join(folder, "any.safetensors");
        await saveTensors(path, new Map([["x", fromHost(device, values, [2, 3])]]), { dtype: from });
        const x = fromHost(device, new Float32Array(6), [2, 3], { dtype: to });
        await loadTensors(path, new Map([["x", x]]));
        expect(await x.read(), `${from} to ${to}`).toEqual(toElements(toFloats(toElements(values, from), from), to));
      }
  });

  it("refuses weights of another model without touching the decoder's", async () => {
    const device = new ReferenceDevice();
    const path = join(folder, "other");
    await saveModelFolder(tinyDecoder(tinyConfigs.llama, device), path);
    const decoder = tinyDecoder(tinyConfigs.qwen3, device);
    const before = await decoder.headWeight.read();
    await expect(loadWeights(decoder, path)).rejects.toThrow(FileError);
    expect(await decoder.headWeight.read()).toEqual(before);
  });
});
