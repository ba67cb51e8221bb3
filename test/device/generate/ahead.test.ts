import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../../src/device/device.ts";
import { BatchGenerator } from "../../../src/generate/scheduler.ts";
import type { Generated } from "../../../src/generate/types.ts";
import { packBatch } from "../../../src/nn/batch.ts";
import type { Decoder } from "../../../src/nn/decoder.ts";
import { gatherRows } from "../../../src/ops/gather-rows.ts";
import { logProb } from "../../../src/ops/log-prob.ts";
import { Scope } from "../../../src/tensor/scope.ts";
import { fromHost } from "../../../src/tensor/tensor.ts";
import { SlowReads } from "./slow-reads.ts";
import { endless, idsOf, jobs, openDevice, plain, runAll, runJob, tinyDecoder } from "./world.ts";

let device: Device;
let decoder: Decoder;
let alone: Generated[][];
const list = jobs(38);
const blockBytes = 2 * 2 * 2 * 8 * 64 * 4;
const open = { model: "tiny", key: { step: 0, question: 0, rollout: 0 }, seed: 1, purpose: "policySample" } as const;
const long = { stop: endless, maxNewTokens: 60, sampling: plain };

beforeAll(async () => {
  device = await openDevice();
  decoder = tinyDecoder(device);
  alone = [];
  for (const job of list) alone.push(...(await runAll(device, decoder, [job], { maxRows: 1, sharing: false, readInterval: 1 })));
}, 120_000);

afterAll(async () => {
  decoder.dispose();
  await device.destroy();
});

/** The same weights on a device whose reads come late. */
async function slowly<T>(readInterval: number, fn: (slow: SlowReads, decoder: Decoder) => Promise<T>): Promise<T> {
  const before = device.memory().inUse;
  const slow = new SlowReads(device, readInterval);
  const same = tinyDecoder(slow);
  try {
    return await fn(slow, same);
  } finally {
    same.dispose();
    expect(device.memory().inUse).toBe(before);
    expect([slow.held, slow.waiting]).toEqual([0, 0]);
  }
}

describe("steps asked for ahead of the read before", () => {
  test("give the ids and log-probabilities of step by step, for any interval, batch and order", async () => {
    const mixed = [...list.keys()].sort((a, b) => ((a * 17) % 38) - ((b * 17) % 38));
    for (const readInterval of [2, 4, 16]) {
      expect(await runAll(device, decoder, list, { readInterval })).toEqual(alone);
      expect(await runAll(device, decoder, list, { readInterval, maxRows: 7 }, mixed)).toEqual(alone);
      expect(await runAll(device, decoder, list, { readInterval, maxPrefillTokens: 16, sharing: false })).toEqual(alone);
    }
  });

  test("are under way while the read before is waited for, and their kernels are run again without being asked for", async () => {
    for (const readInterval of [4, 16])
      await slowly(readInterval, async (slow, same) => {
        expect(await runAll(slow, same, list)).toEqual(alone);
        expect(slow.mostWaiting).toBe(6); // ids, log-probabilities and status, of two intervals
        expect(slow.replays).toBeGreaterThan(0);
        expect(slow.captures).toBeGreaterThan(0);
      });
  });

  test("of a long generation are all replays but for the first interval", async () => {
    await slowly(4, async (slow, same) => {
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same } } });
      const sequence = generator.open({ ...open, prompt: idsOf(1, 10) });
      await sequence.generate({ ...long, maxNewTokens: 240 });
      // The table is as wide as the longest sequence needs from the start: 5 blocks.
      expect([slow.captures, slow.replays]).toEqual([1, 59]);
      expect(generator.takeCounts().get("tiny")).toMatchObject({ intervals: 60, replayedIntervals: 59 });
      await generator.dispose();
    });
  });

  test("are as many as tokens are to be sampled, when only the budget ends them", async () => {
    await slowly(4, async (slow, same) => {
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same } } });
      const sequences = [0, 1, 2].map((rollout) => generator.open({ ...open, key: { ...open.key, rollout }, prompt: idsOf(1, 10) }));
      await Promise.all(sequences.map((sequence) => sequence.generate({ ...long, maxNewTokens: 18 })));
      expect(generator.takeCounts().get("tiny")).toMatchObject({ decodeSteps: 18, decodeRows: 54, sampledTokens: 54 });
      await generator.dispose();
    });
  });

  test("wait when blocks are short, and requests are preempted only when nothing is under way", async () => {
    for (const readInterval of [4, 16])
      for (const sharing of [true, false])
        await slowly(readInterval, async (slow, same) => {
          const generator = new BatchGenerator({
            device: slow,
            models: { tiny: { decoder: same, cacheBytes: 9 * blockBytes } },
            sharing,
          });
          expect(await Promise.all(list.map((job) => runJob(generator, job)))).toEqual(alone);
          const counts = generator.takeCounts().get("tiny")!;
          expect(counts.preemptions).toBeGreaterThan(0);
          expect(counts.evictions).toBeGreaterThan(0);
          await generator.dispose();
        });
  });

  test("of two models and of two adapters go on side by side with the results that each has by itself", async () => {
    await slowly(4, async (slow, same) => {
      const second = tinyDecoder(slow, 2, { num_hidden_layers: 1, num_key_value_heads: 4 });
      same.addAdapter("zero", { rank: 2, alpha: 4, seed: 1 });
      const others = jobs(20, "second");
      const apart = await runAll(
        slow,
        second,
        others.map((job) => ({ ...job, open: { ...job.open, model: "tiny" } })),
      );
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same }, second: { decoder: second } } });
      const adapted = list.slice(0, 8).map((job) => ({ ...job, open: { ...job.open, adapter: "zero" } }));
      const both = await Promise.all([...list, ...others, ...adapted].map((job) => runJob(generator, job)));
      expect(both.slice(0, 58)).toEqual([...alone, ...apart]);
      expect(both.slice(58).map((turns) => turns.map(({ ids }) => ids))).toEqual(
        alone.slice(0, 8).map((turns) => turns.map(({ ids }) => ids)),
      );
      await generator.dispose();
      second.dispose();
    });
  });
});

