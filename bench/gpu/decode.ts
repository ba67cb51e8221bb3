/** Decoding: the bare step on the device, and what users get through the generator. */
import { BatchGenerator, KvCache, type Sequence } from "zerosearch";
import type { Bench } from "../bench.js";
import { decodeWork, parameters, type ModelShape } from "../shapes.js";
import { DecodeStep } from "./decode-step.js";
import { randomDecoder, someIds } from "./weights.js";
import { maxPositions, preparedOn, timed, type World } from "./world.js";

const batches = [1, 16, 64, 256];

export function torchShape({ config }: ModelShape) {
  const { width: C, mlpWidth: F, layers: L, heads: H, kvHeads: K, headDim: D, vocabulary: V } = config;
  return { C, F, L, H, K, D, V };
}

/** Weights and cache in the type of the run. */
const bytesOf = (world: World): number => (world.precision === "f16" ? 2 : 4);

export function decodeBenches(world: World): Bench[] {
  const context = world.sized(40, 512);
  const steps = world.sized(8, 128);
  return world.models.flatMap((shape) =>
    world.sized([1, 4], batches).map((batch): Bench => {
      const { name, config } = shape;
      const size = bytesOf(world);
      const cacheTokens = batch * (context + steps);
      return {
        name: `decode/${name}/b${batch}`,
        unit: "tokens/s",
        amount: batch,
        precision: world.precision,
        work: decodeWork(config, batch, context + steps / 2, size, size),
        rate: { kind: "decode", layers: config.layers, steps: 1, rows: batch },
        memory: size * parameters(config) + KvCache.bytesFor(config, Math.ceil(cacheTokens / 64), world.precision),
        note: `the step on the device, sampling included, no read-back; ${context} to ${context + steps} tokens in the cache`,
        peers: world.torchPeers("decode", { model: torchShape(shape), batch, context, steps }, ["static cache", "CUDA graph"]),
        async open() {
          const { device } = await world.gpu();
          const decoder = randomDecoder(config, device, { dtype: world.precision, maxPositions });
          const step = new DecodeStep(decoder, { batch, context, steps, cacheDtype: world.precision, fillCache: true });
          const again = step.repeated();
          return preparedOn(device, {
            most: steps,
            run: (count) => {
              step.rewind();
              return timed(device, count, again);
            },
            close() {
              step.dispose();
              decoder.dispose();
            },
          });
        },
      };
    }),
  );
}

/** Through `BatchGenerator`: the loop, the stop automaton and reading back are in; prefill is not. */
export function generateBenches(world: World): Bench[] {
  const prompt = world.sized(24, 256);
  const steps = world.sized(4, 64);
  return world.models.flatMap((shape) =>
    world.sized([2], [1, 64, 256]).map((batch): Bench => {
      const { name, config } = shape;
      const size = bytesOf(world);
      const blocks = batch * (Math.ceil((prompt + steps) / 64) + 1);
      return {
        name: `generate/${name}/b${batch}`,
        unit: "tokens/s",
        amount: batch * steps,
        precision: world.precision,
        work: (() => {
          const one = decodeWork(config, batch, prompt + steps / 2, size, size);
          return { ...one, flops: steps * one.flops!, bytes: steps * one.bytes! };
        })(),
        memory: size * parameters(config) + KvCache.bytesFor(config, blocks, world.precision),
        note: `BatchGenerator: ${steps} tokens for each of ${batch} sequences after prompts of ${prompt}, prefill not timed`,
        peers: world.torchPeers("generate", { model: torchShape(shape), batch, prompt, steps }, ["HF generate"]),
        async open() {
          const { device } = await world.gpu();
          const decoder = randomDecoder(config, device, { dtype: world.precision, maxPositions });
          const generator = new BatchGenerator({
            device,
            models: { model: { decoder, cacheBytes: KvCache.bytesFor(config, blocks, world.precision) } },
            maxRows: batch,
            cacheDtype: world.precision,
            maxPrefillTokens: world.sized(2048, 8192),
          });
          const V = config.vocabulary;
          const never = { states: 1, vocabulary: V, start: 0, transitions: new Uint32Array(V), accepts: new Uint32Array(1) };
          const sampling = { temperature: 1, topK: 0, topP: 1 };
          let round = 0;
          const once = async (): Promise<number> => {
            round += 1;
            const sequences = Array.from({ length: batch }, (_, i): Sequence =>
              generator.open({
                model: "model",
                key: { step: round, question: i, rollout: 0 },
                seed: 1,
                purpose: "policySample",
                prompt: someIds(prompt, V, i + 1),
              }),
            );
            // The first token comes with the prefill.
            await Promise.all(sequences.map((sequence) => sequence.generate({ stop: never, maxNewTokens: 1, sampling })));
            const start = performance.now();
            await Promise.all(sequences.map((sequence) => sequence.generate({ stop: never, maxNewTokens: steps, sampling })));
            const seconds = (performance.now() - start) / 1000;
            for (const sequence of sequences) sequence.close();
            return seconds;
          };
          return preparedOn(device, {
            most: 2, // every repetition costs a prefill besides
            async run(count) {
              let seconds = 0;
              for (let i = 0; i < count; i++) seconds += await once();
              return { seconds };
            },
            async close() {
              await generator.dispose();
              decoder.dispose();
            },
          });
        },
      };
    }),
  );
}
