import { describe, expect, it } from "vitest";
import type { Dtype, Storage } from "../../../src/device/device.ts";
import {
  INACTIVE,
  bitsOf,
  check,
  device,
  expectClose,
  expectGradient,
  expectSameBits,
  ids,
  place,
  random,
  randomTensor,
  runReference,
  tensor,
  useDevices,
  zeros,
  type Values,
} from "./harness.ts";
import { roundTo } from "../../helpers/round-to.ts";

useDevices();

interface Case {
  readonly lengths: readonly number[];
  readonly H: number;
  readonly K: number;
  readonly D: number;
}
const offsetsOf = (lengths: readonly number[]): number[] => lengths.reduce((all, length) => [...all, all.at(-1)! + length], [0]);

const cases: readonly Case[] = [
  { lengths: [1], H: 1, K: 1, D: 4 },
  { lengths: [5, 1, 0, 9], H: 3, K: 1, D: 12 },
  { lengths: [64, 65, 3], H: 5, K: 1, D: 32 },
  { lengths: [130], H: 4, K: 2, D: 8 },
  { lengths: [67, 20], H: 14, K: 2, D: 64 },
  { lengths: [41], H: 2, K: 2, D: 128 },
  { lengths: [150, 2], H: 7, K: 7, D: 20 },
];
const inputsOf = ({
  lengths,
  H,
  K,
  D,
}: Case): { q: Values; k: Values; v: Values; offsets: Values; N: number; dims: { heads: number; kvHeads: number; scale: number } } => {
  const N = offsetsOf(lengths).at(-1)!;
  return {
    q: randomTensor(1, N, H * D, "f32", -2, 2),
    k: randomTensor(2, N, K * D, "f32", -2, 2),
    v: randomTensor(3, N, K * D),
    offsets: ids(offsetsOf(lengths)),
    N,
    dims: { heads: H, kvHeads: K, scale: 1 / Math.sqrt(D) },
  };
};

describe("attention", () => {
  it("matches the float64 reference for packed sequences and grouped heads", async () => {
    for (const one of cases) {
      const { q, k, v, offsets, N, dims } = inputsOf(one);
      await check("attention", dims, [q, k, v, offsets], [zeros(N, one.H * one.D), zeros(N, one.H)], { tolerance: 2e-6 });
    }
  });
  it("survives scores far beyond the range of e^x", async () => {
    const q = randomTensor(1, 70, 8, "f32", -60, 60),
      k = randomTensor(2, 70, 8, "f32", -60, 60),
      v = randomTensor(3, 70, 8);
    await check("attention", { heads: 1, kvHeads: 1, scale: 1 }, [q, k, v, ids([0, 70])], [zeros(70, 8), zeros(70, 1)], {
      tolerance: 1e-3,
    });
  });
  it("gives NaN, not a number made up, where a score is NaN", async () => {
    const q = randomTensor(1, 6, 8),
      k = randomTensor(2, 6, 8),
      v = randomTensor(3, 6, 8);
    q.values[3 * 8] = NaN;
    const out = (
      await check("attention", { heads: 1, kvHeads: 1, scale: 1 }, [q, k, v, ids([0, 6])], [zeros(6, 8), zeros(6, 1)], {
        compare: (_, i) => i < 0,
      })
    )[0]!;
    for (let n = 0; n < 6; n++) for (let d = 0; d < 8; d++) expect(Number.isNaN(out[n * 8 + d]!)).toBe(n === 3);
  });
});

describe("attention_backward", () => {
  const backward = async (one: Case): Promise<void> => {
    const { q, k, v, offsets, N, dims } = inputsOf(one),
      { H, K, D } = one;
    const dout = randomTensor(4, N, H * D),
      [out, lse] = runReference("attention", dims, [q, k, v, offsets], [zeros(N, H * D), zeros(N, H)]);
    const saved = [tensor(N, H * D, out!), tensor(N, H, lse!)] as const;
    const [dq, dk, dv] = await check(
      "attention_backward",
      dims,
      [q, k, v, offsets, ...saved, dout],
      [zeros(N, H * D), zeros(N, K * D), zeros(N, K * D)],
      { tolerance: 1e-5 },
    );
    if (N > 70) return;
    const loss = (a: Values, b: Values, c: Values): number =>
      runReference("attention", dims, [a, b, c, offsets], [zeros(N, H * D), zeros(N, H)])[0]!.reduce(
        (sum, y, i) => sum + y * dout.values[i]!,
        0,
      );
    expectGradient((x) => loss({ ...q, values: x }, k, v), q.values, dq!, 1e-4, "dq");
    expectGradient((x) => loss(q, { ...k, values: x }, v), k.values, dk!, 1e-4, "dk");
    expectGradient((x) => loss(q, k, { ...v, values: x }), v.values, dv!, 1e-4, "dv");
  };
  it("matches the reference, and its central differences where that is quick", async () => {
    for (const one of cases) await backward(one);
  });
  it("matches the reference for a sequence that is split over work items", async () => {
    await backward({ lengths: [3, 577, 8], H: 3, K: 1, D: 16 });
  });
});

