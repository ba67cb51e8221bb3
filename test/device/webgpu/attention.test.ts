import { describe, expect, it } from "vitest";
import type { Device, Dtype, Storage } from "../../../src/device/device.ts";
import { makeDevice } from "../../helpers/device.ts";
import {
  check,
  device,
  expectSameBits,
  ids,
  INACTIVE,
  place,
  random,
  randomTensor,
  runReference,
  tensor,
  useDevices,
  zeros,
  type Values,
} from "../kernels/harness.ts";
import { roundTo } from "../../helpers/round-to.ts";

useDevices();

interface Case {
  readonly lengths: readonly number[];
  readonly H: number;
  readonly K: number;
  readonly D: number;
}
const offsetsOf = (lengths: readonly number[]): number[] => lengths.reduce((all, length) => [...all, all.at(-1)! + length], [0]);
const dimsOf = ({ H, K, D }: Case) => ({ heads: H, kvHeads: K, scale: 1 / Math.sqrt(D) });
const inputsOf = ({ lengths, H, K, D }: Case): Record<"q" | "k" | "v", Values> => {
  const N = offsetsOf(lengths).at(-1)!;
  return { q: randomTensor(1, N, H * D, "f32", -2, 2), k: randomTensor(2, N, K * D, "f32", -2, 2), v: randomTensor(3, N, K * D) };
};

/** One to five sequences, some of them empty; groups of 1, 2, 6, 7 and of more than a tile; widths of real models, and odd ones. */
const cases: readonly Case[] = [
  { lengths: [70], H: 14, K: 2, D: 64 },
  { lengths: [0, 66], H: 6, K: 1, D: 128 },
  { lengths: [33, 0, 64], H: 2, K: 2, D: 80 },
  { lengths: [0, 0, 65, 1], H: 4, K: 2, D: 96 },
  { lengths: [3, 64, 0, 17, 0], H: 7, K: 1, D: 64 },
  { lengths: [9, 2], H: 66, K: 1, D: 4 },
  { lengths: [5, 70], H: 67, K: 1, D: 68 },
];

async function packed(on: Device, one: Case, q: Values, k: Values, v: Values): Promise<Float32Array> {
  const { H, D, lengths } = one;
  const all = [q, k, v, ids(offsetsOf(lengths)), zeros(q.rows, H * D), zeros(q.rows, H)].map((x) => place(on, x));
  on.run("attention", dimsOf(one), all.slice(0, 4), all.slice(4));
  const out = await on.read(all[4]!);
  for (const storage of all) on.release(storage);
  return out as Float32Array;
}

