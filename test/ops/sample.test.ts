import { describe, expect, it } from "vitest";
import { sample } from "../../src/ops/sample.ts";
import { fromHost, type Tensor } from "../../src/tensor/tensor.ts";
import { withScope } from "../../src/tensor/scope.ts";
import type { Device } from "../../src/device/device.ts";
import { randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

interface Row {
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly key?: number;
  readonly position: number;
}

/** Draws one id per row from the same logits. */
async function draw(device: Device, logits: ArrayLike<number>, rows: readonly Row[]): Promise<{ ids: number[]; logProbs: number[] }> {
  const R = rows.length;
  const V = logits.length;
  const all = Float32Array.from({ length: R * V }, (_, i) => logits[i % V]!);
  const result = withScope(() =>
    sample(
      fromHost(device, all, [R, V]),
      fromHost(
        device,
        rows.flatMap(({ temperature, topK = 0, topP = 1 }) => [temperature, topK, topP, 0]),
        [R, 4],
      ),
      fromHost(device, Uint32Array.from(rows.flatMap(({ key = 1 }) => [key, 2, 3, 4, 5])), [R, 5]),
      fromHost(device, Uint32Array.from(rows.map(({ position }) => position)), [R]),
    ),
  );
  const ids = [...((await result.ids.read()) as Uint32Array)];
  const logProbs = [...(await result.logProb.readFloats())];
  for (const tensor of Object.values(result) as Tensor[]) tensor.dispose();
  return { ids, logProbs };
}

const logits = [1, 3, 0.5, 2.9, -1, 3, 0];

function probabilities(temperature: number, kept: readonly number[]): number[] {
  const weights = logits.map((z, i) => (kept.includes(i) ? Math.exp(z / temperature) : 0));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

describe.each(deviceVariants)("sample on $name", ({ options }) => {
  const cpu = useDevice(options);

  it("takes the largest logit at temperature 0, the first of equals", async () => {
    const { ids, logProbs } = await draw(cpu(), logits, [{ temperature: 0, position: 3 }]);
    expect(ids).toEqual([1]);
    expect(logProbs[0]).toBeCloseTo(Math.log(probabilities(1, [0, 1, 2, 3, 4, 5, 6])[1]!), 5);
  });

  it.each([0, 3, 5, 511, 512, 1029, 1030])(
    "reports a logit that is no number, at id %i of 1031, as a log-probability of NaN",
    async (place) => {
      for (const wrong of [NaN, Infinity]) {
        const row = randomValues(1031, 7);
        row[place] = wrong;
        const { logProbs } = await draw(cpu(), row, [
          { temperature: 0, position: 3 },
          { temperature: 1, position: 3 },
        ]);
        expect(logProbs).toEqual([NaN, NaN]);
      }
    },
  );

  it.each([
    ["temperature 1", { temperature: 1 }, [0, 1, 2, 3, 4, 5, 6]],
    ["temperature 0.6", { temperature: 0.6 }, [0, 1, 2, 3, 4, 5, 6]],
    ["top-k 3", { temperature: 1, topK: 3 }, [1, 3, 5]],
    ["top-p 0.5: the smallest set that holds it", { temperature: 1, topP: 0.5 }, [1, 5]],
    ["top-k 4 and top-p 0.9", { temperature: 1.5, topK: 4, topP: 0.9 }, [1, 3, 5]],
  ])("draws from the right distribution with %s, and reports log-probabilities over all of V", async (_, settings, kept) => {
    const count = 4000;
    const { ids, logProbs } = await draw(
      cpu(),
      logits,
      Array.from({ length: count }, (__, n) => ({ ...settings, position: n })),
    );
    const expected = probabilities(settings.temperature, kept);
    const seen = logits.map((__, id) => ids.filter((drawn) => drawn === id).length / count);
    // Five standard deviations of a share.
    seen.forEach((share, id) => {
      expect(Math.abs(share - expected[id]!), `share of ${id}`).toBeLessThan(
        5 * Math.sqrt((expected[id]! * (1 - expected[id]!)) / count) + 1e-12,
      );
    });
    const full = probabilities(settings.temperature, [0, 1, 2, 3, 4, 5, 6]);
    ids.forEach((id, n) => {
      expect(Math.abs(logProbs[n]! - Math.log(full[id]!))).toBeLessThan(1e-5);
    });
  });

  it("draws by key and position alone: the same row anywhere gives the same id", async () => {
    const wide = randomValues(999, 3).map((x) => 3 * x);
    const rows = Array.from({ length: 30 }, (_, n): Row => ({ temperature: 1, key: n % 3, position: n % 10 }));
    const all = await draw(cpu(), wide, rows);
    for (const n of [0, 7, 29]) expect((await draw(cpu(), wide, [rows[n]!])).ids[0]).toBe(all.ids[n]);
    expect(new Set(all.ids).size).toBeGreaterThan(20);
  });

  it("leaves inactive rows as they were", async () => {
    const device = cpu();
    const into = { ids: fromHost(device, Uint32Array.of(77, 77), [2]), logProb: fromHost(device, [5, 5], [2]) };
    withScope(() => {
      sample(
        fromHost(device, [...logits, ...logits], [2, 7]),
        fromHost(device, [0, 0, 1, 0, 0, 0, 1, 0], [2, 4]),
        fromHost(device, new Uint32Array(10), [2, 5]),
        fromHost(device, Uint32Array.of(0xffffffff, 1), [2]),
        into,
      );
    });
    expect([...(await into.ids.read())]).toEqual([77, 1]);
    expect((await into.logProb.readFloats())[0]).toBe(5);
    into.ids.dispose();
    into.logProb.dispose();
  });
});
