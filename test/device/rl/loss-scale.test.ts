/** Updates with a scaled loss: the same bits where nothing overflows, skipped and counted where something does, and nothing lost at a resume. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { saveModelFolder } from "../../../src/checkpoint/save-model.ts";
import { latestCheckpoint } from "../../../src/checkpoint/run-state.ts";
import { Decoder } from "../../../src/nn/decoder.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { LossScaler } from "../../../src/optim/loss-scaler.ts";
import type { Scored } from "../../../src/rl/trajectory.ts";
import { update, type UpdateSettings } from "../../../src/rl/update.ts";
import type { UpdateStats } from "../../../src/rl/update-stats.ts";
import type { Recorded } from "../../../src/run/journal.ts";
import { States, type StatesRun } from "../../../src/run/states.ts";
import { fineTuneStep } from "../../../src/sft/fine-tune.ts";
import { philox } from "../../../src/util/philox.ts";
import { makeDevice, testDevice, useDevice } from "../../helpers/device.ts";
import { randomIds, tinyConfigs } from "../../helpers/tiny-model.ts";
import { trajectoryOf } from "../../helpers/trajectories.ts";
import { SlowReads } from "../generate/slow-reads.ts";

const config = tinyConfigs.qwen2;
const settings: UpdateSettings = { microBatchTokens: 150, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0.01 };
const batch: Scored[] = Array.from({ length: 6 }, (_, i) => {
  const word = (n: number, m: number): number => philox([7, i], [n, 0, 0, 0])[0] % m;
  const mask = `${"0".repeat(3 + word(0, 9))}${"1".repeat(2 + word(1, 20))}${"0".repeat(5 + word(2, 30))}${"1".repeat(1 + word(3, 20))}`;
  const trajectory = trajectoryOf({
    ids: Array.from(mask, (_c, t) => word(10 + t, config.vocabulary)),
    mask,
    question: i >> 1,
    rollout: i & 1,
    temperature: 0.8,
  });
  const logProbs = trajectory.lossMask.map((bit) => (bit === 1 ? -Math.log(config.vocabulary) : 0));
  return { trajectory: { ...trajectory, logProbs }, reward: 0, advantage: i % 2 === 0 ? 1 : -1 };
});
const examples = Array.from({ length: 3 }, (_, i) => {
  const ids = randomIds(40 + 9 * i, config.vocabulary, i);
  return { ids, weights: ids.map((_, t) => (t < 5 ? 0 : 1)) };
});

async function weights(decoder: Decoder): Promise<Float32Array[]> {
  return Promise.all([...decoder.parameters().values()].map((parameter) => parameter.readFloats()));
}

/** What states are saved of. */
function stateParts(
  folder: string,
  from: string,
  { policy, optimizer }: { policy: Decoder; optimizer: AdamW },
  lossScaler: LossScaler,
): StatesRun {
  return {
    config: {
      name: "run",
      seed: 1,
      output: { runs: folder, checkpoints: folder },
      train: { keepCheckpoints: 1 },
      algorithm: { klTarget: 0 },
    },
    device: { description: "" },
    build: "",
    inputs: {},
    ...{ method: { name: "m" }, engine: { name: "e" }, reward: { name: "r" } },
    policy: { decoder: policy, folder: from, adapter: undefined },
    optimizer,
    lossScaler,
    ...{ critic: null, criticModel: null, engines: { adaptiveNoise: null } },
  } as unknown as StatesRun;
}

