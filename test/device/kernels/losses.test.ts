import { describe, expect, it } from "vitest";
import {
  check,
  expectClose,
  expectGradient,
  random,
  randomTensor,
  runReference,
  useDevices,
  vector,
  zeros,
  type Values,
} from "./harness.ts";

useDevices();
const plain = { clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0, scale: 1, dualClip: 0, form: 0, kl: 3 };
const outputs = (n: number): Values[] => [zeros(1, n), zeros(1, n), zeros(1, 9)];
const ones = (n: number): Values => vector(new Array<number>(n).fill(1));

describe("policy_loss", () => {
  it("gives the clipped loss of (A, ratio) by hand: (1, 1.5) -1.2, (1, 0.5) -0.5, (-1, 1.5) 1.5, (-1, 0.5) 0.8, (-1, 5) 5, (1, 5) -1.2", async () => {
    for (const [A, ratio, loss, slope] of [
      [1, 1.5, -1.2, 0],
      [1, 0.5, -0.5, -0.5],
      [-1, 1.5, 1.5, 1.5],
      [-1, 0.5, 0.8, 0],
      [-1, 5, 5, 5],
      [1, 5, -1.2, 0],
      [1, 1, -1, -1],
    ] as const) {
      const [dLogProb, , stats] = await check(
        "policy_loss",
        plain,
        [vector([Math.log(ratio) - 1]), vector([-1]), null, vector([0]), vector([A]), ones(1)],
        outputs(1),
        { tolerance: 1e-6 },
      );
      expectClose([stats![0]!], [loss], 1e-6, `loss of A ${A}, ratio ${ratio}`);
      if (slope === 0)
        expect(dLogProb![0]).toBe(0); // exactly
      else expectClose([dLogProb![0]!], [slope], 1e-6, "slope");
      expect([stats![1], stats![2]]).toEqual([loss === 0.8 ? 1 : 0, loss === -1.2 ? 1 : 0]);
    }
  });
  it("with a dual clip of 3 holds (A -1, ratio 5) at 3 and passes no gradient, and leaves all else", async () => {
    for (const [A, ratio, loss, slope, hits] of [
      [-1, 5, 3, 0, 1],
      [-1, 1.5, 1.5, 1.5, 0],
      [-1, 0.5, 0.8, 0, 0],
      [1, 5, -1.2, 0, 0],
    ] as const) {
      const inputs = [vector([Math.log(ratio) - 1]), vector([-1]), null, vector([0]), vector([A]), ones(1)];
      const [dLogProb, , stats] = await check("policy_loss", { ...plain, dualClip: 3 }, inputs, outputs(1), { tolerance: 1e-6 });
      expectClose([stats![0]!, dLogProb![0]!], [loss, slope], 1e-6, `A ${A}, ratio ${ratio}`);
      expect(stats![8]).toBe(hits);
    }
  });
  it("as cispo weighs log-probabilities with the ratio held between its bounds, as reinforce with nothing", async () => {
    const lp = Math.log(5) - 1;
    const at = async (form: number, A: number): Promise<number[]> => {
      const inputs = [vector([lp]), vector([-1]), null, vector([0]), vector([A]), ones(1)];
      const [dLogProb, , stats] = await check("policy_loss", { ...plain, form }, inputs, outputs(1), { tolerance: 1e-6 });
      return [stats![0]!, dLogProb![0]!, stats![1]!, stats![2]!];
    };
    expectClose(await at(1, 1), [-1.2 * lp, -1.2, 0, 1], 1e-6, "cispo");
    expectClose(await at(1, -1), [1.2 * lp, 1.2, 0, 1], 1e-6, "cispo, negative");
    expectClose(await at(2, 1), [-lp, -1, 0, 0], 1e-6, "reinforce");
  });
  it("estimates KL as k1, k2 or k3: .40546511, .08220098, .07213177 at policy .3, reference .2", async () => {
    for (const [kl, value, slope] of [
      [1, 0.40546511, 1],
      [2, 0.08220098, 0.40546511],
      [3, 0.07213177, 1 / 3],
    ] as const) {
      const lp = Math.log(0.3);
      const inputs = [vector([lp]), vector([lp]), vector([Math.log(0.2)]), vector([0]), vector([0]), ones(1)];
      const [dLogProb, , stats] = await check("policy_loss", { ...plain, klCoef: 1, kl }, inputs, outputs(1), { tolerance: 1e-6 });
      expectClose([stats![0]!, dLogProb![0]!, stats![4]!], [value, slope, 0.07213177], 1e-6, `k${kl}`);
    }
  });
  it("gives k3 0.07213177 and slope 1/3 at policy 0.3, reference 0.2", async () => {
    const lp = Math.log(0.3),
      [dLogProb, , stats] = await check(
        "policy_loss",
        { ...plain, klCoef: 1 },
        [vector([lp]), vector([lp]), vector([Math.log(0.2)]), vector([0]), vector([0]), ones(1)],
        outputs(1),
        { tolerance: 1e-6 },
      );
    expectClose([stats![4]!, stats![0]!, dLogProb![0]!], [0.07213177, 0.07213177, 1 / 3], 1e-6, "k3");
  });
  it("matches the reference for many tokens and adds to the stats it finds", async () => {
    const kinds = [
      { dualClip: 0, form: 0, kl: 3 },
      { dualClip: 1.5, form: 0, kl: 2 },
      { dualClip: 0, form: 1, kl: 1 },
      { dualClip: 0, form: 2, kl: 3 },
    ];
    for (const [i, n] of [1, 7, 1023, 1025, 3000].entries())
      for (const withReference of [true, false]) {
        const next = random(n),
          mask = vector(Array.from({ length: n }, () => (next() > 0.3 ? 0 : 1)));
        const inputs = [
          randomTensor(1, 1, n, "f32", -3, 0),
          randomTensor(2, 1, n, "f32", -3, 0),
          withReference ? randomTensor(3, 1, n, "f32", -3, 0) : null,
          randomTensor(4, 1, n, "f32", 0, 3),
          randomTensor(5, 1, n, "f32", -2, 2),
          mask,
        ];
        await check(
          "policy_loss",
          { clipLow: 0.2, clipHigh: 0.28, klCoef: 0.05, entropyCoef: 0.01, scale: 0.125, ...kinds[i % 4]! },
          inputs,
          [zeros(1, n), zeros(1, n), vector([1, 2, 3, 4, 5, 6, 0.5, 8, 9])],
          { tolerance: 2e-6 },
        );
      }
  });
  it("has the gradients of its loss", async () => {
    const n = 40,
      dims = { clipLow: 0.2, clipHigh: 0.28, klCoef: 0.1, entropyCoef: 0.02, scale: 0.5, dualClip: 0, form: 0, kl: 3 };
    const lp = randomTensor(1, 1, n, "f32", -2, 0),
      rest = [randomTensor(2, 1, n, "f32", -2, 0), randomTensor(3, 1, n, "f32", -2, 0)],
      entropy = randomTensor(4, 1, n, "f32", 0, 2),
      tail = [randomTensor(5, 1, n, "f32", -2, 2), ones(n)];
    const [dLogProb, dEntropy] = await check("policy_loss", dims, [lp, ...rest, entropy, ...tail], outputs(n), { tolerance: 2e-6 });
    const loss = (x: Values, h: Values): number => runReference("policy_loss", dims, [x, ...rest, h, ...tail], outputs(n))[2]![0]!;
    expectGradient((values) => loss({ ...lp, values }, entropy), lp.values, dLogProb!, 1e-5, "dLogProb");
    expectGradient((values) => loss(lp, { ...entropy, values }), entropy.values, dEntropy!, 1e-5, "dEntropy");
  });
  it("does not hear a token of weight 0, NaN included", async () => {
    const dims = { ...plain, klCoef: 0.1, entropyCoef: 0.1 },
      mask = vector([1, 0, 1]),
      other = (x: number): (Values | null)[] =>
        [
          [-1, x, -2],
          [-1.1, x, -2],
          [-1.2, x, -2],
          [0.5, x, 1],
          [1, x, -1],
        ].map((values) => vector(values));
    const quiet = await check("policy_loss", dims, [...other(0), mask], outputs(3), { tolerance: 1e-6 });
    for (const x of [NaN, Infinity, -1e30])
      expect(await check("policy_loss", dims, [...other(x), mask], outputs(3), { tolerance: 1e-6 })).toEqual(quiet);
    expect([quiet[0]![1], quiet[1]![1]]).toEqual([0, 0]);
  });
  it("stays finite at log-ratios far apart", async () => {
    const [d, , stats] = await check(
      "policy_loss",
      { ...plain, klCoef: 0.1 },
      [vector([-100, 0]), vector([0, -100]), vector([0, -100]), vector([1, 1]), vector([-1, -1]), ones(2)],
      outputs(2),
      { compare: () => false },
    );
    expect([...d!, ...stats!].every(Number.isFinite)).toBe(true);
  });
});

describe("weighted_nll", () => {
  it("matches the reference; tokens of weight 0 have no say", async () => {
    for (const n of [1, 5, 4097]) {
      const next = random(n),
        logProb = randomTensor(1, 1, n, "f32", -5, 0),
        weights = vector(Array.from({ length: n }, () => Math.max(0, next())));
      logProb.values.forEach((_, i) => {
        if (weights.values[i] === 0) logProb.values[i] = NaN;
      });
      await check("weighted_nll", { scale: 0.25 }, [logProb, weights], [zeros(1, n), vector([2, 3])], { tolerance: 1e-6 });
    }
  });
});
