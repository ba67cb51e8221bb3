import { describe, expect, it } from "vitest";
import {
  check,
  device,
  eachSetUp,
  expectClose,
  expectGradient,
  expectSameBits,
  ids,
  random,
  randomTensor,
  runOn,
  runReference,
  tensor,
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

describe("value_loss", () => {
  const results = (n: number): Values[] => [zeros(n, 1), zeros(1, 3)];
  const column = (values: ArrayLike<number>): Values => tensor(values.length, 1, values);

  it("gives loss, slope and hits of (value, old, return, clip) by hand: (1, .3, .2, .5) .32, (0, .3, .2, .5) .02, (1, .3, 2, .5) .72", async () => {
    for (const [v, old, R, clip, loss, slope, hits] of [
      [1, 0.3, 0.2, 0.5, 0.32, 0.8, 0], // too far, but coming back
      [0, 0.3, 0.2, 0.5, 0.02, -0.2, 0],
      [1, 0.3, 2, 0.5, 0.72, 0, 1],
      [-1, 0, -2, 0.5, 1.125, 0, 1],
      [3, 0, 2, 0.5, 1.125, 0, 1], // beyond the return, though not as far as it is from where it is held
      [0.3, 0.3, 2, 0.5, 1.445, -1.7, 0],
      [1, 0.3, 2, 0, 0.5, -1, 0],
    ] as const) {
      const inputs = [column([v]), vector([old]), vector([R]), ones(1)];
      const [dValue, stats] = await check("value_loss", { clip, scale: 1 }, inputs, results(1), { tolerance: 1e-6 });
      expectClose([dValue![0]!, ...stats!], [slope, loss, hits, 1], 1e-6, `value ${v}, old ${old}, return ${R}, clip ${clip}`);
      if (slope === 0) expect(dValue![0]).toBe(0); // exactly
    }
  });
  it("passes the whole gradient at the bounds, where the value is not held", async () => {
    const inputs = [column([0.75, -0.25]), vector([0.25, 0.25]), vector([2, -2]), ones(2)];
    const [dValue, stats] = await check("value_loss", { clip: 0.5, scale: 1 }, inputs, results(2), { tolerance: 0 });
    expect([...dValue!, ...stats!]).toEqual([-1.25, 1.75, 0.78125 + 1.53125, 0, 2]);
  });
  it("matches the reference for many tokens and adds to the stats it finds", async () => {
    for (const n of [1, 7, 255, 1023, 1025, 3000])
      for (const clip of [0, 0.2]) {
        const next = random(n),
          weight = vector(Array.from({ length: n }, () => Math.max(0, next())));
        const inputs = [randomTensor(1, n, 1), randomTensor(2, 1, n), randomTensor(3, 1, n, "f32", -2, 2), weight];
        const before = [zeros(n, 1), vector([1, 2, 3])];
        const [, stats] = await check("value_loss", { clip, scale: 0.125 }, inputs, before, { tolerance: 1e-6 });
        const counted = weight.values.filter((w) => w !== 0).length;
        expect(stats![2]).toBe(3 + counted);
        if (n > 200) expect(stats![1]! - 2 > 0 && stats![1]! - 2 < counted).toBe(clip !== 0); // both kinds of token
      }
  });
  it("loses nothing of light tokens beside one that is 2^24 times as heavy", async () => {
    const value = column(Array.from({ length: 255 }, (_, n) => (n === 0 ? 4096 : 1)));
    const inputs = [value, zeros(1, 255), zeros(1, 255), ones(255)];
    const [, stats] = await check("value_loss", { clip: 0, scale: 2 }, inputs, results(255), { tolerance: 0 });
    expect(stats![0]).toBe(2 ** 24 + 254);
  });
  it("has the gradient of its loss", async () => {
    const n = 40,
      rest = [randomTensor(2, 1, n), randomTensor(3, 1, n, "f32", -2, 2), randomTensor(4, 1, n, "f32", 0.5, 2)];
    const value = randomTensor(1, n, 1);
    for (const clip of [0, 0.3]) {
      const dims = { clip, scale: 0.5 };
      const [dValue] = await check("value_loss", dims, [value, ...rest], results(n), { tolerance: 1e-6 });
      const loss = (values: Float64Array): number => runReference("value_loss", dims, [{ ...value, values }, ...rest], results(n))[1]![0]!;
      expectGradient(loss, value.values, dValue!, 1e-5, `clip ${clip}`);
    }
  });
  it("does not hear a token of weight 0, NaN included", async () => {
    const weight = vector([0.5, 0, 2]);
    const inputs = (x: number): Values[] => [
      column([1, x, -2]),
      ...[
        [0.5, x, -1.75],
        [2, x, -2.5],
      ].map((values) => vector(values)),
      weight,
    ];
    for (const clip of [0, 0.25])
      await eachSetUp(async ({ name, device: on }) => {
        const quiet = await runOn(on, "value_loss", { clip, scale: 1 }, inputs(0), results(3));
        expect(quiet[0]![1]).toBe(0);
        expect(quiet[1]![2]).toBe(2);
        for (const x of [NaN, Infinity, -1e30]) {
          const got = await runOn(on, "value_loss", { clip, scale: 1 }, inputs(x), results(3));
          got.forEach((data, o) => {
            expectSameBits(data, quiet[o]!, `${name}, ${x}, output ${o}`);
          });
        }
      });
  });
  it("shows NaN at a token that counts in its loss and in that token's gradient alone; of old values only where they are read", async () => {
    const n = 300;
    for (const clip of [0, 0.2])
      for (const [i, name] of ["value", "oldValue", "returns", "weight"].entries()) {
        const inputs = [randomTensor(1, n, 1), ...[2, 3, 4].map((seed) => randomTensor(seed, 1, n, "f32", 0.5, 1))];
        inputs[i]!.values[77] = NaN;
        const heard = clip !== 0 || name !== "oldValue";
        await eachSetUp(async ({ name: where, device: on }) => {
          const [dValue, stats] = await runOn(on, "value_loss", { clip, scale: 1 }, inputs, results(n));
          expect(Number.isNaN(stats![0]), `loss of ${name}, ${where}`).toBe(heard);
          expect(Number.isNaN(dValue![77]), `gradient of ${name}, ${where}`).toBe(heard);
          expect([...dValue!].filter(Number.isNaN).length).toBe(heard ? 1 : 0);
          expect(stats![2]).toBe(n);
        });
      }
  });
});

describe("sequence_ratio", () => {
  it("gives every token the geometric mean of its sequence's ratios: 1.08690405 for differences .1, -.05, .2", async () => {
    const logProb = [-1, -2, -0.5];
    const old = [0.1, -0.05, 0.2].map((difference, n) => logProb[n]! - difference);
    const [y] = await check("sequence_ratio", {}, [vector(logProb), vector(old), ids([0, 3])], [zeros(1, 3)], { tolerance: 1e-7 });
    expectClose(
      logProb.map((value, n) => Math.exp(value - y![n]!)),
      [1.08690405, 1.08690405, 1.08690405],
      2e-7,
      "ratios",
    );
  });
  it("matches the reference for sequences of 0, 1, 63, 64, 65 and 3000 tokens", async () => {
    const lengths = [1, 0, 63, 64, 0, 65, 1, 3000, 0];
    const offsets = [0];
    for (const length of lengths) offsets.push(offsets.at(-1)! + length);
    const n = offsets.at(-1)!;
    const inputs = [randomTensor(1, 1, n, "f32", -4, 0), randomTensor(2, 1, n, "f32", -4, 0), ids(offsets)];
    await check("sequence_ratio", {}, inputs, [zeros(1, n)], { tolerance: 2e-7 });
    for (const one of [1, 0])
      await check("sequence_ratio", {}, [vector([-1]), vector([-2.5]), ids([0, one, 1])], [zeros(1, 1)], { tolerance: 0 });
  });
  it("gives back the bits of a sequence whose log-probabilities are as they were", async () => {
    const n = 200;
    const logProb = randomTensor(1, 1, n, "f32", -9, 0);
    logProb.values[5] = -0;
    const old = vector(logProb.values);
    old.values[150] = -20; // in the other sequence
    await eachSetUp(async ({ name, device: on }) => {
      const [y] = await runOn(on, "sequence_ratio", {}, [logProb, old, ids([0, 130, n])], [zeros(1, n)]);
      expectSameBits(y!.slice(0, 130), Float32Array.from(logProb.values).slice(0, 130), name);
      expect([...y!.slice(130)].every((value, i) => value < logProb.values[130 + i]!)).toBe(true);
    });
  });
  it("gives a sequence the same bits alone, among others and beside NaN, which stays where it is", async () => {
    const [before, length, after] = [70, 333, 5];
    const n = before + length + after;
    const offsets = ids([0, before, before + length, n]);
    const [logProb, old] = [randomTensor(1, 1, n, "f32", -4, 0), randomTensor(2, 1, n, "f32", -4, 0)];
    const own = ({ values }: Values): Values => vector(values.slice(before, before + length));
    const [alone] = await runOn(device(), "sequence_ratio", {}, [own(logProb), own(old), ids([0, length])], [zeros(1, length)]);
    const [among] = await check("sequence_ratio", {}, [logProb, old, offsets], [zeros(1, n)], { tolerance: 2e-7 });
    expectSameBits(among!.slice(before, before + length), alone!, "among others");
    for (const bad of [NaN, Infinity]) {
      old.values[3] = old.values[n - 1] = bad;
      const [beside] = await check("sequence_ratio", {}, [logProb, old, offsets], [zeros(1, n)], { tolerance: 2e-7 });
      expectSameBits(beside!.slice(before, before + length), alone!, `beside ${bad}`);
      expect([...beside!].filter(Number.isFinite).length).toBe(length);
    }
  });
  it("takes the mean of 100000 differences of .1 to a few ulp", async () => {
    const n = 100000;
    const [y] = await check("sequence_ratio", {}, [zeros(1, n), vector(new Array<number>(n).fill(-0.1)), ids([0, n])], [zeros(1, n)], {
      tolerance: 1e-7,
    });
    expect(new Set(y).size).toBe(1);
    expect(Math.abs(y![0]! + Math.fround(0.1))).toBeLessThanOrEqual(3 * 2 ** -27);
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