/** The same through a paged cache, sequence b's tokens in the pieces that `pieces` cuts; what was never written is NaN. */
async function paged(
  on: Device,
  one: Case,
  { q, k, v }: Record<"q" | "k" | "v", Values>,
  cache: Dtype,
  pieces: (length: number) => number[],
  { spare = 3, columns = 0 } = {},
): Promise<Float32Array> {
  const { lengths, H, K, D } = one;
  const starts = offsetsOf(lengths);
  const B = lengths.length;
  const most = Math.max(1, ...lengths.map((length) => Math.ceil(length / 64)));
  const blocks = B * most + spare;
  const width = Math.max(most, columns);
  const table = tensor(
    B,
    width,
    Array.from({ length: B * width }, (_, i) => (i % width < most ? blocks - 1 - Math.floor(i / width) * most - (i % width) : 0)),
    "u32",
  );
  const garbage = (): Values => tensor(blocks, K * D * 64, new Float64Array(blocks * K * D * 64).fill(NaN), cache);
  const kCache = place(on, garbage());
  const vCache = place(on, garbage());
  const blockTable = place(on, table);
  const out = new Float32Array(starts.at(-1)! * H * D);
  const plans = lengths.map(pieces);
  const done = lengths.map(() => 0);
  for (let step = 0; step < Math.max(...plans.map((plan) => plan.length)); step++) {
    const take = plans.map((plan) => plan[step] ?? 0);
    const tokens = take.flatMap((count, b) =>
      Array.from({ length: count }, (_, i) => ({ position: done[b]! + i, row: starts[b]! + done[b]! + i })),
    );
    const temporary: Storage[] = [];
    const put = (x: Values): Storage => {
      const storage = place(on, x);
      temporary.push(storage);
      return storage;
    };
    const pick = (x: Values): Storage =>
      put(
        tensor(
          tokens.length,
          x.cols,
          tokens.flatMap(({ row }) => Array.from(x.values.subarray(row * x.cols, (row + 1) * x.cols))),
        ),
      );
    const places = [put(ids(tokens.map(({ position }) => position))), put(ids(offsetsOf(take))), blockTable];
    const result = put(zeros(tokens.length, H * D));
    on.run("kv_write", { kvHeads: K }, [pick(k), pick(v), ...places], [kCache, vCache]);
    on.run("attention_paged", dimsOf(one), [pick(q), ...places, kCache, vCache], [result]);
    const data = (await on.read(result)) as Float32Array;
    tokens.forEach(({ row }, i) => {
      out.set(data.subarray(i * H * D, (i + 1) * H * D), row * H * D);
    });
    take.forEach((count, b) => {
      done[b]! += count;
    });
    for (const storage of temporary) on.release(storage);
  }
  for (const storage of [kCache, vCache, blockTable]) on.release(storage);
  return out;
}

const rounded = (x: Values, cache: Dtype): Values => ({ ...x, values: x.values.map((value) => roundTo(value, cache)) });
const ones = (length: number): number[] => new Array<number>(length).fill(1);
const whole = (length: number): number[] => [length];

describe("attention of real head widths, with empty sequences", () => {
  it("matches the float64 reference", async () => {
    for (const one of cases) {
      const { q, k, v } = inputsOf(one);
      await check("attention", dimsOf(one), [q, k, v, ids(offsetsOf(one.lengths))], [zeros(q.rows, one.H * one.D), zeros(q.rows, one.H)], {
        tolerance: 3e-6,
      });
    }
  });

  it("has gradients that match it", async () => {
    for (const one of cases) {
      const { q, k, v } = inputsOf(one);
      const offsets = ids(offsetsOf(one.lengths));
      const dout = randomTensor(4, q.rows, q.cols);
      const [out, lse] = runReference("attention", dimsOf(one), [q, k, v, offsets], [zeros(q.rows, q.cols), zeros(q.rows, one.H)]);
      const saved = [tensor(q.rows, q.cols, out!), tensor(q.rows, one.H, lse!)] as const;
      await check(
        "attention_backward",
        dimsOf(one),
        [q, k, v, offsets, ...saved, dout],
        [zeros(q.rows, q.cols), zeros(q.rows, k.cols), zeros(q.rows, k.cols)],
        { tolerance: 2e-5 },
      );
    }
  });
});

