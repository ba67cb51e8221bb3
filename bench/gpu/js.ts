/**
 * The host's time alone: a decode step or a training step of the real shapes on a hollow device, whose kernels do nothing and whose
 * buffers hold next to nothing. Set against the least time that a GPU of the named peak needs for the same step.
 */
import { AdamW, decayGroups, fineTuneStep, type Example } from "zerosearch";
import type { Bench, Sample } from "../bench.js";
import type { Options } from "../options.js";
import { referencePeak, type Peak } from "../peaks.js";
import { decodeWork, modelNames, modelShape, trainWork, type ModelShape } from "../shapes.js";
import { DecodeStep } from "./decode-step.js";
import { openGpu, type GpuDevice } from "./open.js";
import { asked } from "./train.js";
import { randomDecoder, someIds } from "./weights.js";
import { maxPositions, preparedOn, timed } from "./world.js";

interface Hollow {
  /** Where the name of a bench ends: how steps are asked for, on which of Dawn's backends. */
  readonly backend: "null" | null;
  readonly suffix: string;
}

/** On Dawn's null backend everywhere; on the adapter's own too, where there is one. */
export function jsBenches(options: Options, hasAdapter: boolean, peak: Peak | null): Bench[] {
  const places: Hollow[] = [{ backend: "null", suffix: "" }];
  if (hasAdapter && options.backend !== "null") places.push({ backend: null, suffix: "/on-adapter" });
  const names = options.models ?? modelNames;
  const shapes = names.map((name) => modelShape(name, "full", maxPositions));
  return places.flatMap((place) =>
    shapes.flatMap((shape) => [
      ...[1, 64, 256].flatMap((batch) =>
        (["recorded", "replayed"] as const).map((how) => decode(options, place, shape, batch, how, peak ?? referencePeak)),
      ),
      training(options, place, shape, peak ?? referencePeak),
    ]),
  );
}

/**
 * On the null backend the host's part is time on the processor: nothing else has work to do, and what other programs take is not
 * counted. A driver has threads of its own, so on an adapter it is the time until everything has been asked for.
 */
async function hostTime({ backend }: Hollow, run: () => Promise<Sample>): Promise<Sample> {
  const before = process.cpuUsage();
  const sample = await run();
  const { user, system } = process.cpuUsage(before);
  return backend === "null" ? { ...sample, hostSeconds: (user + system) / 1e6 } : sample;
}

async function hollow(options: Options, { backend }: Hollow): Promise<GpuDevice> {
  const { device } = await openGpu({ precision: options.precision ?? "f16", backend, adapter: options.adapter, hollow: { as: "nvidia" } });
  return device;
}

function decode(options: Options, place: Hollow, shape: ModelShape, batch: number, how: "recorded" | "replayed", peak: Peak): Bench {
  const { name, config } = shape;
  const context = 512;
  const steps = 128;
  const size = options.precision === "f32" ? 4 : 2;
  const { bytes } = decodeWork(config, batch, context, size, size);
  const floor = peak.bytes === null ? null : bytes! / peak.bytes;
  return {
    name: `js/${name}/b${batch}/${how}${place.suffix}`,
    unit: "steps/s",
    amount: 1,
    seconds: 0.2,
    ...(floor === null ? {} : { floor: { seconds: floor, of: `${peak.name}: weights and cache read once` } }),
    note: `a decode step, ${how}; nothing is computed${place.backend === "null" ? " (Dawn's null backend)" : " (empty kernels on the adapter)"}`,
    async open() {
      const device = await hollow(options, place);
      const decoder = randomDecoder(config, device, { dtype: options.precision ?? "f16", maxPositions, undefinedWeights: true });
      const step = new DecodeStep(decoder, { batch, context, steps, cacheDtype: options.precision ?? "f16", fillCache: false });
      const ask = how === "replayed" ? step.repeated() : () => step.step();
      if (how !== "replayed") ask();
      return preparedOn(device, {
        run: (count) => hostTime(place, () => timed(device, count, ask)),
        async close() {
          step.dispose();
          await device.destroy();
        },
      });
    },
  };
}

function training(options: Options, place: Hollow, shape: ModelShape, peak: Peak): Bench {
  const { name, config } = shape;
  const [sequences, T] = [8, 1024];
  const flops = trainWork(config, sequences, T).flops!;
  const most = peak.flops[options.precision ?? "f16"];
  return {
    name: `js/${name}/train${place.suffix}`,
    unit: "steps/s",
    amount: 1,
    seconds: 0.2,
    ...(most === null ? {} : { floor: { seconds: flops / most, of: `${peak.name}: model FLOPs` } }),
    note: `a training step over ${sequences} x ${T} tokens in one micro-batch; nothing is computed`,
    async open() {
      const device = await hollow(options, place);
      const decoder = randomDecoder(config, device, { dtype: "f32", maxPositions, undefinedWeights: true });
      const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01));
      const examples = Array.from({ length: sequences }, (_, i): Example => ({
        ids: someIds(T, config.vocabulary, i + 1),
        weights: new Array<number>(T).fill(1),
      }));
      return preparedOn(device, {
        async run(count) {
          return hostTime(place, async () => {
            const total = { seconds: 0, hostSeconds: 0 };
            for (let i = 0; i < count; i++) {
              const one = await asked(() =>
                fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-5, microBatchTokens: sequences * T }),
              );
              total.seconds += one.seconds;
              total.hostSeconds += one.hostSeconds;
            }
            return total;
          });
        },
        close: () => device.destroy(),
      });
    },
  };
}
