/**
 * How long a GPU has nothing to do while policy and simulator take turns: rollouts of the quickstart, and from timestamps that the GPU itself
 * writes at the beginning and the end of every compute pass, the share of time in which none was under way.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { groupTasks, rolloutAll } from "#inside/agent/rollout-all.js";
import { dawn } from "#inside/device/dawn.js";
import { openTraining, packagedConfig } from "zerosearch";
import type { Bench } from "../bench.js";
import type { World } from "./world.js";

/** Passes that one query set holds, two timestamps each. */
const passes = 2048;

/** Timestamps of the compute passes of a device. */
export class PassTimes {
  private readonly device: GPUDevice;
  private querySet: GPUQuerySet | null = null;
  private used = 0;
  private full: GPUBuffer[] = [];

  /** From here on passes are timed. */
  constructor(device: GPUDevice) {
    this.device = device;
    const createCommandEncoder = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => {
      const encoder = createCommandEncoder(descriptor);
      const beginComputePass = encoder.beginComputePass.bind(encoder);
      encoder.beginComputePass = (pass) => {
        if (this.used === 2 * passes) this.resolve(encoder);
        this.querySet ??= device.createQuerySet({ type: "timestamp", count: 2 * passes });
        const at = this.used;
        this.used += 2;
        const timestampWrites = { querySet: this.querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
        return beginComputePass({ ...pass, timestampWrites });
      };
      return encoder;
    };
  }

  /** Of the time since the last call, from the first pass to the last: the share in which no pass was under way, and the seconds. */
  async take(): Promise<{ readonly empty: number; readonly seconds: number }> {
    const encoder = this.device.createCommandEncoder();
    this.resolve(encoder);
    this.device.queue.submit([encoder.finish()]);
    const spans: (readonly [number, number])[] = [];
    for (const buffer of this.full.splice(0)) {
      await buffer.mapAsync(1);
      const times = new BigUint64Array(buffer.getMappedRange());
      for (let i = 0; i < times.length; i += 2) spans.push([Number(times[i]!), Number(times[i + 1]!)]);
      buffer.destroy();
    }
    spans.sort((a, b) => a[0] - b[0]);
    const first = spans[0]?.[0] ?? 0;
    let [end, gaps] = [first, 0];
    for (const [from, to] of spans) {
      gaps += Math.max(0, from - end);
      end = Math.max(end, to);
    }
    return { empty: end === first ? 0 : gaps / (end - first), seconds: (end - first) / 1e9 };
  }

  private resolve(encoder: GPUCommandEncoder): void {
    if (this.querySet === null || this.used === 0) return;
    const size = 8 * this.used;
    const resolved = this.device.createBuffer({ size, usage: 0x200 | 0x4 }); // QUERY_RESOLVE, COPY_SRC
    const read = this.device.createBuffer({ size, usage: 0x1 | 0x8 }); // MAP_READ, COPY_DST
    encoder.resolveQuerySet(this.querySet, 0, this.used, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, read, 0, size);
    this.full.push(read);
    this.querySet = null;
    this.used = 0;
  }
}

/** The next device that is opened through Dawn on this adapter is timed. */
async function timeNext(adapter: string | null): Promise<{ times: PassTimes | null; readonly release: () => void }> {
  const gpu = await dawn(adapter === null ? {} : { adapter });
  const { requestAdapter } = gpu;
  const found: { times: PassTimes | null; readonly release: () => void } = {
    times: null,
    release: () => {
      gpu.requestAdapter = requestAdapter;
    },
  };
  gpu.requestAdapter = async (options) => {
    const one = await requestAdapter.call(gpu, options);
    if (one === null) return null;
    const requestDevice = one.requestDevice.bind(one);
    one.requestDevice = async (descriptor) => {
      const device = await requestDevice(descriptor);
      found.times = new PassTimes(device);
      return device;
    };
    return one;
  };
  return found;
}

export function bubbleBenches(world: World): Bench[] {
  const { adapter, precision: given } = world.options;
  const [questions, group] = world.sized([4, 8], [64, 5]);
  const bench: Bench & { note?: string } = {
    name: "rl/bubbles",
    unit: "rollouts/s",
    amount: questions * group,
    note: `${questions} x ${group} rollouts of the quickstart with the simulator; later ones than the first`,
    async open() {
      await world.dropDevices();
      const folder = mkdtempSync(join(tmpdir(), "zerosearch-bench-"));
      const timed = await timeNext(adapter);
      const training = await openTraining({
        config: packagedConfig("quickstart"),
        settings: [
          ...["device.kind=webgpu", `device.precision=${given ?? "f32"}`, ...(adapter === null ? [] : [`device.adapter=${adapter}`])],
          ...[`output.runs=${join(folder, "runs")}`, `output.checkpoints=${join(folder, "checkpoints")}`],
          ...[`train.questionsPerStep=${questions}`, `train.groupSize=${group}`, "train.saveEvery=0"],
        ],
      });
      timed.release();
      const { run } = training;
      let step = 0;
      let rounds: number[] = [];
      return {
        description: run.device.description,
        most: 1,
        async run() {
          step += 1;
          if (step > 1) await timed.times?.take();
          const start = performance.now();
          await rolloutAll(groupTasks(run.questions.step(step), group, step), run.method, { ...run.context, engine: run.engine });
          await run.device.synchronize();
          const seconds = (performance.now() - start) / 1000;
          const { empty } = (await timed.times?.take()) ?? { empty: NaN };
          rounds.push(empty);
          const percents = rounds.map((share) => (100 * share).toFixed(1)).join(", ");
          bench.note = `${questions} x ${group} rollouts of the quickstart; no compute pass under way, by the GPU's timestamps, % of each round's time: ${percents}`;
          return { seconds };
        },
        async close() {
          rounds = [];
          await training.close();
          rmSync(folder, { recursive: true, force: true });
        },
      };
    },
  };
  return [bench];
}
