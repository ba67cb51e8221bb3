/**
 * Cost against size on the CPU, one bench for each point: tokens in the cache, sequence length, rows of a batch, size of the model,
 * threads; and the memory of many steps. `curves.ts` makes tables and a figure of the points.
 */
import { availableParallelism, tmpdir } from "node:os";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AdamW, createDevice, decayGroups, fineTuneStep, openTraining, packagedConfig, trainStep, type Example } from "zerosearch";
import type { Bench, Point } from "../bench.js";
import { DecodeStep } from "../gpu/decode-step.js";
import { randomDecoder, someIds } from "../gpu/weights.js";
import { timed } from "../gpu/world.js";
import { shape135M } from "../load.js";
import { benchModel, qwen2, smallModel } from "../models.js";
import { decodeWork, parameters, productWeights, trainWork, type ModelShape } from "../shapes.js";
import type { CpuWorld } from "./world.js";

const lengths = [64, 256, 1024, 4096, 8192];
const batches = [1, 4, 16, 64, 256];
/** Longer than the longest sequence and the steps after it. */
const maxPositions = 8448;
const decodeSteps = 8;
/** What is more takes seconds: one run must do. */
const secondsOfFlops = 1e11;

export function scalingBenches(world: CpuWorld): Bench[] {
  const small = world.options.sizes === "small";
  const upTo = (most: number, sizes: readonly number[]): readonly number[] => (small ? sizes.filter((size) => size <= most) : sizes);
  const models = [
    smallModel,
    benchModel,
    ...(small ? [] : [qwen2("32M", 512, 1536, 10, 8, 2), { name: "135M", config: shape135M("full") }]),
  ];
  const cores = availableParallelism();
  const threads = [...new Set([1, 2, 4, 8, 16, 32, 64, cores])].filter((count) => count <= cores).sort((a, b) => a - b);
  const tokens = small ? 1024 : 8192;
  return [
    ...upTo(256, lengths).map((size) =>
      decodePoint(
        "context",
        size,
        { shape: benchModel, batch: 8, context: size },
        { axis: "tokens in the cache", of: "token", count: 8 * decodeSteps },
      ),
    ),
    ...upTo(1024, lengths).map((size) =>
      trainPoint(
        "sequence",
        size,
        { shape: smallModel, sequences: tokens / size, length: size },
        { axis: "sequence length", of: "sequence", count: tokens / size },
      ),
    ),
    ...upTo(16, batches).map((size) =>
      decodePoint(
        "batch",
        size,
        { shape: benchModel, batch: size, context: 128 },
        { axis: "rows of a decode step", of: "step", count: decodeSteps },
      ),
    ),
    ...models.flatMap((shape) => {
      const size = parameters(shape.config);
      const axis = "parameters";
      return [
        decodePoint("model", size, { shape, batch: 1, context: 128 }, { axis, of: "step", count: decodeSteps }),
        trainPoint("model", size, { shape, sequences: 4, length: 64 }, { axis, of: "step", count: 1 }),
      ];
    }),
    ...threads.flatMap((size) => {
      const more = { axis: "threads", linear: -1 } as const;
      return [
        decodePoint(
          "threads",
          size,
          { shape: benchModel, batch: 16, context: 128, threads: size },
          { ...more, of: "step", count: decodeSteps },
        ),
        trainPoint("threads", size, { shape: benchModel, sequences: 8, length: 128, threads: size }, { ...more, of: "step", count: 1 }),
      ];
    }),
    memoryBench(world),
  ];
}

type Place = Pick<Point, "axis" | "of" | "count"> & { readonly linear?: -1 };

/** What all points have. The runs of one take seconds: few rounds. */
const common = { unit: "tokens/s", onlyAsked: true, rounds: 2 } as const;

interface Decoding {
  readonly shape: ModelShape;
  readonly batch: number;
  readonly context: number;
  readonly threads?: number;
}

/** 8 decode steps after `context` cached tokens. */
function decodePoint(axis: string, size: number, { shape, batch, context, threads }: Decoding, place: Place): Bench {
  const { config } = shape;
  const work = decodeWork(config, batch, context + decodeSteps / 2, 4, 4);
  return {
    ...common,
    name: `scaling/${axis}/decode/${axis === "model" ? shape.name : size}`,
    amount: batch * decodeSteps,
    work: { ...work, flops: decodeSteps * (work.flops ?? 0), bytes: decodeSteps * (work.bytes ?? 0) },
    point: { line: `decode, ${axis === "model" ? "1 row" : lineOf(shape, batch, axis)}`, size, linear: 1, ...place },
    async open() {
      const device = await createDevice({ threads });
      const decoder = randomDecoder({ ...config, maxPositions }, device, { dtype: "f32", maxPositions });
      const step = new DecodeStep(decoder, { batch, context, steps: decodeSteps, cacheDtype: "f32", fillCache: true });
      const again = step.repeated();
      return {
        description: device.description,
        most: 1,
        peakBytes: () => device.memory().peak,
        run: () => {
          step.rewind();
          return timed(device, decodeSteps, again);
        },
        close: () => device.destroy(),
      };
    },
  };
}

