/** What the page computes, and Node too: one program, any device. It imports nothing that a browser lacks. */
import {
  AdamW,
  backward,
  BatchGenerator,
  compileStops,
  crossEntropy,
  Decoder,
  decayGroups,
  fineTuneStep,
  fromHost,
  fromHuggingFace,
  matmul,
  packBatch,
  policyLoss,
  withScope,
  withTape,
  type Device,
} from "../../src/webgpu.ts";

export interface SmokeResult {
  readonly description: string;
  /** Outputs, losses and gradients by name. */
  readonly numbers: Readonly<Record<string, readonly number[]>>;
  /** Ids of greedy generations. */
  readonly ids: readonly (readonly number[])[];
}

const V = 61;
const config = fromHuggingFace({
  architectures: ["Qwen2ForCausalLM"],
  hidden_size: 32,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: V,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
});
/** Sequences of more and less than one block of keys. */
const rows = [67, 1, 12].map((length, i) => Array.from({ length }, (_, t) => (7 * t * t + 13 * t + 29 * i + 5) % V));
const N = rows.reduce((sum, ids) => sum + ids.length, 0);

export async function smoke(device: Device): Promise<SmokeResult> {
  const decoder = Decoder.initialise(config, device, 3);
  const numbers: Record<string, readonly number[]> = {
    ...(await products(device)),
    ...(await lossAndGradients(device, decoder)),
    ...(await policy(device)),
    ...(await training(decoder)),
  };
  const ids = await generations(device, decoder);
  decoder.dispose();
  return { description: device.description, numbers, ids };
}

/** Plain products, with and without a transposed side. */
async function products(device: Device): Promise<Record<string, readonly number[]>> {
  const wave = (count: number, phase: number): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(phase + 0.7 * i));
  const a = fromHost(device, wave(33 * 70, 1), [33, 70]);
  const b = fromHost(device, wave(70 * 20, 2), [70, 20]);
  const c = fromHost(device, wave(20 * 70, 3), [20, 70]);
  const [ab, act] = [matmul(a, b), matmul(a, c, { transB: true })];
  const result = { "a b": [...(await ab.readFloats())], "a cT": [...(await act.readFloats())] };
  for (const tensor of [a, b, c, ab, act]) tensor.dispose();
  return result;
}

/** The whole decoder, forward and backward. */
async function lossAndGradients(device: Device, decoder: Decoder): Promise<Record<string, readonly number[]>> {
  const loss = withScope(() => {
    const targets = fromHost(device, Uint32Array.from(rows.flatMap((ids) => [...ids.slice(1), 0])), [N]);
    const weights = fromHost(device, Float32Array.from(rows.flatMap((ids) => ids.map((_, t) => (t + 1 < ids.length ? 1 : 0)))), [N]);
    const { tape, value } = withTape(() =>
      crossEntropy(decoder.forward(packBatch(device, rows)), decoder.headWeight, targets, weights, { scale: 1 / (N - rows.length) }),
    );
    backward(tape, value);
    return value;
  });
  const result: Record<string, readonly number[]> = { "cross entropy": [...(await loss.readFloats())].slice(0, 1) };
  loss.dispose();
  for (const [name, parameter] of decoder.parameters()) result[`gradient of ${name}`] = [...(await parameter.grad!.readFloats())];
  return result;
}

/** The clipped loss and its gradients, one token masked. */
async function policy(device: Device): Promise<Record<string, readonly number[]>> {
  const vector = (values: readonly number[]) => fromHost(device, Float32Array.from(values), [values.length]);
  const logProb = vector([-0.5, -1.25, -2, -0.1]);
  logProb.requiresGrad = true;
  const inputs = {
    logProb,
    oldLogProb: vector([-0.6, -0.75, -2.5, -0.3]),
    entropy: vector([0.9, 1.1, 0.4, 0.2]),
    advantage: vector([1, -0.5, 2, NaN]),
    weight: vector([1, 1, 1, 0]),
  };
  const { tape, value } = withTape(() => policyLoss(inputs, { clipLow: 0.2, clipHigh: 0.2, scale: 1 / 3 }));
  backward(tape, value);
  const result = {
    "policy loss": [...(await value.readFloats())].slice(0, 1),
    "gradient of policy loss": [...(await logProb.grad!.readFloats())],
  };
  for (const tensor of [...Object.values(inputs), value]) tensor.dispose();
  return result;
}

/** A few steps of AdamW. */
async function training(decoder: Decoder): Promise<Record<string, readonly number[]>> {
  const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01), { maxGradNorm: 1 });
  const examples = rows.filter((ids) => ids.length > 1).map((ids) => ({ ids, weights: ids.map((_, t) => (t === 0 ? 0 : 1)) }));
  const losses: number[] = [];
  for (let step = 0; step < 4; step++)
    losses.push((await fineTuneStep(decoder, optimizer, examples, { learningRate: 3e-3, microBatchTokens: 128 })).loss);
  optimizer.dispose();
  return { "training losses": losses };
}

/** Prefill, paged decode, greedy choice, one prompt over a block of the cache. */
async function generations(device: Device, decoder: Decoder): Promise<readonly (readonly number[])[]> {
  const generator = new BatchGenerator({ device, models: { tiny: { decoder, cacheBytes: 1 << 20 } }, maxRows: 4 });
  const stop = compileStops({ stops: [], eosIds: [], tokenBytes: (id) => Uint8Array.of(id), vocabulary: V });
  const open = (prompt: readonly number[], question: number) =>
    generator.open({ model: "tiny", key: { step: 0, question, rollout: 0 }, seed: 1, purpose: "policySample", prompt });
  const sequences = rows.map(open);
  const done = await Promise.all(
    sequences.map((one) => one.generate({ stop, maxNewTokens: 20, sampling: { temperature: 0, topK: 0, topP: 1 } })),
  );
  for (const one of sequences) one.close();
  await generator.dispose();
  return done.map(({ ids }) => ids);
}
