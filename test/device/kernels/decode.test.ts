import { describe, expect, it } from "vitest";
import { philox } from "../../../src/util/philox.ts";
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
} from "./harness.ts";

useDevices();

/** Settings, keys and positions of R rows that differ in all of them. */
function rows(R: number, settings: readonly (readonly [number, number, number])[], seed = 1): Values[] {
  const next = random(seed),
    word = (): number => Math.floor(next(0, 2 ** 32));
  return [
    tensor(R, 4, Array.from({ length: R }, (_, r) => [...settings[r % settings.length]!, 0]).flat()),
    tensor(R, 5, Array.from({ length: R * 5 }, word), "u32"),
    ids(Array.from({ length: R }, () => Math.floor(next(0, 5000)))),
  ];
}
const outputs = (R: number): Values[] => [ids(new Array<number>(R).fill(77)), vector(new Array<number>(R).fill(5))];

describe("sample", () => {
  it("draws the reference's ids for any temperature, top-k and top-p", async () => {
    for (const V of [1, 3, 257, 1031])
      for (const settings of [
        [[1, 0, 1]],
        [
          [0.7, 0, 1],
          [1.3, 5, 1],
        ],
        [
          [1, 0, 0.9],
          [0.5, 0, 0.3],
        ],
        [
          [1, 20, 0.8],
          [2, 1, 1],
          [0, 0, 1],
          [1, 0, 0.001],
        ],
      ] as const) {
        const R = 37;
        await check("sample", {}, [randomTensor(V, R, V, "f32", -4, 4), ...rows(R, settings, V)], outputs(R), { tolerance: 2e-6 });
      }
  });
  it("keeps ties of top-k and top-p by lower id", async () => {
    const logits = tensor(40, 9, new Array<number[]>(40).fill([0, 1, 2, 2, 1, 2, 2, 0, 2]).flat());
    for (const settings of [
      [1, 3, 1],
      [1, 0, 0.45],
      [1, 4, 0.6],
    ] as const) {
      const [drawn] = await check("sample", {}, [logits, ...rows(40, [settings])], outputs(40), { tolerance: 2e-6 });
      expect([...new Set(drawn)].sort()).toEqual([2, 3, 5]);
    }
  });
  it("takes the lowest id of the largest logit at temperature 0", async () => {
    const [drawn, logProb] = await check(
      "sample",
      {},
      [tensor(2, 6, [0, 3, 3, 1, 3, 2, -5, -5, -5, -5, -5, -5]), ...rows(2, [[0, 0, 1]])],
      outputs(2),
    );
    expect(Array.from(drawn!)).toEqual([1, 0]);
    expect(logProb![1]).toBeCloseTo(-Math.log(6), 6);
  });
  it("keeps the likeliest id at least, at top-p 0", async () => {
    const [drawn] = await runOn(
      device(),
      "sample",
      {},
      [tensor(3, 4, [1, 5, 2, 3, 4, 1, 4, 0, 0, 0, 0, 1]), ...rows(3, [[1, 0, 0]])],
      outputs(3),
    );
    expect(Array.from(drawn!)).toEqual([1, 0, 3]);
  });
  it("leaves inactive rows alone", async () => {
    const [settings, keys] = rows(3, [[1, 0, 1]]);
    const [drawn, logProb] = await check("sample", {}, [randomTensor(1, 3, 10), settings!, keys!, ids([4, INACTIVE, 5])], outputs(3), {
      tolerance: 2e-6,
    });
    expect([drawn![1], logProb![1]]).toEqual([77, 5]);
  });
  it("draws each id as often as its probability says", async () => {
    const R = 4000,
      p = [0.5, 0.25, 0.15, 0.1],
      [settings, keys] = rows(1, [[1, 0, 1]]);
    const logits = tensor(R, 4, new Array<number[]>(R).fill(p.map(Math.log)).flat());
    const [drawn] = await runOn(
      device(),
      "sample",
      {},
      [
        logits,
        tensor(R, 4, new Array<number[]>(R).fill(Array.from(settings!.values)).flat()),
        tensor(R, 5, new Array<number[]>(R).fill(Array.from(keys!.values)).flat(), "u32"),
        ids(Array.from({ length: R }, (_, r) => r)),
      ],
      outputs(R),
    );
    p.forEach((share, id) => {
      expect(Math.abs(drawn!.filter((x) => x === id).length / R - share)).toBeLessThan(4 * Math.sqrt((share * (1 - share)) / R));
    });
  });
  it("uses word 0 of philox(key, (words, position)): the running sum crosses at (word >>> 8) 2^-24", async () => {
    const V = 4096,
      R = 64,
      inputs = rows(R, [[1, 0, 1]], 5),
      [drawn] = await runOn(device(), "sample", {}, [zeros(R, V), ...inputs], outputs(R));
    for (let r = 0; r < R; r++) {
      const word = (i: number): number => inputs[1]!.values[5 * r + i]!;
      expect(drawn![r]).toBe(
        Math.floor(((philox([word(0), word(1)], [word(2), word(3), word(4), inputs[2]!.values[r]!])[0] >>> 8) * V) / 2 ** 24),
      );
    }
  });
  it("never draws an id of no probability, even at u = 0", async () => {
    const logits = tensor(300, 5, new Array<number[]>(300).fill([-Infinity, -200, 1, -Infinity, 2]).flat());
    const [drawn] = await runOn(
      device(),
      "sample",
      {},
      [
        logits,
        ...rows(300, [
          [1, 0, 1],
          [1, 4, 0.99],
        ]),
      ],
      outputs(300),
    );
    expect(new Set(drawn)).toEqual(new Set([2, 4]));
  });
  it("records the log-probability with the bits that log_prob gives", async () => {
    const [R, V, C] = [9, 700, 24],
      hidden = randomTensor(1, R, C),
      weight = randomTensor(2, V, C),
      on = device();
    for (const temperature of [1, 0.7]) {
      const [logits] = await runOn(
        on,
        "matmul",
        { M: R, N: V, K: C, transA: 0, transB: 1, accumulate: 0 },
        [hidden, weight, null],
        [zeros(R, V)],
      );
      const [drawn, sampled] = await runOn(on, "sample", {}, [tensor(R, V, logits!), ...rows(R, [[temperature, 0, 1]])], outputs(R));
      const [logProb] = await runOn(
        on,
        "log_prob",
        { temperature },
        [hidden, weight, ids(drawn!)],
        [zeros(1, R), zeros(1, R), zeros(1, R)],
      );
      expect(bitsOf(sampled!)).toEqual(bitsOf(logProb!));
    }
  });
});

describe("advance", () => {
  it("moves states, budgets and positions, and ends rows on a stop or at the budget", async () => {
    // state 1 after id 2, state 2 (accepting with code 7) after id 2 then 0
    const transitions = tensor(3, 4, [0, 0, 1, 0, 2, 0, 1, 0, 0, 0, 0, 0], "u32"),
      accepts = ids([0, 0, 7]);
    const state = [
      ids([9, 9, 9, 9, 9]),
      ids([10, 20, INACTIVE, 30, 40]),
      ids([0, 1, 0, 1, 1]),
      ids([5, 5, 5, 1, 1]),
      ids([0, 0, 3, 0, 0]),
      tensor(2, 5, new Array<number>(10).fill(1), "u32"),
      zeros(2, 5),
    ];
    const out = await check("advance", { step: 1 }, [ids([2, 0, 1, 3, 0]), vector([-1, -2, -3, -4, -5]), transitions, accepts], state, {
      tolerance: 0,
    });
    expect(Array.from(out[4]!)).toEqual([0, 7, 3, 1, 7]); // a stop wins over the budget
    expect(Array.from(out[2]!)).toEqual([1, 2, 0, 0, 2]);
  });
});
