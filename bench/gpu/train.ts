/** A training step: forward, loss on every token, backward, gradient norm and AdamW, over micro-batches. And AdamW alone. */
import { AdamW, decayGroups, empty, fineTuneStep, keep, type Example, type Tensor } from "zerosearch";
import type { Bench, Sample } from "../bench.js";
import { parameters, trainingMemory, trainWork, type ModelShape } from "../shapes.js";
import { torchShape } from "./decode.js";
import { randomDecoder, RandomRows, someIds } from "./weights.js";
import { maxPositions, preparedOn, type World } from "./world.js";

/** Share of the adapter's memory that a step may be planned for. */
const fill = 0.85;

export function trainBenches(world: World): Bench[] {
  return world.models.map((shape) => train(world, shape));
}

function train(world: World, shape: ModelShape): Bench {
  const { name, config } = shape;
  const T = world.sized(32, 1024);
  const microSequences = world.sized(2, 8);
  const sequences = 2 * microSequences;
  const micro = microSequences * T;
  const memory = world.peak?.memory ?? null;
  const plain = trainingMemory(config, micro, world.precision, false);
  const recompute = world.sizes === "full" && (memory === null || plain > fill * memory);
  const needed = recompute ? trainingMemory(config, micro, world.precision, true) : plain;
  return {
    name: `train/${name}`,
    unit: "tokens/s",
    amount: sequences * T,
    precision: world.precision,
    work: trainWork(config, sequences, T),
    rate: { kind: "train", layers: config.layers },
    memory: needed,
    alone: true,
    note: `${sequences} x ${T} tokens in micro-batches of ${microSequences}, f32 masters and moments, AdamW in${recompute ? ", activations recomputed" : ""}`,
    peers: world.torchPeers("train", { model: torchShape(shape), sequences, micro: microSequences, tokens: T, recompute }),
    async open() {
      await world.dropDevices();
      const { device } = await world.gpu();
      const decoder = randomDecoder(config, device, { dtype: "f32", maxPositions });
      const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01));
      const examples = Array.from({ length: sequences }, (_, i): Example => ({
        ids: someIds(T, config.vocabulary, i + 1),
        weights: new Array<number>(T).fill(1),
      }));
      return preparedOn(device, {
        async run(count) {
          const total = { seconds: 0, hostSeconds: 0 };
          for (let i = 0; i < count; i++) {
            let gradNorm = Number.NaN;
            const one = await asked(async () => {
              ({ gradNorm } = await fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-5, microBatchTokens: micro, recompute }));
            });
            // Such an update is skipped: its time would say nothing.
            if (!Number.isFinite(gradNorm)) throw new Error("the gradient is not finite");
            total.seconds += one.seconds;
            total.hostSeconds += one.hostSeconds;
          }
          return total;
        },
        async close() {
          optimizer.dispose();
          decoder.dispose();
          await world.dropDevices();
        },
      });
    },
  };
}

/** The time until the promise of `fn` is kept; the host's part ends when it has nothing left to ask for and the event loop goes round. */
export async function asked(fn: () => Promise<unknown>): Promise<Required<Sample>> {
  const start = performance.now();
  let host = 0;
  setImmediate(() => {
    host = performance.now() - start;
  });
  await fn();
  const seconds = (performance.now() - start) / 1000;
  return { seconds, hostSeconds: host === 0 ? seconds : host / 1000 };
}

/** AdamW over a model's parameters, norm included: bound by memory. */
export function adamwBenches(world: World): Bench[] {
  return world.models.map(({ name, config }) => {
    const all = parameters(config);
    return {
      name: `adamw/${name}`,
      unit: "GB/s",
      amount: (32 * all) / 1e9,
      work: {
        bytes: 32 * all,
        bytesFormula: `32 P, P = ${all}: gradient read for the norm; gradient, weight, two moments read; three written`,
      },
      memory: 16 * all,
      async open() {
        await world.dropDevices();
        const { device } = await world.gpu();
        const decoder = randomDecoder(config, device, { dtype: "f32", maxPositions });
        const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01));
        const random = new RandomRows(device);
        for (const parameter of decoder.parameters().values()) {
          const gradient: Tensor = keep(empty(device, parameter.shape, { label: "gradient" }));
          random.fill(gradient, 1e-3);
          parameter.grad = gradient;
        }
        random.dispose();
        return preparedOn(device, {
          async run(count) {
            const start = performance.now();
            for (let i = 0; i < count; i++) {
              await optimizer.update(1e-5);
              await optimizer.settle();
            }
            return { seconds: (performance.now() - start) / 1000 };
          },
          async close() {
            optimizer.dispose();
            decoder.dispose();
            await world.dropDevices();
          },
        });
      },
    };
  });
}
