import { describe, expect, it } from "vitest";
import { policyLoss, policyLossStats, type PolicyLossOptions } from "../../src/ops/policy-loss.ts";
import { backward } from "../../src/tensor/backward.ts";
import type { Device } from "../../src/device/device.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { checkOp, randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

type Row = { logProb: number; old: number; advantage: number; entropy?: number; reference?: number; mask?: number };

async function run(
  device: Device,
  rows: readonly Row[],
  options: PolicyLossOptions,
): Promise<{ stats: Record<string, number>; dLogProb: number[]; dEntropy: number[] | null }> {
  const vector = (pick: (row: Row) => number) => fromHost(device, rows.map(pick), [rows.length]);
  const [logProb, entropy] = [vector((row) => row.logProb), vector((row) => row.entropy ?? 0)];
  const others = {
    oldLogProb: vector((row) => row.old),
    advantage: vector((row) => row.advantage),
    weight: vector((row) => row.mask ?? 1),
    referenceLogProb: rows[0]?.reference === undefined ? null : vector((row) => row.reference ?? NaN),
  };
  logProb.requiresGrad = entropy.requiresGrad = true;
  const { tape, value } = withTape(() => policyLoss({ logProb, entropy, ...others }, options));
  backward(tape, value);
  const read = await value.readFloats();
  const result = {
    stats: Object.fromEntries(policyLossStats.map((name, i) => [name, read[i]!])),
    dLogProb: [...(await logProb.grad!.readFloats())],
    dEntropy: entropy.grad === null ? null : [...(await entropy.grad.readFloats())],
  };
  for (const tensor of [logProb, entropy, ...Object.values(others), value]) tensor?.dispose();
  return result;
}

const clip = { clipLow: 0.2, clipHigh: 0.2, scale: 1 };

describe.each(deviceVariants)("policyLoss on $name", ({ options }) => {
  const cpu = useDevice(options);

  // (advantage, ratio) -> loss and gradient with respect to the log-probability: -ratio A, or 0 where the clipped branch wins.
  it.each([
    [1, 1.5, -1.2, 0],
    [1, 0.5, -0.5, -0.5],
    [-1, 1.5, 1.5, 1.5],
    [-1, 0.5, 0.8, 0],
    [-1, 5, 5, 5],
    [1, 5, -1.2, 0],
    [0.7, 1, -0.7, -0.7],
  ])("advantage %d, ratio %d gives loss %d and gradient %d", async (advantage, ratio, loss, gradient) => {
    const { stats, dLogProb } = await run(cpu(), [{ logProb: Math.log(ratio) - 2, old: -2, advantage }], clip);
    expect(stats["loss"]).toBeCloseTo(loss, 5);
    expect(dLogProb[0]).toBeCloseTo(gradient, 5);
    expect(stats["clippedLow"]).toBe(gradient === 0 && ratio < 1 ? 1 : 0);
    expect(stats["clippedHigh"]).toBe(gradient === 0 && ratio > 1 ? 1 : 0);
  });

  it("adds k3 to a reference: .07213177 and slope 1/3 for probabilities .3 and .2", async () => {
    const { stats, dLogProb } = await run(cpu(), [{ logProb: Math.log(0.3), old: Math.log(0.3), advantage: 0, reference: Math.log(0.2) }], {
      ...clip,
      klCoef: 1,
    });
    expect(stats["k3"]).toBeCloseTo(0.07213177, 6);
    expect(stats["loss"]).toBeCloseTo(0.07213177, 6);
    expect(dLogProb[0]).toBeCloseTo(1 / 3, 5);
  });

  it("takes the mean over tokens whatever the split: two calls into one statistic equal one", async () => {
    const device = cpu();
    const rows = Array.from({ length: 9 }, (_, n): Row => ({
      logProb: -1 - n / 7,
      old: -1 - n / 9,
      advantage: (n % 3) - 1,
      entropy: n / 10,
      mask: n % 4 === 0 ? 0 : 1,
    }));
    const whole = await run(device, rows, { ...clip, scale: 1 / 6, entropyCoef: 0.01 });
    const stats = fromHost(device, new Float32Array(9), [1, 9]);
    const parts: number[] = [];
    for (const part of [rows.slice(0, 4), rows.slice(4)]) {
      const vector = (pick: (row: Row) => number) => fromHost(device, part.map(pick), [part.length]);
      const inputs = {
        logProb: vector((r) => r.logProb),
        oldLogProb: vector((r) => r.old),
        entropy: vector((r) => r.entropy!),
        advantage: vector((r) => r.advantage),
        weight: vector((r) => r.mask!),
      };
      inputs.logProb.requiresGrad = true;
      const { tape, value } = withTape(() => policyLoss(inputs, { ...clip, scale: 1 / 6, entropyCoef: 0.01, stats }));
      backward(tape, value);
      parts.push(...(await inputs.logProb.grad!.readFloats()));
      for (const tensor of Object.values(inputs)) tensor.dispose();
    }
    const got = await stats.readFloats();
    policyLossStats.forEach((name, i) => {
      expect(got[i], name).toBeCloseTo(whole.stats[name]!, 6);
    });
    expect(parts).toEqual(whole.dLogProb);
    stats.dispose();
  });

  it("gives a masked token no say, NaN or not, and counts tokens and the largest difference", async () => {
    const rows: Row[] = [
      { logProb: -1, old: -1.25, advantage: 2, entropy: 0.5, reference: -1 },
      { logProb: -3, old: -2, advantage: -1, entropy: 0.25, reference: -2, mask: 0 },
    ];
    const poisoned: Row[] = [rows[0]!, { logProb: NaN, old: NaN, advantage: NaN, entropy: NaN, reference: NaN, mask: 0 }];
    const settings = { ...clip, klCoef: 0.1, entropyCoef: 0.01 };
    const plain = await run(cpu(), rows, settings);
    expect(await run(cpu(), poisoned, settings)).toEqual(plain);
    expect(plain.stats["tokens"]).toBe(1);
    expect(plain.stats["logProbDifferenceMax"]).toBe(0.25);
    expect(plain.stats["k1"]).toBeCloseTo(-0.25, 6);
    expect(plain.dLogProb[1]).toBe(0);
    expect(plain.dEntropy![1]).toBe(0);
  });

  for (const N of [1, 5, 70, 1030])
    it(`matches float64 and central differences for N ${N}`, async () => {
      const values = (seed: number) => randomValues(N, seed).map((x) => x / 2 - 1);
      await checkOp(cpu(), {
        inputs: {
          logProb: { shape: [N], values: values(1), grad: true },
          old: { shape: [N], values: values(2) },
          reference: { shape: [N], values: values(3) },
          entropy: { shape: [N], values: values(4), grad: true },
          advantage: { shape: [N], values: randomValues(N, 5) },
          mask: { shape: [N], values: Array.from({ length: N }, (_, n) => (n % 3 === 1 ? 0 : 1)) },
        },
        run: (t) =>
          policyLoss(
            {
              logProb: t.logProb,
              oldLogProb: t.old,
              referenceLogProb: t.reference,
              entropy: t.entropy,
              advantage: t.advantage,
              weight: t.mask,
            },
            { clipLow: 0.2, clipHigh: 0.28, klCoef: 0.05, entropyCoef: 0.01, scale: 1 / N },
          ),
        loss: true,
      });
    });
});