describe("attention through the cache gives the bits of packed attention", () => {
  for (const cache of ["f32", "f16", "bf16"] as const)
    it(`token by token, in one piece and in pieces of any length, ${cache}`, async () => {
      const next = random(5);
      const anyhow = (length: number): number[] => {
        const cut: number[] = [];
        for (let left = length; left > 0; left -= cut.at(-1)!) cut.push(Math.min(left, 1 + Math.floor(next(0, 9) ** 2)));
        return cut;
      };
      for (const one of cases.slice(0, 5)) {
        const { q, k, v } = inputsOf(one);
        const want = await packed(device(), one, q, rounded(k, cache), rounded(v, cache));
        for (const [what, pieces] of Object.entries({ ones, whole, anyhow }))
          expectSameBits(await paged(device(), one, { q, k, v }, cache, pieces), want, `${cache}, ${what}, D ${one.D}`);
      }
    });

  it("where one token's keys are spread over shards of the cache", async () => {
    const one = { lengths: [150, 0, 64], H: 4, K: 1, D: 8 };
    const on = await makeDevice({ maxShardBytes: 2048 });
    try {
      for (const cache of ["f32", "f16"] as const) {
        const { q, k, v } = inputsOf(one);
        const want = await packed(on, one, q, rounded(k, cache), rounded(v, cache));
        // shards hold 256 blocks at least: the blocks in use, the last of 513, lie in the second and the third
        for (const pieces of [whole, (length: number) => [Math.min(length, 130), length - Math.min(length, 130)]])
          expectSameBits(await paged(on, one, { q, k, v }, cache, pieces, { spare: 504 }), want, cache);
      }
    } finally {
      await on.destroy();
    }
  });

  it("where the partial sums of all rows together exceed one binding", async () => {
    const one = { lengths: [66, 1, 3, 2, 65], H: 16, K: 2, D: 128 };
    const { q, k, v } = inputsOf(one);
    const pieces = (length: number): number[] => [length - 1, 1];
    expectSameBits(
      await paged(device(), one, { q, k, v }, "f32", pieces, { columns: 4096 }),
      await packed(device(), one, q, k, v),
      "slices",
    );
  });
});

describe("keys that a query does not see", () => {
  it("have no effect whatever their bits: neither later ones of its sequence nor other sequences", async () => {
    const one = { lengths: [20, 70], H: 2, K: 1, D: 64 };
    const { q, k, v } = inputsOf(one);
    const clean = await packed(device(), one, q, k, v);
    for (const poison of [NaN, Infinity]) {
      const dirty = (x: Values): Values => {
        const values = x.values.slice();
        values.fill(poison, 15 * x.cols, 16 * x.cols);
        values.fill(poison, 60 * x.cols, 61 * x.cols);
        return { ...x, values };
      };
      for (const [dk, dv] of [
        [dirty(k), v],
        [k, dirty(v)],
      ] as const) {
        const got = await packed(device(), one, q, dk, dv);
        const through = await paged(device(), one, { q, k: dk, v: dv }, "f16", whole);
        for (let n = 0; n < 90; n++) {
          const hit = (n >= 15 && n < 20) || n >= 60;
          const row = got.subarray(n * 128, (n + 1) * 128);
          if (!hit) expectSameBits(row, clean.subarray(n * 128, (n + 1) * 128), `token ${n}`);
          expect(
            row.some((x) => !Number.isFinite(x)),
            `token ${n}`,
          ).toBe(hit);
          expect(
            through.subarray(n * 128, (n + 1) * 128).some((x) => !Number.isFinite(x)),
            `token ${n} through the cache`,
          ).toBe(hit);
        }
      }
    }
  });
});

describe("kv_write", () => {
  it("rounds as the host does, infinities, subnormals and ties included", async () => {
    const special = [
      0,
      -0,
      65519,
      65520,
      -65520,
      1e30,
      Infinity,
      -Infinity,
      NaN,
      2 ** -24,
      2 ** -25,
      2 ** -25 * 1.001,
      3 * 2 ** -25,
      1e-8,
      6.1e-5,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      2049,
      2051,
      -1e-7,
    ];
    for (const cache of ["f16", "bf16"] as const) {
      const values = Float64Array.from({ length: 8 * 20 }, (_, i) => special[(i * 7) % 20]! * (i < 80 ? 1 : 1.0009));
      const x = tensor(8, 20, values);
      const positions = ids([3, 4, 5, INACTIVE, 0, 1, 64, 2]);
      await check(
        "kv_write",
        { kvHeads: 1 },
        [x, x, positions, ids([0, 4, 7, 8]), tensor(3, 2, [0, 1, 2, 3, 4, 5], "u32")],
        [randomTensor(1, 6, 20 * 64, cache), randomTensor(2, 6, 20 * 64, cache)],
        { tolerance: 0 },
      );
    }
  });
});
