import { describe, expect, it } from "vitest";
import {
  check,
  device,
  expectClose,
  expectSameBits,
  random,
  randomTensor,
  runOn,
  tensor,
  useDevices,
  vector,
  zeros,
  type Values,
} from "../kernels/harness.ts";

useDevices();

const dims = { clipLow: 0.2, clipHigh: 0.28, klCoef: 0.1, entropyCoef: 0.01, scale: 0.5, dualClip: 0, form: 0, kl: 3 };
const outputs = (n: number): Values[] => [zeros(1, n), zeros(1, n), zeros(1, 9)];
const names = ["logProb", "oldLogProb", "referenceLogProb", "entropy", "advantage"] as const;

describe("policy_loss", () => {
  it("shows NaN at a token that counts in its loss, and in its gradient where the gradient depends on it", async () => {
    for (const [i, name] of names.entries()) {
      const inputs = [0, 1, 2, 3, 4].map((k) => randomTensor(10 + k, 1, 300, "f32", -2, 0));
      inputs[i]!.values[77] = NaN;
      const [dLogProb, dEntropy, stats] = await runOn(
        device(),
        "policy_loss",
        dims,
        [...inputs, vector(new Array<number>(300).fill(1))],
        outputs(300),
      );
      expect(stats![0], `loss of ${name}`).toBeNaN();
      expect(Number.isNaN(dLogProb![77]), `gradient of ${name}`).toBe(name !== "entropy");
      expect([...dLogProb!].filter(Number.isNaN).length).toBe(name === "entropy" ? 0 : 1);
      expect([...dEntropy!].some(Number.isNaN)).toBe(false);
      expect(Number.isNaN(stats![6]), `largest difference, ${name}`).toBe(i < 2);
      expect(stats![7]).toBe(300);
    }
  });

  it("sums 70000 tokens to float32 accuracy", async () => {
    const n = 70000,
      next = random(5);
    const logProb = randomTensor(1, 1, n, "f32", -6, 0);
    // a policy close to the one that sampled: differences of about 1e-3
    const near = (seed: number): Values => {
      const step = random(seed);
      return vector(logProb.values.map((x) => x + step(-1e-3, 1e-3)));
    };
    const mask = vector(Array.from({ length: n }, () => (next() > 0 ? 1 : 0)));
    const inputs = [logProb, near(2), near(3), randomTensor(4, 1, n, "f32", 0, 3), randomTensor(6, 1, n, "f32", -1, 1.2), mask];
    const [, , stats] = await check("policy_loss", { ...dims, scale: 1e-4 }, inputs, outputs(n), { tolerance: 1e-6 });
    let k3 = 0;
    for (let i = 0; i < n; i++)
      if (mask.values[i] === 1) {
        const r = inputs[2]!.values[i]! - logProb.values[i]!;
        k3 += Math.expm1(r) - r;
      }
    expect(Math.abs(stats![4]! / k3 - 1)).toBeLessThan(1e-6); // e^r - r - 1 is 5e-7 r here: all digits would cancel
  });

  it("keeps a maximum that is larger than any of this call, and one of no tokens", async () => {
    const inputs = [vector([-1]), vector([-3]), null, vector([0]), vector([1])];
    for (const [mask, before, after] of [
      [1, 5, 5],
      [1, 1.5, 2],
      [0, 1.5, 1.5],
    ] as const) {
      const [, , stats] = await runOn(
        device(),
        "policy_loss",
        dims,
        [...inputs, vector([mask])],
        [zeros(1, 1), zeros(1, 1), vector([0, 0, 0, 0, 0, 0, before, 0, 0])],
      );
      expect(stats![6]).toBe(after);
    }
  });
});

describe("value_loss", () => {
  it("sums 70000 tokens to float32 accuracy", async () => {
    const n = 70000,
      next = random(5);
    const weight = vector(Array.from({ length: n }, () => (next() > 0 ? next(0.5, 2) : 0)));
    const inputs = [randomTensor(1, n, 1), randomTensor(2, 1, n), randomTensor(3, 1, n), weight];
    const [, stats] = await check("value_loss", { clip: 0.2, scale: 1 / 3 }, inputs, [zeros(n, 1), zeros(1, 3)], { tolerance: 2e-7 });
    expect(stats![2]).toBe(weight.values.filter((w) => w !== 0).length);
  });
});

describe("weighted_nll", () => {
  it("sums 30000 tokens to float32 accuracy, and shows NaN at a token that counts", async () => {
    const n = 30000,
      logProb = randomTensor(1, 1, n, "f32", -9, 0),
      weights = randomTensor(2, 1, n, "f32", 0, 1);
    await check("weighted_nll", { scale: 1 / 3 }, [logProb, weights], [zeros(1, n), vector([1, 2])], { tolerance: 2e-7 });
    logProb.values[20000] = NaN;
    const [, stats] = await runOn(device(), "weighted_nll", { scale: 1 }, [logProb, weights], [zeros(1, n), zeros(1, 2)]);
    expect(stats![0]).toBeNaN();
    expect(stats![1]).not.toBeNaN();
  });
});

describe("sum_squares and clip_scale", () => {
  it("are right to the last bit or so for long rows, many rows and odd widths, whatever the shards", async () => {
    for (const [n, c] of [
      [1, 70001],
      [3, 20000],
      [5000, 3],
      [1200, 130],
      [9000, 16],
    ] as const)
      await check("sum_squares", { slot: 1 }, [randomTensor(1, n, c, "f32", -1, 3)], [vector([7, 8, 9])], { tolerance: 1e-7 });
  });

  it("carry infinity and NaN from any place of a large gradient to the clip, which AdamW obeys", async () => {
    for (const bad of [NaN, Infinity, -Infinity, 1e30])
      for (const at of [0, 12345, 29999]) {
        const x = randomTensor(1, 300, 100);
        x.values[at] = bad;
        const [acc] = await runOn(device(), "sum_squares", { slot: 0 }, [x], [vector([0, 4])]);
        expect(Number.isFinite(acc![0])).toBe(false);
        const [clip] = await runOn(device(), "clip_scale", { count: 2, maxNorm: 1, gradScale: 1 }, [vector(acc!)], [zeros(1, 2)]);
        expect([...clip!]).toEqual([NaN, NaN]);
        const state = [randomTensor(2, 4, 5), randomTensor(3, 4, 5), randomTensor(4, 4, 5, "f32", 0, 1)];
        const step = { lr: 1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, correction1: 0.1, correction2: 0.01 };
        const after = await runOn(device(), "adamw", step, [tensor(4, 5, new Float64Array(20).fill(bad)), vector(clip!)], state);
        after.forEach((data, i) => {
          expectSameBits(data, Float32Array.from(state[i]!.values), "state");
        });
      }
  });

  it("add a thousand slots of very different sizes", async () => {
    const next = random(3),
      acc = vector(Array.from({ length: 1000 }, () => 10 ** next(-6, 6)));
    const [result] = await check("clip_scale", { count: 1000, maxNorm: 2, gradScale: 1 }, [acc], [zeros(1, 2)], { tolerance: 1.2e-7 });
    expectClose([result![1]!], [2 / (result![0]! + 1e-6)], 1e-7, "scale");
  });

  it("give norm 0 and scale 1 for gradients of zero", async () => {
    const [acc] = await runOn(device(), "sum_squares", { slot: 0 }, [zeros(30, 30)], [vector([9])]);
    const [result] = await runOn(device(), "clip_scale", { count: 1, maxNorm: 1, gradScale: 1 }, [vector(acc!)], [zeros(1, 2)]);
    expect([...result!]).toEqual([0, 1]);
  });
});
