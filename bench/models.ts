/** The models of the CPU's benches, in Qwen2's shape, with random weights. */
import {
  AdamW,
  BatchGenerator,
  decayGroups,
  Decoder,
  fineTuneStep,
  fromHost,
  fromHuggingFace,
  keep,
  KvCache,
  type Device,
  type Example,
  type Sequence,
  type Tensor,
} from "zerosearch";
import type { ModelShape } from "./shapes.js";

export const vocabulary = 4096;
export const past = 96;
export const decodeSteps = 32;
export const prefillSequences = 8;
export const prefillLength = 256;
export const trainTokens = 16 * 128;

export function qwen2(name: string, C: number, F: number, L: number, H: number, K: number): ModelShape {
  const config = fromHuggingFace(
    {
      architectures: ["Qwen2ForCausalLM"],
      model_type: "qwen2",
      vocab_size: vocabulary,
      hidden_size: C,
      intermediate_size: F,
      num_hidden_layers: L,
      num_attention_heads: H,
      num_key_value_heads: K,
      max_position_embeddings: 1024,
      rms_norm_eps: 1e-6,
      rope_theta: 1e6,
      hidden_act: "silu",
      tie_word_embeddings: true,
    },
    "bench",
  );
  return { name, config };
}

/** The model of the benches; and one so small that a decode step of it is mostly what a step costs in any case. */
export const benchModel = qwen2("8.7M", 320, 1024, 6, 5, 1);
export const smallModel = qwen2("1M", 96, 256, 4, 3, 1);

export function benchDecoder(device: Device, { config }: ModelShape = benchModel): Decoder {
  return Decoder.initialise(config, device, 1);
}

/** Ids that look random and are the same every time. */
export function someIds(count: number, seed: number): number[] {
  let state = seed * 2654435761 + 1;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % vocabulary;
  });
}

/** One training step over 16 x 128 tokens: forward, cross-entropy of every next token, backward, AdamW. */
export function trainBench(decoder: Decoder): () => Promise<number> {
  const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01), { maxGradNorm: 0 });
  const examples: Example[] = Array.from({ length: 16 }, (_, i) => ({ ids: someIds(128, i), weights: new Array<number>(128).fill(1) }));
  return async () => {
    const start = performance.now();
    await fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-4, microBatchTokens: trainTokens });
    return (performance.now() - start) / 1000;
  };
}

/** 32 decode steps of `batch` sequences after 96 cached tokens, sampling at temperature 1 included. */
export function decodeBench(device: Device, decoder: Decoder, batch: number): () => Promise<number> {
  const generator = new BatchGenerator({ device, models: { model: { decoder, cacheBytes: 256 * 2 ** 20 } }, maxRows: batch });
  const never = { states: 1, vocabulary, start: 0, transitions: new Uint32Array(vocabulary), accepts: new Uint32Array(1) };
  const sampling = { temperature: 1, topK: 0, topP: 1 };
  let round = 0;
  return async () => {
    round++;
    const sequences = Array.from({ length: batch }, (_, i): Sequence =>
      generator.open({
        model: "model",
        key: { step: round, question: i, rollout: 0 },
        seed: 1,
        purpose: "policySample",
        prompt: someIds(past, i + 1),
      }),
    );
    // The first token comes with the prefill, which is not timed.
    await Promise.all(sequences.map((sequence) => sequence.generate({ stop: never, maxNewTokens: 1, sampling })));
    const start = performance.now();
    await Promise.all(sequences.map((sequence) => sequence.generate({ stop: never, maxNewTokens: decodeSteps, sampling })));
    const seconds = (performance.now() - start) / 1000;
    for (const sequence of sequences) sequence.close();
    return seconds;
  };
}

/** One prefill of 8 prompts of 256 tokens into the cache. */
export function prefillBench(device: Device, decoder: Decoder): () => Promise<number> {
  const [B, T] = [prefillSequences, prefillLength];
  const wide = Math.ceil(T / 64);
  const cache = new KvCache(device, decoder.config, B * wide, "f32");
  const words = (count: number, value: (i: number) => number, shape: number[]): Tensor =>
    keep(
      fromHost(
        device,
        Uint32Array.from({ length: count }, (_, i) => value(i)),
        shape,
        { label: "prefill" },
      ),
    );
  const batch = {
    ids: keep(fromHost(device, Uint32Array.from(someIds(B * T, 1)), [B * T], { label: "prefill" })),
    positions: words(B * T, (n) => n % T, [B * T]),
    offsets: words(B + 1, (b) => b * T, [B + 1]),
    blockTable: words(B * wide, (i) => i, [B, wide]),
  };
  return async () => {
    const start = performance.now();
    decoder.forwardPaged(batch, cache).dispose();
    await device.synchronize();
    return (performance.now() - start) / 1000;
  };
}
