/**
 * Models of real sizes with random weights, through what users do with them: load, train, export in shards, load again. The export is
 * the model: its logits are the trained ones, bit for bit.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { loadAdapter, saveAdapter } from "../../src/checkpoint/peft.ts";
import type { Device } from "../../src/device/device.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { Decoder } from "../../src/nn/decoder.ts";
import { crossEntropy } from "../../src/ops/cross-entropy.ts";
import { AdamW, decayGroups } from "../../src/optim/adamw.ts";
import { fineTuneStep } from "../../src/sft/fine-tune.ts";
import { backward } from "../../src/tensor/backward.ts";
import { keep, withScope } from "../../src/tensor/scope.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, full } from "../../src/tensor/tensor.ts";
import { testDevice, withDevice } from "../helpers/device.ts";
import { randomIds } from "../helpers/tiny-model.ts";
import { qwen05B, smol135M, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "real-shapes-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** Small enough that the embedding and, in the larger model, the MLP are in several shards. */
const options = { maxShardBytes: 16 << 20, poison: false };
const maxPositions = 64;
const timeout = 300_000;
/** A GPU that is software takes seconds for each pass over so many weights. */
const isSoftware = (device: Device): boolean => device.description.includes("(software)");

/** [N, V] of one sequence. */
async function logits(decoder: Decoder, ids: readonly number[], adapter?: string): Promise<Float32Array> {
  const result = withScope(() => decoder.logits(decoder.forward(packBatch(decoder.device, [ids]), { adapter })));
  try {
    return await result.readFloats();
  } finally {
    result.dispose();
  }
}

function expectSameBits(got: Float32Array, expected: Float32Array): void {
  const bits = (floats: Float32Array): Buffer => Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength);
  expect(bits(got).equals(bits(expected))).toBe(true);
}

describe("a model of SmolLM2-135M's shape", () => {
  const from = (): string => join(folder, "135M");
  beforeAll(async () => {
    await writeRandomCheckpoint(from(), smol135M);
    await writeFile(join(from(), "generation_config.json"), '{"eos_token_id": 0 }');
  });

  // First: what others leave to be collected would hide what this takes.
  it.skipIf(testDevice !== "cpu")("is loaded and saved with less than 256 MiB beside its own place", async () => {
    await withDevice(
      async (device) => {
        // The device keeps memory that was in use: from the second time on, the process grows by what loading and saving take besides.
        (await loadDecoder(from(), device, { maxPositions })).dispose();
        const { rss, arrayBuffers } = process.memoryUsage();
        let grown = 0;
        const observed = watched(device, () => {
          const now = process.memoryUsage();
          grown = Math.max(grown, now.rss - rss, now.arrayBuffers - arrayBuffers);
        });
        const decoder = await loadDecoder(from(), observed, { maxPositions });
        const loading = grown;
        grown = 0;
        await saveModelFolder(decoder, join(folder, "135M-saved"), { dtype: "bf16" });
        const saving = grown;
        console.log(`beside the tensors: ${Math.round(loading / 2 ** 20)} MiB to load, ${Math.round(saving / 2 ** 20)} MiB to save`);
        expect(loading).toBeLessThan(256 * 2 ** 20);
        expect(saving).toBeLessThan(256 * 2 ** 20);
        decoder.dispose();
      },
      { poison: false },
    );
  });

  it(
    "is loaded, trained for two steps, exported as f32 and as bf16 in shards, and loaded again with the same logits",
    async () => {
      await withDevice(async (device) => {
        const ids = randomIds(isSoftware(device) ? 4 : 12, 49152, 1);
        const decoder = await loadDecoder(from(), device, { maxPositions });
        expect(decoder.parameters().get("model.embed_tokens.weight")!.storage.shards).toBeGreaterThan(4);
        const before = await decoder.parameters().get("model.layers.29.mlp.down_proj.weight")!.readFloats();
        await train(decoder, ids);
        const after = await decoder.parameters().get("model.layers.29.mlp.down_proj.weight")!.readFloats();
        expect(after.some((x, i) => Math.abs(x - before[i]!) > 1e-4)).toBe(true);
        const trained = await logits(decoder, ids);
        expect(trained.every(Number.isFinite)).toBe(true);

        const whole = join(folder, "135M-f32");
        await saveModelFolder(decoder, whole, { from: from(), dtype: "f32" });
        const halves = join(folder, "135M-bf16");
        await saveModelFolder(decoder, halves, { from: from(), maxShardBytes: 100e6, dtype: "bf16" });
        expect((await readdir(whole)).sort()).toEqual(["config.json", "generation_config.json", "model.safetensors"]);
        const shards = (await readdir(halves)).filter((name) => name.endsWith(".safetensors"));
        expect(shards).toEqual([
          "model-00001-of-00003.safetensors",
          "model-00002-of-00003.safetensors",
          "model-00003-of-00003.safetensors",
        ]);
        expect(await readFile(join(halves, "config.json"))).toEqual(await readFile(join(from(), "config.json")));
        // Rounded where they stand, by a kernel that the export does not use.
        for (const parameter of decoder.parameters().values()) roundInPlace(device, parameter);
        const rounded = await logits(decoder, ids);
        expect(rounded).not.toEqual(trained);
        decoder.dispose();
        for (const [place, dtype, expected] of [
          [whole, "f32", trained],
          [halves, "f32", rounded],
        ] as const) {
          const again = await loadDecoder(place, device, { maxPositions, dtype });
          expectSameBits(await logits(again, ids), expected);
          again.dispose();
        }
      }, options);
    },
    timeout,
  );
});

