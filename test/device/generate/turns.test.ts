import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../../src/device/device.ts";
import { BatchGenerator } from "../../../src/generate/scheduler.ts";
import type { Decoder } from "../../../src/nn/decoder.ts";
import { SlowReads } from "./slow-reads.ts";
import { endless, idsOf, openDevice, plain, tinyDecoder } from "./world.ts";

let device: Device;

beforeAll(async () => {
  device = await openDevice();
});
afterAll(async () => {
  await device.destroy();
});

/** Two models on a device whose reads come late; closes all of it. */
async function ofTwo(readInterval: number, fn: (generator: BatchGenerator) => Promise<void>): Promise<void> {
  const slow = new SlowReads(device, readInterval);
  const decoders: Decoder[] = [tinyDecoder(slow), tinyDecoder(slow, 2)];
  const generator = new BatchGenerator({ device: slow, models: { first: { decoder: decoders[0]! }, second: { decoder: decoders[1]! } } });
  try {
    await fn(generator);
  } finally {
    await generator.dispose();
    for (const decoder of decoders) decoder.dispose();
  }
}

const request = (maxNewTokens: number, onSampled?: () => void) => ({
  ...{ stop: endless, maxNewTokens, sampling: plain },
  ...(onSampled === undefined ? {} : { onSampled }),
});

function opened(generator: BatchGenerator, model: string, rollout: number) {
  return generator.open({ model, key: { step: 0, question: 0, rollout }, seed: 1, purpose: "policySample", prompt: idsOf(rollout, 9) });
}

describe("turns of the models of one generator", () => {
  test.each([1, 4, 16])("one row beside 32 waits for at most 64 steps of theirs and those under way, read every %i", async (interval) => {
    await ofTwo(interval, async (generator) => {
      const crowd = Array.from({ length: 32 }, (_, i) => opened(generator, "first", i).generate(request(300)));
      const waits: number[] = [];
      const note = (): void => void waits.push(generator.takeCounts().get("first")!.decodeSteps);
      await opened(generator, "second", 0).generate(request(4 * interval, note));
      expect(waits).toHaveLength(4);
      expect(Math.max(...waits)).toBeLessThanOrEqual(64 + 2 * interval);
      // Full batches come first, or few rows would cost as much as many.
      expect(waits.slice(1)).toEqual([64, 64, 64]);
      await Promise.all(crowd);
    });
  });

  test("one that has to wait for its own steps keeps no other from asking for theirs: the device has work throughout", async () => {
    await ofTwo(4, async (generator) => {
      // The batch of the first model grows from 4 rows to 8 and 16 while its steps are under way, and shrinks again.
      let more = 0;
      const others: Promise<unknown>[] = [];
      const grow = (): void => {
        if (++more > 4) return;
        for (let i = 0; i < 3; i++) others.push(opened(generator, "first", 10 * more + i).generate(request(6 * (1 + i))));
      };
      const beside = opened(generator, "second", 0).generate(request(300));
      await Promise.all([0, 1, 2].map((i) => opened(generator, "first", i).generate(request(60, i === 0 ? grow : undefined))));
      await Promise.all(others);
      const counts = generator.takeCounts();
      expect(counts.get("first")!.refusedBegins).toBeGreaterThan(2);
      expect([counts.get("first")!.emptyLandings, counts.get("second")!.emptyLandings]).toEqual([0, 0]);
      await beside;
    });
  });

  test("requests join in the rows of those that have ended, while the others' steps are under way", async () => {
    await ofTwo(4, async (generator) => {
      const long = opened(generator, "first", 0).generate(request(200));
      const next = async (i: number): Promise<void> => {
        if (i < 40) await opened(generator, "first", i).generate(request(5 + (i % 3)));
        if (i < 40) await next(i + 3);
      };
      await Promise.all([next(1), next(2), next(3)]);
      // But for the first rows, which were written before there was anything under way, and the last ones, of which there are fewer.
      const { refusedBegins, emptyLandings } = generator.takeCounts().get("first")!;
      expect(refusedBegins).toBeLessThanOrEqual(2);
      expect(emptyLandings).toBeLessThanOrEqual(2);
      await long;
    });
  });
});