interface Training {
  readonly shape: ModelShape;
  readonly sequences: number;
  readonly length: number;
  readonly threads?: number;
}

/** One training step over `sequences` of `length` tokens, in one micro-batch. */
function trainPoint(axis: string, size: number, { shape, sequences, length, threads }: Training, place: Place): Bench {
  const { config } = shape;
  const work = trainWork(config, sequences, length);
  const tokens = sequences * length;
  const attention = (work.flops ?? 0) - 6 * productWeights(config) * tokens;
  const share = Math.round((100 * attention) / (work.flops ?? 1));
  return {
    ...common,
    name: `scaling/${axis}/train/${axis === "model" ? shape.name : size}`,
    amount: tokens,
    once: (work.flops ?? 0) > secondsOfFlops,
    work,
    point: {
      line: `training, ${axis === "model" ? `${tokens} tokens` : shape.name}`,
      size,
      linear: 1,
      ...place,
      ...(axis === "sequence" ? { note: `attention has ${share} % of the FLOPs` } : {}),
    },
    async open() {
      const device = await createDevice({ threads });
      const decoder = randomDecoder({ ...config, maxPositions }, device, { dtype: "f32", maxPositions });
      const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01));
      const examples = Array.from({ length: sequences }, (_, i): Example => ({
        ids: someIds(length, config.vocabulary, i + 1),
        weights: new Array<number>(length).fill(1),
      }));
      const step = () => fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-5, microBatchTokens: tokens });
      // the system hands out memory when it is first written to, which takes longer than a step of a large model
      for (let i = 0; i < 2; i++) await step();
      return {
        description: device.description,
        most: 1,
        peakBytes: () => device.memory().peak,
        async run() {
          const start = performance.now();
          await step();
          return { seconds: (performance.now() - start) / 1000 };
        },
        close: () => device.destroy(),
      };
    },
  };
}

function lineOf({ name }: ModelShape, batch: number, axis: string): string {
  return axis === "batch" ? name : `${name}, ${batch} rows`;
}

/** Many small RL steps of the quickstart: what the device holds and the process's memory, every 50 steps. They stay where they are. */
function memoryBench({ options }: CpuWorld): Bench {
  const steps = options.long ? 1000 : 200;
  return {
    name: "scaling/memory",
    unit: "steps/s",
    amount: steps,
    onlyAsked: true,
    once: true,
    note: `${steps} steps of 2 questions x 2 rollouts, printed every 50`,
    async open() {
      const folder = mkdtempSync(join(tmpdir(), "zerosearch-bench-"));
      const { run, close } = await openSmall(folder, steps);
      return {
        description: run.device.description,
        async run() {
          const start = performance.now();
          for (let step = 1; step <= steps; step++) {
            await trainStep(run, step);
            if (step % 50 !== 0) continue;
            const { peak, inUse, reserved } = run.device.memory();
            const { rss, heapUsed } = process.memoryUsage();
            const MiB = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
            console.log(
              `  step ${step}: device ${MiB(inUse)} in use, ${MiB(peak)} at most since the last line, ${MiB(reserved)} reserved; process ${MiB(rss)}, JavaScript ${MiB(heapUsed)}`,
            );
            run.device.resetPeak();
          }
          return { seconds: (performance.now() - start) / 1000 };
        },
        async close() {
          await close();
          rmSync(folder, { recursive: true, force: true });
        },
      };
    },
  };
}

async function openSmall(folder: string, steps: number) {
  const training = await openTraining({
    config: packagedConfig("quickstart"),
    settings: [
      "device.kind=cpu",
      `output.runs=${join(folder, "runs")}`,
      `output.checkpoints=${join(folder, "checkpoints")}`,
      `train.steps=${steps}`,
      "train.questionsPerStep=2",
      "train.groupSize=2",
      "train.saveEvery=0",
    ],
  });
  return { run: training.run, close: () => training.close() };
}
