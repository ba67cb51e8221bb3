/** A model of a real size on the CPU, Qwen2.5-0.5B's shape with random bf16 weights: decoding one sequence, and a step of LoRA training. */
import { AdamW, createDevice, decayGroups, fineTuneStep, type Example } from "zerosearch";
import type { Bench } from "../bench.js";
import { torchShape } from "../gpu/decode.js";
import { DecodeStep } from "../gpu/decode-step.js";
import { randomDecoder, someIds } from "../gpu/weights.js";
import { timed } from "../gpu/world.js";
import { decodeWork, modelShape, productWeights } from "../shapes.js";
import { copyPeer } from "./gemm.js";
import type { CpuWorld } from "./world.js";

const maxPositions = 512;

export function realBenches(world: CpuWorld): Bench[] {
  return [decodeReal(world), loraReal(world)];
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
