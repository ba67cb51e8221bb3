import { describe, expect, it } from "vitest";
import {
  INACTIVE,
  bitsOf,
  check,
  device,
  ids,
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

type Setting = readonly [temperature: number, topK: number, topP: number];

/** Settings, keys and positions of R rows. */
function rows(R: number, settings: readonly Setting[], seed = 1): Values[] {
  const next = random(seed);
  const word = (): number => Math.floor(next(0, 2 ** 32));
  return [
    tensor(R, 4, Array.from({ length: R }, (_, r) => [...settings[r % settings.length]!, 0]).flat()),
    tensor(R, 5, Array.from({ length: R * 5 }, word), "u32"),
    ids(Array.from({ length: R }, () => Math.floor(next(0, 5000)))),
  ];
}
const outputs = (R: number): Values[] => [ids(new Array<number>(R).fill(77)), vector(new Array<number>(R).fill(5))];

/** Logits as a language model has them: most far below a few. */
function peaked(seed: number, R: number, V: number): Values {
  const next = random(seed);
  return tensor(
    R,
    V,
    Float64Array.from(
      { length: R * V },
      () => 9 - 2.5 * Math.sqrt(-2 * Math.log(next(1e-9, 1))) * Math.abs(Math.cos(next(0, 2 * Math.PI))) * 2,
    ),
  );
}

describe("sample on a GPU", () => {
  it("draws the float64 reference's ids where a row takes several workgroups", async () => {
    const settings: Setting[] = [
      [1, 0, 1],
      [0.6, 0, 0.95],
      [1.4, 40, 1],
      [1, 50, 0.9],
      [1, 3000, 1],
      [0, 0, 1],
    ];
    for (const V of [4096, 4097, 9001])
      await check("sample", {}, [peaked(V, 12, V), ...rows(12, settings, V)], outputs(12), { tolerance: 3e-6 });
  });

  it("draws the float64 reference's ids from a vocabulary of 151,936", async () => {
    const V = 151_936;
    const settings: Setting[] = [
      [1, 0, 1],
      [0.8, 50, 0.95],
      [1, 0, 0.99],
    ];
    await check("sample", {}, [peaked(7, 3, V), ...rows(3, settings, 5)], outputs(3), { tolerance: 3e-6 });
  });

  it("keeps the lower ids of thousands of equal logits", async () => {
    const V = 5000;
    const logits = tensor(16, V, new Float64Array(16 * V).fill(-3));
    const [counted] = await check("sample", {}, [logits, ...rows(16, [[1, 1234, 1]])], outputs(16), { tolerance: 2e-6 });
    expect(Math.max(...counted!)).toBeLessThan(1234);
    const [weighed] = await check("sample", {}, [logits, ...rows(16, [[1, 0, 0.25]])], outputs(16), { tolerance: 2e-6 });
    expect(Math.max(...weighed!)).toBeLessThan(1250);
    const [both] = await check("sample", {}, [logits, ...rows(16, [[1, 2000, 0.5]])], outputs(16), { tolerance: 2e-6 });
    expect(Math.max(...both!)).toBeLessThan(1000);
  });

  it("counts both zeros as one logit", async () => {
    const logits = tensor(20, 5, new Array<number[]>(20).fill([-0, 0, -0, 0, -1]).flat());
    const [drawn] = await runOn(device(), "sample", {}, [logits, ...rows(20, [[1, 2, 1]])], outputs(20));
    expect([...new Set(drawn)].sort()).toEqual([0, 1]);
    const [greedy] = await runOn(device(), "sample", {}, [logits, ...rows(20, [[0, 0, 1]])], outputs(20));
    expect([...new Set(greedy)]).toEqual([0]);
  });

  it("keeps to finite logits where top-k asks for more than there are", async () => {
    const V = 600;
    const logits = tensor(
      8,
      V,
      Float64Array.from({ length: 8 * V }, (_, i) => (i % V === 5 || i % V === 400 ? 1 : i % V === 7 ? NaN : -Infinity)),
    );
    for (const k of [3, 300, 599]) {
      const [drawn, logProb] = await runOn(device(), "sample", {}, [logits, ...rows(8, [[1, k, 1]], k)], outputs(8));
      for (const id of drawn!) expect([5, 400]).toContain(id);
      // A NaN among the logits shows.
      expect([...logProb!].every(Number.isNaN)).toBe(true);
    }
  });

  it("picks an id, and says NaN, where logits are not numbers", async () => {
    const V = 6;
    const logits = tensor(
      4,
      V,
      [
        [NaN, NaN, NaN, NaN, NaN, NaN],
        [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
        [1, NaN, Infinity, 2, Infinity, 0],
        [NaN, -Infinity, NaN, -Infinity, NaN, NaN],
      ].flat(),
    );
    for (const setting of [
      [0, 0, 1],
      [1, 0, 1],
      [1, 2, 0.5],
    ] as const) {
      const [drawn, logProb] = await runOn(device(), "sample", {}, [logits, ...rows(4, [setting])], outputs(4));
      expect([...drawn!]).toEqual([0, 0, 2, 1]);
      expect([...logProb!].every(Number.isNaN)).toBe(true);
    }
  });

  it("draws the same id with the same bits whatever else is in the batch, and over shards of logits", async () => {
    const [R, V] = [300, 9];
    const inputs = [
      randomTensor(1, R, V, "f32", -3, 3),
      ...rows(R, [
        [1, 0, 1],
        [0.7, 4, 0.9],
      ]),
    ];
    const [drawn, logProb] = await check("sample", {}, inputs, outputs(R), { tolerance: 2e-6 });
    for (const r of [0, 256, 299]) {
      const row = inputs.map((input, i) => {
        const width = i === 3 ? 1 : input.cols;
        return tensor(1, width, input.values.slice(r * width, (r + 1) * width), input.dtype);
      });
      const [id, value] = await runOn(device(), "sample", {}, row, outputs(1));
      expect([id![0], bitsOf(value!)[0]]).toEqual([drawn![r], bitsOf(logProb!)[r]]);
    }
  });

  it("records the bits that log_prob gives over several workgroups and temperatures", async () => {
    const [R, V, C] = [5, 9001, 24];
    const [hidden, weight] = [randomTensor(1, R, C), randomTensor(2, V, C, "f32", -3, 3)];
    const [logits] = await runOn(
      device(),
      "matmul",
      { M: R, N: V, K: C, transA: 0, transB: 1, accumulate: 0 },
      [hidden, weight, null],
      [zeros(R, V)],
    );
    for (const temperature of [1, 0.7, 1.3, 0.1]) {
      const [drawn, sampled] = await runOn(
        device(),
        "sample",
        {},
        [tensor(R, V, logits!), ...rows(R, [[temperature, 50, 0.9]])],
        outputs(R),
      );
      const [logProb] = await runOn(
        device(),
        "log_prob",
        { temperature },
        [hidden, weight, ids(drawn!)],
        [zeros(1, R), zeros(1, R), zeros(1, R)],
      );
      expect(bitsOf(sampled!)).toEqual(bitsOf(logProb!));
    }
  });
});

describe("advance on a GPU", () => {
  it("steps automata whose table is in several shards, once each", async () => {
    const [R, S, V] = [100, 600, 5];
    const next = random(3);
    const any = (below: number, length: number): number[] => Array.from({ length }, () => Math.floor(next(0, below)));
    const transitions = tensor(S, V, any(S, S * V), "u32");
    const accepts = ids(any(3, S).map((x) => (x === 2 ? 9 : 0)));
    const positions = any(50, R).map((x) => (x % 7 === 0 ? INACTIVE : x));
    const state = [ids(any(V, R)), ids(positions), ids(any(S, R)), ids(any(3, R).map((x) => x + 1)), ids(new Array<number>(R).fill(0))];
    await check(
      "advance",
      { step: 2 },
      [ids(any(V, R)), randomTensor(4, 1, R), transitions, accepts],
      [...state, tensor(3, R, any(9, 3 * R), "u32"), randomTensor(5, 3, R)],
      { tolerance: 0 },
    );
  });

  it("leads ids and states outside the table to state 0", async () => {
    const transitions = tensor(2, 3, [1, 1, 1, 1, 1, 1], "u32");
    const out = await runOn(
      device(),
      "advance",
      { step: 0 },
      [ids([3, INACTIVE, 0, 0]), vector([-1, -2, -3, -4]), transitions, ids([0, 4])],
      [
        ids([0, 0, 0, 0]),
        ids([1, 1, 1, 1]),
        ids([1, 0, 2, 1]),
        ids([5, 5, 5, 5]),
        ids([0, 0, 0, 0]),
        tensor(1, 4, [0, 0, 0, 0], "u32"),
        zeros(1, 4),
      ],
    );
    expect([...out[2]!]).toEqual([0, 0, 0, 1]);
    expect([...out[4]!]).toEqual([0, 0, 0, 4]);
  });
});