describe("a scaled loss", () => {
  const device = useDevice();

  function setUp(lossScaler: LossScaler | null, on = device()) {
    const policy = Decoder.initialise(config, on, 3);
    const optimizer = new AdamW(decayGroups(policy.parameters(), 0.1), { maxGradNorm: 0.5, lossScaler });
    return {
      policy,
      optimizer,
      dispose: () => {
        optimizer.dispose();
        policy.dispose();
      },
    };
  }

  /** The next update overflows. */
  function spoil({ optimizer, policy }: { optimizer: AdamW; policy: Decoder }): void {
    const original = optimizer.update.bind(optimizer);
    optimizer.update = (rate) => {
      const [first] = policy.parameters().values();
      first!.grad!.write(new Float32Array(first!.size).fill(Infinity));
      optimizer.update = original;
      return original(rate);
    };
  }

  it("gives the losses, norms and weights of an unscaled one, bit for bit, in f32: powers of two commute with rounding", async () => {
    const results: unknown[] = [];
    for (const scaler of [null, new LossScaler(), new LossScaler({ scale: 2 ** 10, growAfter: 1 })]) {
      const { policy, optimizer, dispose } = setUp(scaler);
      const numbers: number[] = [];
      for (let u = 0; u < 2; u++) {
        const { loss, gradNorm, entropy, klOldNew, overflowed } = await update(policy, optimizer, batch, settings, 1e-3);
        expect(overflowed).toBe(false);
        numbers.push(loss, gradNorm, entropy, klOldNew);
      }
      for (let u = 0; u < 2; u++) {
        const { loss, gradNorm } = await fineTuneStep(policy, optimizer, examples, { learningRate: 1e-3, microBatchTokens: 60 });
        numbers.push(loss, gradNorm);
      }
      expect(numbers.every(Number.isFinite)).toBe(true);
      results.push([numbers, await weights(policy)]);
      dispose();
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it("that overflows changes nothing but itself: the update after it is the one that would have been", async () => {
    const results: Float32Array[][] = [];
    for (const spoilt of [false, true]) {
      const world = setUp(new LossScaler());
      const { policy, optimizer } = world;
      await update(policy, optimizer, batch, settings, 1e-3);
      if (spoilt) {
        const before = await weights(policy);
        spoil(world);
        const stats = await update(policy, optimizer, batch, settings, 1e-3);
        expect(stats).toMatchObject({ gradNorm: NaN, overflowed: true, lossScale: 65536, overflows: 1 });
        expect(stats.loss).toBeLessThan(1);
        expect(await weights(policy)).toEqual(before);
        expect([optimizer.step, optimizer.lossScale]).toEqual([1, 32768]);
      }
      const stats = await update(policy, optimizer, batch, settings, 1e-3);
      expect(stats).toMatchObject({ overflowed: false, lossScale: spoilt ? 32768 : 65536, overflows: spoilt ? 1 : 0 });
      results.push(await weights(policy));
      world.dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("is not blamed for a loss that is not finite itself", async () => {
    const { policy, optimizer, dispose } = setUp(new LossScaler());
    policy.parameters().get("model.norm.weight")!.write(new Float32Array(config.width).fill(NaN));
    expect(await update(policy, optimizer, batch, settings, 1e-3)).toMatchObject({ loss: NaN, gradNorm: NaN, overflowed: false });
    const tuned = await fineTuneStep(policy, optimizer, examples, { learningRate: 1e-3, microBatchTokens: 60 });
    expect(tuned).toMatchObject({ loss: NaN, gradNorm: NaN, overflowed: false });
    dispose();
  });

  it("goes on from a saved state with the same scales, counts and bits", async () => {
    const folder = await mkdtemp(join(tmpdir(), "loss-scale-"));
    try {
      const results: unknown[] = [];
      for (const interrupted of [false, true]) {
        let scaler = new LossScaler({ growAfter: 2 });
        let world = setUp(scaler);
        const scales: number[] = [];
        for (let u = 0; u < 6; u++) {
          if (interrupted && u === 3) {
            const from = join(folder, "model");
            await saveModelFolder(world.policy, from);
            const states = (): States => new States(stateParts(folder, from, world, scaler));
            await states().save({
              ...{ step: u, updates: world.optimizer.step, history: { best: null }, receipt: {}, made: {}, logBytes: {} },
              sync: () => undefined,
            } as unknown as Recorded);
            world.dispose();
            scaler = new LossScaler({ growAfter: 2 });
            world = setUp(scaler);
            await states().restore((await latestCheckpoint(join(folder, "run")))!);
          }
          if (u === 1) spoil(world);
          scales.push((await update(world.policy, world.optimizer, batch, settings, 1e-3)).lossScale);
        }
        results.push([scales, scaler.state(), world.optimizer.step, await weights(world.policy)]);
        world.dispose();
      }
      expect(results[1]).toEqual(results[0]);
      expect((results[0] as unknown[]).slice(0, 3)).toEqual([
        [65536, 65536, 32768, 32768, 65536, 65536],
        { scale: 131072, good: 0, skipped: 1 },
        5,
      ]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("waits once in an update: all its kernels and reads are asked for before the first answer", async () => {
    class Watched extends SlowReads {
      answered = 0;
      late = 0;
      override run(...call: Parameters<SlowReads["run"]>): void {
        if (this.answered > 0) this.late++;
        super.run(...call);
      }
      override async read(...args: Parameters<SlowReads["read"]>): ReturnType<SlowReads["read"]> {
        if (this.answered > 0) this.late++;
        const values = await super.read(...args);
        this.answered++;
        return values;
      }
    }
    const slow = new Watched(device(), 4);
    const { policy, optimizer, dispose } = setUp(null, slow);
    const steps: (() => Promise<unknown>)[] = [
      () => update(policy, optimizer, batch, settings, 1e-3),
      () =>
        update(
          policy,
          optimizer,
          batch.map((row) => ({ ...row, advantage: 0 })),
          { ...settings, klCoef: 0, entropyCoef: 0 },
          1e-3,
        ),
      () => fineTuneStep(policy, optimizer, examples, { learningRate: 1e-3, microBatchTokens: 60 }),
    ];
    for (const step of steps) {
      slow.answered = slow.late = 0;
      await step();
      expect(slow.answered).toBeGreaterThan(1);
      expect(slow.late).toBe(0);
    }
    dispose();
  });
});

describe.skipIf(testDevice !== "webgpu")("training in f16", () => {
  it("lowers a scale that overflows until it fits, and then has the gradients of f32 to 2 %", async () => {
    const runs: UpdateStats[][] = [];
    for (const precision of ["f32", "f16"] as const) {
      const device = await makeDevice({ precision });
      const policy = Decoder.initialise(config, device, 3);
      const lossScaler = precision === "f16" ? new LossScaler({ scale: 2 ** 24 }) : null;
      const optimizer = new AdamW(decayGroups(policy.parameters(), 0.1), { maxGradNorm: 0.5, lossScaler });
      const stats: UpdateStats[] = [];
      while (stats.length < 24 && optimizer.step < 2) stats.push(await update(policy, optimizer, batch, settings, 1e-3));
      runs.push(stats);
      optimizer.dispose();
      policy.dispose();
      await device.destroy();
    }
    const [exact, rounded] = runs as [UpdateStats[], UpdateStats[]];
    const good = rounded.filter(({ overflowed }) => !overflowed);
    expect(rounded.length).toBeGreaterThan(2);
    expect(good).toHaveLength(2);
    expect(good[1]!.overflows).toBe(rounded.length - 2);
    for (const [u, { loss, gradNorm }] of good.entries()) {
      expect(Math.abs(loss - exact[u]!.loss)).toBeLessThan(5e-3);
      expect(gradNorm / exact[u]!.gradNorm).toBeCloseTo(1, 1.7);
    }
  });
});