/** The device, with somebody told of each thing that moves data. */
function watched(device: Device, look: () => void): Device {
  const told = new Set(["read", "write", "run", "allocate"]);
  return new Proxy(device, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        if (told.has(key as string)) look();
        return (value as (...all: unknown[]) => unknown).apply(target, args);
      };
    },
  });
}

/** Two updates on one sequence. */
async function train(decoder: Decoder, ids: readonly number[]): Promise<void> {
  const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01));
  for (let step = 0; step < 2; step++) {
    const stats = await fineTuneStep(decoder, optimizer, [{ ids, weights: ids.map(() => 1) }], {
      learningRate: 1e-3,
      microBatchTokens: 64,
    });
    expect(stats.gradNorm).toBeGreaterThan(0);
  }
  optimizer.dispose();
  for (const parameter of decoder.parameters().values()) {
    parameter.grad?.dispose();
    parameter.grad = null;
  }
}

function roundInPlace(device: Device, { storage }: { readonly storage: ReturnType<Device["allocate"]> }): void {
  const copy = device.allocate(storage.rows, storage.cols, "f32", "activation", "rounded");
  device.run("round", { bits: 17 }, [storage], [copy]);
  device.run("copy", { fromRow: 0, toRow: 0, rows: storage.rows }, [copy], [storage]);
  device.release(copy);
}

describe("a model of Qwen2.5-0.5B's shape", () => {
  it(
    "stays in bf16, learns by a LoRA adapter, and base and adapter, exported and loaded again, give the same logits",
    async () => {
      await withDevice(async (device) => {
        const software = isSoftware(device);
        const from = join(folder, "0.5B");
        // A GPU that is software gets the same shapes, and 2 layers of the 24.
        await writeRandomCheckpoint(from, software ? { ...qwen05B, num_hidden_layers: 2 } : qwen05B);
        const ids = randomIds(software ? 4 : 12, 151936, 2);
        const decoder = await loadDecoder(from, device, { maxPositions, dtype: "bf16" });
        expect(decoder.parameters().get("model.embed_tokens.weight")!.storage.shards).toBeGreaterThan(4);
        const base = await logits(decoder, ids);
        decoder.addAdapter("policy", { rank: 8, alpha: 16, seed: 3 });
        for (let step = 0; step < (software ? 1 : 2); step++) await learn(decoder, ids, "policy");
        const learned = await logits(decoder, ids, "policy");
        expect(learned.some((x, i) => Math.abs(x - base[i]!) > 1e-3)).toBe(true);
        const [place, adapter] = [join(folder, "0.5B-out"), join(folder, "0.5B-adapter")];
        await saveModelFolder(decoder, place, { from, maxShardBytes: 300e6 });
        await saveAdapter(decoder, "policy", adapter, { baseModel: "Qwen/Qwen2.5-0.5B" });
        decoder.dispose();
        expect((await readdir(place)).filter((name) => name.endsWith(".safetensors")).length).toBe(software ? 2 : 4);
        await rm(from, { recursive: true });
        const again = await loadDecoder(place, device, { maxPositions, dtype: "bf16" });
        await loadAdapter(again, "policy", adapter);
        expectSameBits(await logits(again, ids, "policy"), learned);
        if (!software) expectSameBits(await logits(again, ids), base);
        again.dispose();
      }, options);
    },
    timeout,
  );
});

/** One update of an adapter on one sequence; the weights below it get no gradients. */
async function learn(decoder: Decoder, ids: readonly number[], adapter: string): Promise<void> {
  const { device } = decoder;
  const parameters = decoder.adapterParameters(adapter);
  const optimizer = new AdamW(decayGroups(parameters, 0));
  const stats = keep(full(device, [1, 2], 0));
  withScope(() => {
    const targets = fromHost(device, Uint32Array.from([...ids.slice(1), 0]), [ids.length]);
    const weights = fromHost(
      device,
      Float32Array.from(ids, () => 1),
      [ids.length],
    );
    const { tape, value: loss } = withTape(() => {
      const hidden = decoder.forward(packBatch(device, [ids]), { adapter });
      return crossEntropy(hidden, decoder.headWeight, targets, weights, { scale: 1 / ids.length, stats });
    });
    backward(tape, loss);
    keep(stats);
  });
  await optimizer.update(0.01);
  expect((await optimizer.settle()).gradNorm).toBeGreaterThan(0);
  expect([...decoder.parameters().values()].every(({ grad }) => grad === null)).toBe(true);
  optimizer.zeroGrad();
  optimizer.dispose();
  stats.dispose();
}
