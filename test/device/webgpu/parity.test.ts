/** The same model on the CPU and on a GPU: loss, every gradient by name, and ten steps of training. */
import { describe, expect, it } from "vitest";
import type { Device } from "../../../src/device/device.ts";
import { fromHuggingFace, type DecoderConfig } from "../../../src/nn/config.ts";
import { packBatch } from "../../../src/nn/batch.ts";
import type { Decoder } from "../../../src/nn/decoder.ts";
import { crossEntropy } from "../../../src/ops/cross-entropy.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { fineTuneStep } from "../../../src/sft/fine-tune.ts";
import { backward } from "../../../src/tensor/backward.ts";
import { withScope } from "../../../src/tensor/scope.ts";
import { withTape } from "../../../src/tensor/tape.ts";
import { fromHost } from "../../../src/tensor/tensor.ts";
import { withDevice } from "../../helpers/device.ts";
import { randomIds, tinyDecoder } from "../../helpers/tiny-model.ts";

const shape = {
  hidden_size: 128,
  intermediate_size: 352,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 611,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-6,
};
const models: Readonly<Record<string, DecoderConfig>> = {
  qwen2: fromHuggingFace({ ...shape, architectures: ["Qwen2ForCausalLM"], tie_word_embeddings: true }),
  llama: fromHuggingFace({ ...shape, architectures: ["LlamaForCausalLM"], tie_word_embeddings: false }),
  qwen3: fromHuggingFace({ ...shape, architectures: ["Qwen3ForCausalLM"], head_dim: 64, tie_word_embeddings: true }),
};
const lengths = [97, 1, 64, 30];

interface Outcome {
  readonly loss: number;
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

function sequences(config: DecoderConfig): number[][] {
  return lengths.map((length, i) => randomIds(length, config.vocabulary, 50 + i));
}

async function outcome(device: Device, decoder: Decoder, config: DecoderConfig): Promise<Outcome> {
  const rows = sequences(config);
  const N = rows.reduce((sum, ids) => sum + ids.length, 0);
  const stats = withScope(() => {
    const targets = fromHost(device, Uint32Array.from(rows.flatMap((ids) => [...ids.slice(1), 0])), [N]);
    const weights = fromHost(device, Float32Array.from(rows.flatMap((ids) => ids.map((_, t) => (t + 1 < ids.length ? 1 : 0)))), [N]);
    const { tape, value } = withTape(() =>
      crossEntropy(decoder.forward(packBatch(device, rows)), decoder.headWeight, targets, weights, { scale: 1 / (N - rows.length) }),
    );
    backward(tape, value);
    return value;
  });
  const [loss = NaN] = await stats.readFloats();
  stats.dispose();
  const gradients = new Map<string, Float32Array>();
  for (const [name, parameter] of decoder.parameters()) gradients.set(name, await parameter.grad!.readFloats());
  return { loss, gradients };
}

async function losses(decoder: Decoder, config: DecoderConfig, steps: number): Promise<number[]> {
  const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01), { maxGradNorm: 1 });
  const examples = sequences(config)
    .filter((ids) => ids.length > 1)
    .map((ids) => ({ ids, weights: ids.map((_, t) => (t === 0 ? 0 : 1)) }));
  const all: number[] = [];
  for (let step = 0; step < steps; step++)
    all.push((await fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-3, microBatchTokens: 128 })).loss);
  optimizer.dispose();
  return all;
}

/** ||got - want|| / ||want||. */
function distance(got: Float32Array, want: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return Math.sqrt(difference / Math.max(norm, 1e-30));
}

const precisions = [
  { precision: "f32", loss: 1e-4, gradient: 1e-4 },
  { precision: "f16", loss: 5e-3, gradient: 2e-2 },
] as const;

describe.each(precisions)("a two-layer model in $precision agrees between cpu and webgpu", ({ precision, loss, gradient }) => {
  it.each(Object.keys(models))("%s: loss and every gradient by name", async (name) => {
    const config = models[name]!;
    const run = (device: Device): Promise<Outcome> => outcome(device, tinyDecoder(config, device), config);
    const want = await withDevice(run, { device: "cpu" });
    const got = await withDevice(run, { precision });
    expect(Math.abs(got.loss - want.loss) / want.loss).toBeLessThan(loss);
    expect([...got.gradients.keys()]).toEqual([...want.gradients.keys()]);
    const apart = [...want.gradients].map(([key, values]) => [key, distance(got.gradients.get(key)!, values)] as const);
    expect(apart.filter(([, far]) => !(far < gradient))).toEqual([]);
  });

  it("ten training losses, which fall", async () => {
    const config = models["qwen2"]!;
    const run = (device: Device): Promise<number[]> => losses(tinyDecoder(config, device), config, 10);
    const want = await withDevice(run, { device: "cpu" });
    const got = await withDevice(run, { precision });
    expect(want[9]).toBeLessThan(want[0]! - 0.5);
    expect(got.map((value, i) => Math.abs(value - want[i]!) / want[i]!).filter((far) => !(far < loss))).toEqual([]);
  });
});

describe.each(["f32", "f16"] as const)("on one adapter, in %s,", (precision) => {
  it("training runs are repeated bit for bit, and hold as many bytes after step 3 as after step 8", async () => {
    const config = models["qwen2"]!;
    const run = async (): Promise<unknown> =>
      withDevice(
        async (device) => {
          const decoder = tinyDecoder(config, device);
          const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01), { maxGradNorm: 1 });
          const examples = [{ ids: randomIds(70, config.vocabulary, 3), weights: new Array<number>(70).fill(1) }];
          const held: number[] = [];
          for (let step = 0; step < 8; step++) {
            await fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-3, microBatchTokens: 4096 });
            held.push(device.memory().reserved);
          }
          expect(held.slice(3)).toEqual(new Array(5).fill(held[2]));
          const weights: Uint32Array[] = [];
          for (const parameter of decoder.parameters().values()) weights.push(new Uint32Array((await parameter.readFloats()).buffer));
          optimizer.dispose();
          decoder.dispose();
          return weights;
        },
        { precision },
      );
    expect(await run()).toEqual(await run());
  });
});
