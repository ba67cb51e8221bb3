/** A model of a real size on the CPU, Qwen2.5-0.5B's shape with random bf16 weights: decoding one sequence, and a step of LoRA training. */
import { lastStates } from "#inside/search/dense/decoder-embedder.js";
import { unitVector } from "#inside/search/dense/embedder.js";
import { AdamW, createDevice, decayGroups, fineTuneStep, type Example } from "zerosearch";
import type { Bench } from "../bench.js";
import { torchShape } from "../gpu/decode.js";
import { DecodeStep } from "../gpu/decode-step.js";
import { randomDecoder, someIds } from "../gpu/weights.js";
import { timed } from "../gpu/world.js";
import { benchModel, qwen2 } from "../models.js";
import { decodeWork, modelShape, productWeights, type ModelShape } from "../shapes.js";
import { copyPeer } from "./gemm.js";
import type { CpuWorld } from "./world.js";

const maxPositions = 512;

export function realBenches(world: CpuWorld): Bench[] {
  return [decodeReal(world), loraReal(world), embedReal(world, benchModel, 64), embedReal(world, realShape, 4)];
}

/** SmolLM2-135M's layers. Its vocabulary takes no part: nobody asks for logits. */
const realShape = qwen2("135M", 576, 1536, 30, 9, 3);
/** Tokens of the passages that are embedded, around 127. */
const passageLengths = (count: number): number[] => Array.from({ length: count }, (_, i) => 64 + ((i * 53) % 128));

/** Embeddings of passages of several lengths: packed, without padding; the last token's state, read back, of length 1. */
function embedReal(world: CpuWorld, shape: ModelShape, passages: number): Bench {
  const lengths = passageLengths(passages);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  return {
    name: `embed/${shape.name}/${passages}`,
    unit: "tokens/s",
    amount: tokens,
    rounds: 3,
    note: `f32, ${passages} passages of 64 to 191 tokens; padding is not counted`,
    peers: world.peers(world.torchModel("embed", "by length", { model: torchShape(shape), lengths, batch: 32 })),
    async open() {
      const device = await createDevice();
      const decoder = randomDecoder(shape.config, device, { dtype: "f32", maxPositions });
      const sequences = lengths.map((length, i) => someIds(length, shape.config.vocabulary, i + 1));
      const embed = async (): Promise<void> => {
        const states = lastStates(decoder, sequences);
        const values = await states.readFloats();
        for (let i = 0; i < passages; i++) unitVector(values.subarray(i * states.cols, (i + 1) * states.cols), 0, "bench");
        states.dispose();
      };
      return {
        description: device.description,
        run: async (count) => {
          const begun = performance.now();
          for (let i = 0; i < count; i++) await embed();
          return { seconds: (performance.now() - begun) / 1000 };
        },
        close: () => device.destroy(),
      };
    },
  };
}

function sizesOf({ options }: CpuWorld): "small" | "full" {
  return options.sizes === "small" ? "small" : "full";
}

/** One decode step of one sequence: bound by reading the weights once, so that its bytes per second stand beside the memory's. */
function decodeReal(world: CpuWorld): Bench {
  const shape = modelShape("0.5B", sizesOf(world), maxPositions);
  const [context, steps] = [64, 24];
  const numbers = { model: torchShape(shape), batch: 1, context, steps };
  const work = decodeWork(shape.config, 1, context + steps / 2, 2, 4);
  return {
    name: `decode/${shape.name}/b1`,
    unit: "tokens/s",
    amount: 1,
    rounds: 5,
    seconds: 1,
    work,
    note: `bf16 weights, sampling included, ${context} to ${context + steps} tokens in the cache`,
    peers: world.peers(
      world.torchModel("decode", "static cache", { ...numbers, dtype: "bf16" }),
      world.torchModel("decode", "static cache", numbers),
      copyPeer(work.bytes ?? 0),
    ),
    async open() {
      const device = await createDevice();
      const decoder = randomDecoder(shape.config, device, { dtype: "bf16", maxPositions });
      const step = new DecodeStep(decoder, { batch: 1, context, steps, cacheDtype: "f32", fillCache: true });
      const again = step.repeated();
      return {
        description: device.description,
        most: steps,
        peakBytes: () => device.memory().peak,
        run: (count) => {
          step.rewind();
          return timed(device, count, again);
        },
        close: () => device.destroy(),
      };
    },
  };
}

/** One training step of a LoRA adapter over a frozen bf16 base: what trains on a CPU at this size, and the memory that it takes. */
function loraReal(world: CpuWorld): Bench {
  const shape = modelShape("0.5B", sizesOf(world), maxPositions);
  const tokens = 256;
  const P = productWeights(shape.config);
  const [rank, alpha] = [16, 32];
  const numbers = { model: torchShape(shape), tokens, rank, alpha };
  return {
    name: `lora/${shape.name}`,
    unit: "tokens/s",
    amount: tokens,
    rounds: 2,
    work: { flops: 4 * P * tokens, flopsFormula: `4 P T, P = ${P} frozen weights in products: forward, and the gradient of what goes in` },
    note: `1 x ${tokens} tokens, rank ${rank} on all linear layers, bf16 base, activations recomputed (which is not counted), AdamW`,
    peers: world.peers(
      world.torchModel("lora", "", { ...numbers, dtype: "bf16" }),
      world.torchModel("lora", "", { ...numbers, dtype: "f32" }),
    ),
    async open() {
      const device = await createDevice();
      const decoder = randomDecoder(shape.config, device, { dtype: "bf16", maxPositions });
      const adapter = "bench";
      const optimizer = new AdamW(decayGroups(decoder.addAdapter(adapter, { rank, alpha, seed: 1 }), 0));
      const example: Example = { ids: someIds(tokens, shape.config.vocabulary, 1), weights: new Array<number>(tokens).fill(1) };
      return {
        description: device.description,
        most: 1,
        peakBytes: () => device.memory().peak,
        async run() {
          const start = performance.now();
          await fineTuneStep(decoder, optimizer, [example], {
            learningRate: 1e-4,
            microBatchTokens: tokens,
            recompute: true,
            adapter,
          });
          return { seconds: (performance.now() - start) / 1000 };
        },
        close: () => device.destroy(),
      };
    },
  };
}