/** Positions of one prefix of each sequence, in pieces, through a paged cache; outputs and caches as one device leaves them. */
async function throughCache(
  one: Case,
  q: Values,
  k: Values,
  v: Values,
  cache: Dtype,
  pieces: (length: number) => number[],
): Promise<Float32Array> {
  const { lengths, H, K, D } = one,
    on = device(),
    starts = offsetsOf(lengths),
    B = lengths.length;
  const maxBlocks = Math.max(1, ...lengths.map((length) => Math.ceil(length / 64))),
    blocks = B * maxBlocks + 3;
  // blocks in an order of no meaning; what is never written is NaN
  const table = tensor(
    B,
    maxBlocks,
    Array.from({ length: B * maxBlocks }, (_, i) => blocks - 1 - i),
    "u32",
  );
  const garbage = (): Values => tensor(blocks, K * D * 64, new Float64Array(blocks * K * D * 64).fill(NaN), cache);
  expect(new Set(table.values).size).toBe(B * maxBlocks);
  const kCache = place(on, garbage()),
    vCache = place(on, garbage()),
    blockTable = place(on, table);
  const out = new Float32Array(starts.at(-1)! * H * D),
    plans = lengths.map(pieces),
    steps = Math.max(...plans.map((plan) => plan.length));
  const done = lengths.map(() => 0);
  for (let step = 0; step < steps; step++) {
    const take = plans.map((plan) => plan[step] ?? 0),
      tokens = take.flatMap((count, b) =>
        Array.from({ length: count }, (_, i) => ({ position: done[b]! + i, row: starts[b]! + done[b]! + i })),
      );
    const pick = (x: Values): Values =>
      tensor(
        tokens.length,
        x.cols,
        tokens.flatMap(({ row }) => Array.from(x.values.subarray(row * x.cols, (row + 1) * x.cols))),
      );
    const temporary: Storage[] = [];
    const put = (x: Values): Storage => {
      const storage = place(on, x);
      temporary.push(storage);
      return storage;
    };
    const positions = put(ids(tokens.map(({ position }) => position))),
      offsets = put(ids(offsetsOf(take))),
      result = put(zeros(tokens.length, H * D));
    on.run("kv_write", { kvHeads: K }, [put(pick(k)), put(pick(v)), positions, offsets, blockTable], [kCache, vCache]);
    on.run(
      "attention_paged",
      { heads: H, kvHeads: K, scale: 1 / Math.sqrt(D) },
      [put(pick(q)), positions, offsets, blockTable, kCache, vCache],
      [result],
    );
    const data = (await on.read(result)) as Float32Array;
    tokens.forEach(({ row }, i) => out.set(data.subarray(i * H * D, (i + 1) * H * D), row * H * D));
    take.forEach((count, b) => {
      done[b]! += count;
    });
    for (const storage of temporary) on.release(storage);
  }
  for (const storage of [kCache, vCache, blockTable]) on.release(storage);
  return out;
}

async function packed(one: Case, q: Values, k: Values, v: Values): Promise<Float32Array> {
  const { H, K, D } = one,
    on = device(),
    N = q.rows;
  const all = [q, k, v, ids(offsetsOf(one.lengths)), zeros(N, H * D), zeros(N, H)].map((x) => place(on, x));
  on.run("attention", { heads: H, kvHeads: K, scale: 1 / Math.sqrt(D) }, all.slice(0, 4), all.slice(4));
  const out = await on.read(all[4]!);
  for (const storage of all) on.release(storage);
  return out as Float32Array;
}

