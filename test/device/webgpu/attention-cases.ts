/** Attention of packed sequences, and the same through a paged cache, for the tests of it. */
import type { Device, Dtype, Storage } from "../../../src/device/device.ts";
import { ids, place, randomTensor, tensor, zeros, type Values } from "../kernels/harness.ts";
import { roundTo } from "../../helpers/round-to.ts";

export interface Case {
  readonly lengths: readonly number[];
  readonly H: number;
  readonly K: number;
  readonly D: number;
}
export const offsetsOf = (lengths: readonly number[]): number[] => lengths.reduce((all, length) => [...all, all.at(-1)! + length], [0]);
export const dimsOf = ({ H, K, D }: Case) => ({ heads: H, kvHeads: K, scale: 1 / Math.sqrt(D) });
export const inputsOf = ({ lengths, H, K, D }: Case): Record<"q" | "k" | "v", Values> => {
  const N = offsetsOf(lengths).at(-1)!;
  return { q: randomTensor(1, N, H * D, "f32", -2, 2), k: randomTensor(2, N, K * D, "f32", -2, 2), v: randomTensor(3, N, K * D) };
};

/** One to five sequences, some of them empty; groups of 1, 2, 6, 7 and of more than a tile; widths of real models, and odd ones. */
export const cases: readonly Case[] = [
  { lengths: [70], H: 14, K: 2, D: 64 },
  { lengths: [0, 66], H: 6, K: 1, D: 128 },
  { lengths: [33, 0, 64], H: 2, K: 2, D: 80 },
  { lengths: [0, 0, 65, 1], H: 4, K: 2, D: 96 },
  { lengths: [3, 64, 0, 17, 0], H: 7, K: 1, D: 64 },
  { lengths: [9, 2], H: 66, K: 1, D: 4 },
  { lengths: [5, 70], H: 67, K: 1, D: 68 },
];

export async function packed(on: Device, one: Case, q: Values, k: Values, v: Values): Promise<Float32Array> {
  const { H, D, lengths } = one;
  const all = [q, k, v, ids(offsetsOf(lengths)), zeros(q.rows, H * D), zeros(q.rows, H)].map((x) => place(on, x));
  on.run("attention", dimsOf(one), all.slice(0, 4), all.slice(4));
  const out = await on.read(all[4]!);
  for (const storage of all) on.release(storage);
  return out as Float32Array;
}

/** The same through a paged cache, sequence b's tokens in the pieces that `pieces` cuts; what was never written is NaN. */
export async function paged(
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

export const rounded = (x: Values, cache: Dtype): Values => ({ ...x, values: x.values.map((value) => roundTo(value, cache)) });
export const ones = (length: number): number[] => new Array<number>(length).fill(1);
export const whole = (length: number): number[] => [length];
