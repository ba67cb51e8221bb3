import { describe, expect, it } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { DecoderConfig } from "../../src/nn/config.ts";
import { Decoder, type ForwardOptions } from "../../src/nn/decoder.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import { crossEntropy } from "../../src/ops/cross-entropy.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, type Tensor } from "../../src/tensor/tensor.ts";
import { relativeError } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";
import { feed } from "../helpers/paged.ts";
import { randomIds, tinyConfigs, tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { referenceLogits, referenceLoss } from "../reference/decoder.ts";
import { liveTensors } from "../helpers/live-tensors.ts";

function nextTokenBatch(device: Device, sequences: readonly (readonly number[])[]) {
  const targets = sequences.flatMap((ids) => [...ids.slice(1), 0]);
  const weights = sequences.flatMap((ids) => ids.map((_, t) => (t + 1 < ids.length ? 1 : 0)));
  return {
    batch: packBatch(device, sequences),
    targets: fromHost(device, Uint32Array.from(targets), [targets.length]),
    weights: fromHost(device, weights, [weights.length]),
  };
}

/** Adds the gradient of the summed next-token loss; returns the loss. */
async function addGradients(decoder: Decoder, sequences: readonly (readonly number[])[], options: ForwardOptions = {}): Promise<number> {
  const stats = withScope(() => {
    const { batch, targets, weights } = nextTokenBatch(decoder.device, sequences);
    const { tape, value } = withTape(() => crossEntropy(decoder.forward(batch, options), decoder.headWeight, targets, weights));
    backward(tape, value);
    return value;
  });
  const [loss] = await stats.readFloats();
  stats.dispose();
  return loss!;
}

async function readGradients(parameters: ReadonlyMap<string, Tensor>): Promise<Map<string, Float32Array>> {
  const result = new Map<string, Float32Array>();
  for (const [name, parameter] of parameters) result.set(name, await parameter.grad!.readFloats());
  return result;
}

const models = Object.entries(tinyConfigs).map(([name, config]) => ({ name, config }));

describe.each(deviceVariants)("Decoder on $name", ({ options }) => {
  const cpu = useDevice(options);

  describe.each(models)("shaped like $name", ({ config }: { config: DecoderConfig }) => {
    const sequences = [randomIds(9, config.vocabulary, 1), randomIds(2, config.vocabulary, 2), randomIds(6, config.vocabulary, 3)];

    it("gives the logits of the float64 model", async () => {
      const decoder = tinyDecoder(config, cpu());
      const weights = new Map([...tinyWeights(config)].map(([name, values]) => [name, Float64Array.from(values)]));
      const logits = withScope(() => decoder.logits(decoder.forward(packBatch(cpu(), sequences))));
      const expected = sequences.flatMap((ids) => referenceLogits(config, weights, ids).flatMap((row) => [...row]));
      expect(relativeError(await logits.readFloats(), expected)).toBeLessThan(1e-5);
      logits.dispose();
      decoder.dispose();
    });

    it("gives every parameter the gradient that central differences of the float64 model give", async () => {
      const decoder = tinyDecoder(config, cpu());
      const weights = new Map([...tinyWeights(config)].map(([name, values]) => [name, Float64Array.from(values)]));
      const loss = await addGradients(decoder, sequences);
      expect(loss).toBeCloseTo(referenceLoss(config, weights, sequences), 3);
      const gradients = await readGradients(decoder.parameters());
      const step = 1e-5;
      for (const [name, gradient] of gradients) {
        const values = weights.get(name)!;
        // The embedding's rows that occur, and three places of everything else.
        const places = name.includes("embed_tokens")
          ? [...sequences[0]!.slice(0, 2).map((id) => id * config.width + 3), values.length - 1]
          : [0, Math.floor(values.length / 2), values.length - 1];
        for (const i of places) {
          const before = values[i]!;
          values[i] = before + step;
          const above = referenceLoss(config, weights, sequences);
          values[i] = before - step;
          const below = referenceLoss(config, weights, sequences);
          values[i] = before;
          const expected = (above - below) / (2 * step);
          expect(Math.abs(gradient[i]! - expected), `${name}[${i}]: ${gradient[i]}, expected ${expected}`).toBeLessThan(
            2e-4 * (1 + Math.abs(expected)),
          );
        }
      }
      decoder.dispose();
    });

    it("gives the same gradients with and without recomputation, bit for bit", async () => {
      const decoder = tinyDecoder(config, cpu());
      await addGradients(decoder, sequences, { cacheDtype: "f16" });
      const plain = await readGradients(decoder.parameters());
      for (const parameter of decoder.parameters().values()) parameter.zeroGrad();
      await addGradients(decoder, sequences, { cacheDtype: "f16", recompute: true });
      expect(await readGradients(decoder.parameters())).toEqual(plain);
      decoder.dispose();
    });
  });

  it("adds gradients over micro-batches to those of the whole batch", async () => {
    const config = tinyConfigs.qwen3;
    const decoder = tinyDecoder(config, cpu());
    const sequences = [randomIds(9, config.vocabulary, 1), randomIds(5, config.vocabulary, 2)];
    await addGradients(decoder, sequences);
    const whole = await readGradients(decoder.parameters());
    for (const parameter of decoder.parameters().values()) parameter.zeroGrad();
    for (const ids of sequences) await addGradients(decoder, [ids]);
    for (const [name, gradient] of await readGradients(decoder.parameters()))
      expect(relativeError(gradient, whole.get(name)!), name).toBeLessThan(1e-5);
    decoder.dispose();
  });

  it("holds as many tensors after the third step as after the second, and needs less memory with recomputation", async () => {
    const config = { ...tinyConfigs.llama, layers: 6 };
    const decoder = tinyDecoder(config, cpu());
    const sequences = [randomIds(200, config.vocabulary, 1)];
    const peaks: number[] = [];
    const live: unknown[] = [];
    for (const recompute of [false, false, false, true]) {
      cpu().resetPeak();
      await addGradients(decoder, sequences, { recompute });
      peaks.push(cpu().memory().peak);
      live.push({ ...liveTensors(cpu()), inUse: cpu().memory().inUse });
    }
    expect(live[2]).toEqual(live[1]);
    expect(live[3]).toEqual(live[1]);
    expect(peaks[2]).toBe(peaks[1]);
    expect(peaks[3]!).toBeLessThan(peaks[1]! * 0.8);
    decoder.dispose();
    expect(liveTensors(cpu()).tensors).toBe(0);
  });

  describe("LoRA adapters", () => {
    const config = tinyConfigs.qwen2;
    const sequences = [randomIds(7, config.vocabulary, 1)];

    it("change nothing at first, then only the calls that name them", async () => {
      const decoder = tinyDecoder(config, cpu());
      decoder.addAdapter("policy", { rank: 3, alpha: 6, seed: 1 });
      const hidden = async (adapter?: string) => {
        const tensor = withScope(() => decoder.forward(packBatch(cpu(), sequences), { adapter }));
        const values = await tensor.readFloats();
        tensor.dispose();
        return values;
      };
      const plain = await hidden();
      expect(relativeError(await hidden("policy"), plain)).toBeLessThan(1e-6);
      for (const [name, parameter] of decoder.adapterParameters("policy"))
        if (name.includes("lora_B")) parameter.write(new Float32Array(parameter.size).fill(0.05));
      expect(await hidden()).toEqual(plain);
      expect(relativeError(await hidden("policy"), plain)).toBeGreaterThan(1e-3);
      await expect(hidden("other")).rejects.toThrow(/no adapter "other"; expected policy/);
      decoder.dispose();
    });

    it("get gradients of central differences while the frozen weights get none, in f32 and bf16, with recomputation too", async () => {
      for (const dtype of ["f32", "bf16"] as const) {
        const decoder = tinyDecoder(config, cpu(), { dtype });
        decoder.setTrainable(false);
        const parameters = decoder.addAdapter("policy", { rank: 2, alpha: 4, seed: 1, targets: ["self_attn.q_proj", "mlp.down_proj"] });
        let seed = 1;
        for (const parameter of parameters.values())
          parameter.write(Float32Array.from(randomIds(parameter.size, 1000, seed++), (x) => x / 2000 - 0.25));
        await addGradients(decoder, sequences, { adapter: "policy" });
        const plain = await readGradients(parameters);
        for (const parameter of parameters.values()) parameter.zeroGrad();
        await addGradients(decoder, sequences, { adapter: "policy", recompute: true });
        expect(await readGradients(parameters)).toEqual(plain);
        for (const parameter of decoder.parameters().values()) expect(parameter.grad).toBeNull();
        // A directional difference through the whole model: f32 noise allows 1e-2.
        for (const [name, parameter] of [...parameters].slice(0, 4)) {
          const values = await parameter.readFloats();
          const gradient = plain.get(name)!;
          const length = Math.hypot(...gradient);
          const step = 1e-2;
          const losses: number[] = [];
          for (const sign of [1, -1]) {
            parameter.write(values.map((x, i) => x + (sign * step * gradient[i]!) / length));
            const stats = withScope(() => {
              const { batch, targets, weights } = nextTokenBatch(cpu(), sequences);
              return crossEntropy(decoder.forward(batch, { adapter: "policy" }), decoder.headWeight, targets, weights);
            });
            losses.push((await stats.readFloats())[0]!);
            stats.dispose();
          }
          parameter.write(values);
          expect((losses[0]! - losses[1]!) / (2 * step) / length, name).toBeCloseTo(1, 2);
        }
        decoder.dispose();
        expect(liveTensors(cpu()).tensors).toBe(0);
      }
    });

    it("have the same bits in paged decoding as in training", async () => {
      const decoder = tinyDecoder(config, cpu());
      for (const parameter of decoder.addAdapter("policy", { rank: 3, alpha: 6, seed: 1 }).values())
        parameter.write(new Float32Array(parameter.size).fill(0.03));
      const cache = new KvCache(cpu(), config, 1);
      const packed = withScope(() => decoder.forward(packBatch(cpu(), sequences), { adapter: "policy" }));
      const first = feed(decoder, cache, [{ ids: sequences[0]!.slice(0, 4), start: 0, blocks: [0] }], "policy");
      const second = feed(decoder, cache, [{ ids: sequences[0]!.slice(4), start: 4, blocks: [0] }], "policy");
      expect([...(await first.readFloats()), ...(await second.readFloats())]).toEqual([...(await packed.readFloats())]);
      for (const tensor of [packed, first, second]) tensor.dispose();
      cache.dispose();
      decoder.dispose();
    });
  });

  it("draws first weights from the seed alone: the same twice, of the deviations of the recipe", async () => {
    const config = { ...tinyConfigs.llama, width: 64, mlpWidth: 96, vocabulary: 300 };
    const [a, b, c] = [7, 7, 8].map((seed) => Decoder.initialise(config, cpu(), seed)) as [Decoder, Decoder, Decoder];
    const deviation = async (decoder: Decoder, name: string) => {
      const values = await decoder.parameters().get(name)!.readFloats();
      return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
    };
    for (const [name, parameter] of a.parameters()) expect(await parameter.read(), name).toEqual(await b.parameters().get(name)!.read());
    expect(await a.headWeight.read()).not.toEqual(await c.headWeight.read());
    expect(await deviation(a, "model.embed_tokens.weight")).toBeCloseTo(0.02, 3);
    expect((await deviation(a, "model.layers.1.mlp.up_proj.weight")) * Math.sqrt(64)).toBeCloseTo(1, 1);
    expect((await deviation(a, "model.layers.1.mlp.down_proj.weight")) * Math.sqrt(96) * Math.sqrt(2 * config.layers)).toBeCloseTo(1, 1);
    expect(await deviation(a, "model.norm.weight")).toBe(1);
    for (const decoder of [a, b, c]) decoder.dispose();
  });
});