describe("attention_paged", () => {
  const ones = (length: number): number[] => new Array<number>(length).fill(1);
  it("gives the bits of packed attention for every length 1..130, decoded one token at a time", async () => {
    for (const [H, K, D] of [
      [2, 2, 8],
      [5, 1, 32],
      [4, 2, 64],
      [3, 1, 12],
      [14, 2, 64],
    ] as const) {
      // one sequence of 130 holds every shorter one: causal attention
      const one = { lengths: [130, 3], H, K, D },
        { q, k, v } = inputsOf(one);
      expectSameBits(await throughCache(one, q, k, v, "f32", ones), await packed(one, q, k, v), `H ${H} K ${K} D ${D}`);
    }
  });
  it("gives the same bits however prefill is cut, and whoever else is in the batch", async () => {
    const next = random(9),
      one = { lengths: [130, 17, 64, 1, 77], H: 6, K: 2, D: 32 },
      { q, k, v } = inputsOf(one),
      want = await packed(one, q, k, v);
    const anyhow = (length: number): number[] => {
      const cut: number[] = [];
      for (let left = length; left > 0; left -= cut.at(-1)!) cut.push(Math.min(left, 1 + Math.floor(next(0, 50))));
      return cut;
    };
    for (const pieces of [(length: number) => [length], anyhow, anyhow])
      expectSameBits(await throughCache(one, q, k, v, "f32", pieces), want, "prefill");
    const alone = { ...one, lengths: [17] },
      from = 130,
      slice = (x: Values): Values => tensor(17, x.cols, x.values.slice(from * x.cols, (from + 17) * x.cols));
    expectSameBits(await packed(alone, slice(q), slice(k), slice(v)), want.slice(from * q.cols, (from + 17) * q.cols), "alone");
  });
  it("gives the bits of packed attention over rounded keys and values with a 16-bit cache", async () => {
    for (const cache of ["f16", "bf16"] as const)
      for (const D of [12, 32]) {
        const one = { lengths: [80, 5], H: 4, K: 2, D },
          { q, k, v } = inputsOf(one),
          rounded = (x: Values): Values => ({ ...x, values: x.values.map((value) => roundTo(value, cache)) });
        expectSameBits(
          await throughCache(one, q, k, v, cache, (length) => [3, 1, length - 4]),
          await packed(one, q, rounded(k), rounded(v)),
          `${cache} D ${D}`,
        );
      }
  });
  it("matches the float64 reference on every device and skips inactive rows", async () => {
    for (const cache of ["f32", "f16", "bf16"] as const) {
      const [H, K, D, B] = [6, 2, 16, 4],
        q = randomTensor(1, B, H * D),
        positions = [99, INACTIVE, 0, 64];
      const table = tensor(B, 2, [4, 1, 0, 0, 2, 7, 3, 5], "u32"),
        kCache = randomTensor(5, 8, K * D * 64, cache),
        vCache = randomTensor(6, 8, K * D * 64, cache);
      const out = await check(
        "attention_paged",
        { heads: H, kvHeads: K, scale: 0.3 },
        [q, ids(positions), ids([0, 1, 2, 3, 4]), table, kCache, vCache],
        [zeros(B, H * D)],
        { tolerance: 2e-6 },
      );
      expect(out[0]!.slice(H * D, 2 * H * D).every((x) => x === 0)).toBe(true);
    }
  });
});

describe("kv_write and kv_copy", () => {
  it("put every token in its place and leave all others alone", async () => {
    for (const cache of ["f32", "f16", "bf16"] as const) {
      const [K, D, N] = [2, 12, 9],
        k = randomTensor(1, N, K * D),
        v = randomTensor(2, N, K * D),
        table = tensor(3, 2, [5, 0, 1, 4, 3, 2], "u32");
      for (const [positions, offsets] of [
        [
          [62, 63, 64, 65, 7, 0, 1, INACTIVE, 127],
          [0, 4, 5, 9],
        ],
        // runs of four and more, up to the end of a block, past it, and on in the next sequence
        [
          [60, 61, 62, 63, 64, 65, 66, 67, 68],
          [0, 9, 9, 9],
        ],
        [
          [64, 65, 66, 67, 68, 69, 70, 71, 72],
          [0, 5, 9, 9],
        ],
        [
          [61, 62, 63, 64, 65, 3, 4, 5, 6],
          [0, 5, 5, 9],
        ],
      ] as const) {
        const inputs = [k, v, ids(positions), ids(offsets), table];
        const caches = [randomTensor(3, 6, K * D * 64, cache), randomTensor(4, 6, K * D * 64, cache)];
        await check("kv_write", { kvHeads: K }, inputs, caches, { tolerance: 0 });
      }
    }
  });
  it("copy whole blocks", async () => {
    for (const cache of ["f32", "f16"] as const)
      await check(
        "kv_copy",
        {},
        [tensor(2, 2, [0, 3, 4, 1], "u32")],
        [randomTensor(3, 5, 8 * 64, cache), randomTensor(4, 5, 8 * 64, cache)],
        { tolerance: 0 },
      );
  });
});

describe("attention over many tokens", () => {
  it("stays within float32 error of the reference at 1000 keys", async () => {
    const { q, k, v, offsets, N, dims } = inputsOf({ lengths: [1000], H: 1, K: 1, D: 8 });
    const [out] = await check("attention", dims, [q, k, v, offsets], [zeros(N, 8), zeros(N, 1)], { tolerance: 3e-6 });
    expectClose(out!.slice(0, 8), v.values.slice(0, 8), 1e-6, "the first token sees itself only");
    expect(bitsOf(out!).length).toBe(8000);
  });
});