describe("while steps are under way", () => {
  test("closing a sequence at any moment rejects its request, disturbs no other, and its blocks are used again", async () => {
    for (let turns = 0; turns < 24; turns += 3)
      await slowly(4, async (slow, same) => {
        const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same, cacheBytes: 12 * blockBytes } } });
        const doomed = [5, 6].map((rollout) => generator.open({ ...open, key: { ...open.key, rollout }, prompt: idsOf(8, 30) }));
        const rejected = doomed.map((sequence) =>
          expect(sequence.generate({ ...long, maxNewTokens: 200 })).rejects.toThrow(/closed while a request was under way/),
        );
        const others = list.slice(0, 12).map((job) => runJob(generator, job));
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
        for (const sequence of doomed) sequence.close();
        await Promise.all(rejected);
        expect(await Promise.all(others)).toEqual(alone.slice(0, 12));
        expect(generator.takeCounts().get("tiny")!.blocksInUse).toBe(0);
        await generator.dispose();
      });
  });

  test("disposing rejects the requests, waits for the reads, and gives all memory back", async () => {
    await slowly(4, async (slow, same) => {
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same } } });
      const sequence = generator.open({ ...open, prompt: idsOf(1, 20) });
      const rejected = expect(sequence.generate({ ...long, maxNewTokens: 250 })).rejects.toThrow(/closed while a request was under way/);
      for (let turn = 0; turn < 9; turn++) await new Promise((resolve) => setImmediate(resolve));
      await Promise.all([generator.dispose(), rejected]);
    });
  });

  test("a read that fails rejects the requests of its model only, and the next ones work", async () => {
    await slowly(4, async (slow, same) => {
      const second = tinyDecoder(slow, 2);
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same }, second: { decoder: second } } });
      const request = { ...long, maxNewTokens: 40 };
      const sequences = [0, 1].map((rollout) => generator.open({ ...open, key: { ...open.key, rollout }, prompt: idsOf(1, 20) }));
      const other = generator.open({ ...open, model: "second", prompt: idsOf(1, 20) });
      const expected = await sequences[0]!.generate(request);
      const bad = Promise.allSettled(sequences.map((sequence) => sequence.generate(request)));
      const good = other.generate(request);
      while (slow.waiting === 0) await new Promise((resolve) => setImmediate(resolve));
      slow.failures = 1;
      expect((await bad).map((result) => result.status)).toEqual(["rejected", "rejected"]);
      expect((await good).ids).toHaveLength(40);
      const again = generator.open({ ...open, prompt: idsOf(1, 20) });
      expect(await again.generate(request)).toEqual(expected);
      await generator.dispose();
      second.dispose();
    });
  });

  test("an error of the next steps rejects the requests, and the next ones work", async () => {
    await slowly(4, async (slow, same) => {
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same } } });
      const sequence = generator.open({ ...open, prompt: idsOf(1, 20) });
      const logits = same.logits.bind(same);
      let calls = 0;
      same.logits = (hidden) => {
        // The first interval asks for four, those after it for none, and the last, which is shorter, for two.
        if (++calls === 6) throw new Error("lost");
        return logits(hidden);
      };
      await expect(sequence.generate({ ...long, maxNewTokens: 58 })).rejects.toThrow("lost");
      same.logits = logits;
      sequence.close();
      const again = generator.open({ ...open, prompt: idsOf(1, 20) });
      expect((await again.generate(long)).ids).toHaveLength(60);
      await generator.dispose();
    });
  });

  test("weights that change part a generation in two: what was sampled before is the old ones', all else the new ones'", async () => {
    await slowly(4, async (slow, same) => {
      const generator = new BatchGenerator({ device: slow, models: { tiny: { decoder: same } } });
      const prompt = idsOf(1, 50);
      const sequence = generator.open({ ...open, prompt });
      const result = sequence.generate(long);
      while (sequence.ids.length < 70) await new Promise((resolve) => setImmediate(resolve));
      const weight = same.parameters().get("model.layers.0.self_attn.v_proj.weight")!;
      const old = await decoder.parameters().get("model.layers.0.self_attn.v_proj.weight")!.readFloats();
      weight.write(old.map((x) => 1.5 * x));
      generator.invalidate("tiny");
      const { ids, logProbs } = await result;
      await generator.dispose();
      const under = async (model: Decoder): Promise<Float32Array> => {
        const scope = new Scope();
        const { tensor } = scope.run(() => {
          const hidden = model.forward(packBatch(model.device, [[...prompt, ...ids]]));
          const rows = gatherRows(
            hidden,
            fromHost(
              model.device,
              Uint32Array.from(ids, (_, i) => prompt.length - 1 + i),
              [ids.length],
            ),
          );
          return { tensor: logProb(rows, model.headWeight, fromHost(model.device, Uint32Array.from(ids), [ids.length])).logProb };
        });
        const values = await tensor.readFloats();
        scope.dispose();
        return values;
      };
      const [before, after] = [await under(decoder), await under(same)];
      const parted = logProbs.findIndex((value, i) => value !== before[i]);
      expect(parted).toBeGreaterThanOrEqual(20);
      expect(logProbs.slice(parted)).toEqual([...after.slice(parted)]);
    });
  });
});
