/** Training, prefill and decode attend alike, by kernels of f32 and by subgroup matrices. */
import { describe, expect, it } from "vitest";
import type { WebGpuDevice } from "../../../src/device/webgpu/webgpu-device.ts";
import { makeDevice, useDevice } from "../../helpers/device.ts";
import {
  expectClose,
  expectSameBits,
  ids,
  random,
  randomTensor,
  runOn,
  runReference,
  tensor,
  zeros,
  type Values,
} from "../kernels/harness.ts";
import { cases, dimsOf, inputsOf, offsetsOf, ones, packed, paged, rounded, whole, type Case } from "./attention-cases.ts";

/** By matrices where the adapter has them, which the second way asks for: else both are the same kernels. */
const ways = [
  { name: "f32", options: {} },
  { name: "f16", options: { precision: "f16" } },
] as const;

for (const { name, options } of ways) {
  const on = useDevice(options);

  describe(`${name}: attention through the cache gives the bits of packed attention`, () => {
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
          const want = await packed(on(), one, q, rounded(k, cache), rounded(v, cache));
          for (const [what, pieces] of Object.entries({ ones, whole, anyhow }))
            expectSameBits(await paged(on(), one, { q, k, v }, cache, pieces), want, `${cache}, ${what}, D ${one.D}`);
        }
      });

    it("where one token's keys are spread over shards of the cache", async () => {
      const one = { lengths: [150, 0, 64], H: 4, K: 1, D: 8 };
      const sharded = await makeDevice({ ...options, maxShardBytes: 2048 });
      try {
        for (const cache of ["f32", "f16"] as const) {
          const { q, k, v } = inputsOf(one);
          const want = await packed(sharded, one, q, rounded(k, cache), rounded(v, cache));
          // shards hold 256 blocks at least: the blocks in use, the last of 513, lie in the second and the third
          for (const pieces of [whole, (length: number) => [Math.min(length, 130), length - Math.min(length, 130)]])
            expectSameBits(await paged(sharded, one, { q, k, v }, cache, pieces, { spare: 504 }), want, cache);
        }
      } finally {
        await sharded.destroy();
      }
    });

    it("where the partial sums of all rows together exceed one binding", async () => {
      const one = { lengths: [66, 1, 3, 2, 65], H: 16, K: 2, D: 128 };
      const { q, k, v } = inputsOf(one);
      const pieces = (length: number): number[] => [length - 1, 1];
      expectSameBits(await paged(on(), one, { q, k, v }, "f32", pieces, { columns: 4096 }), await packed(on(), one, q, k, v), "slices");
    });
  });

  describe(`${name}: keys that a query does not see`, () => {
    it("have no effect whatever their bits: neither later ones of its sequence nor other sequences", async () => {
      const one = { lengths: [20, 70], H: 2, K: 1, D: 64 };
      const { q, k, v } = inputsOf(one);
      const clean = await packed(on(), one, q, k, v);
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
          const got = await packed(on(), one, q, dk, dv);
          const through = await paged(on(), one, { q, k: dk, v: dv }, "f16", whole);
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
}

describe("attention in precision f16", () => {
  it("matches float64 of operands in f16, at any edge of tiles and blocks, for any number of heads a key", async () => {
    const halves = await makeDevice({ precision: "f16" });
    const more: Case[] = [1, 2, 3, 5, 8, 9, 16].map((H) => ({ lengths: [63 + H, 1, 64, 129], H, K: 1, D: 16 }));
    for (const one of [...cases, ...more]) {
      const { q, k, v } = inputsOf(one);
      const operands = [rounded(q, "f16"), rounded(k, "f16"), rounded(v, "f16")];
      const all = [...operands, ids(offsetsOf(one.lengths))];
      const outputs = [zeros(q.rows, one.H * one.D), zeros(q.rows, one.H)];
      const [out, lse] = runReference("attention", dimsOf(one), all, outputs);
      const got = await runOn(halves, "attention", dimsOf(one), [q, k, v, all[3]!], outputs);
      // weights are rounded to f16 once more; by kernels without matrices scores are of q and k as they are
      const matrices = (halves as WebGpuDevice).capabilities.matrix !== null && one.D % 8 === 0;
      expectClose(got[0]!, out!, matrices ? 6e-4 : 4e-3, `out, H ${one.H}, D ${one.D}`);
      expectClose(got[1]!, lse!, matrices ? 3e-6 : 4e-3, `lse, H ${one.H}, D ${one.D}`);
    }
    await halves.destroy();
  });

  it("has the gradients of float64, of a sequence that ends in any place of a tile", async () => {
    const halves = await makeDevice({ precision: "f16" });
    const more: Case[] = [1, 3, 8].map((H) => ({ lengths: [63 + H, 1, 64, 129], H, K: 1, D: 16 }));
    // heads of other widths have the kernels of f32
    const wide = cases.filter(({ D }) => D % 8 === 0);
    for (const one of [...wide, ...more, { lengths: [140, 0, 3], H: 8, K: 2, D: 128 }]) {
      const { q, k, v } = inputsOf(one);
      const [rows, offsets] = [q.rows, ids(offsetsOf(one.lengths))];
      const dout = randomTensor(4, rows, q.cols);
      const operands = [rounded(q, "f16"), rounded(k, "f16"), rounded(v, "f16"), offsets] as const;
      const [out, lse] = runReference("attention", dimsOf(one), operands, [zeros(rows, q.cols), zeros(rows, one.H)]);
      const saved = [tensor(rows, q.cols, out!), tensor(rows, one.H, lse!)] as const;
      const outputs = [zeros(rows, q.cols), zeros(rows, k.cols), zeros(rows, k.cols)];
      const want = runReference("attention_backward", dimsOf(one), [...operands, ...saved, rounded(dout, "f16")], outputs);
      const got = await runOn(halves, "attention_backward", dimsOf(one), [...operands, ...saved, rounded(dout, "f16")], outputs);
      for (const [i, name] of ["dq", "dk", "dv"].entries()) {
        const scale = want[i]!.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        const worst = want[i]!.reduce((most, x, j) => Math.max(most, Math.abs(x - (got[i] as Float32Array)[j]!)), 0);
        expect(worst / scale, `${name}, H ${one.H}, K ${one.K}, D ${one.D}`).toBeLessThan(1e-3);
      }
    }
    await halves.destroy();
  });

  it("by matrices keeps what is no number to the keys and rows that see it, in the backward pass too", async ({ skip }) => {
    const halves = await makeDevice({ precision: "f16" });
    const { matrix } = (halves as WebGpuDevice).capabilities;
    if (matrix === null) await halves.destroy();
    skip(matrix === null, "the adapter has no subgroup matrices");
    const one: Case = { lengths: [20, 70], H: 2, K: 1, D: 64 };
    const { q, k, v } = inputsOf(one);
    const offsets = ids(offsetsOf(one.lengths));
    const [out, lse] = runReference("attention", dimsOf(one), [q, k, v, offsets], [zeros(90, 128), zeros(90, 2)]);
    const saved = [tensor(90, 128, out!), tensor(90, 2, lse!)] as const;
    const outputs = [zeros(90, 128), zeros(90, 64), zeros(90, 64)];
    const dirty = (x: Values, token: number): Values => ({
      ...x,
      values: x.values.slice().fill(NaN, token * x.cols, (token + 1) * x.cols),
    });
    const gradients = async (...[a, b, c, d]: Values[]): Promise<Float32Array[]> =>
      (await runOn(halves, "attention_backward", dimsOf(one), [a!, b!, c!, offsets, ...saved, d!], outputs)) as Float32Array[];
    const dout = randomTensor(4, 90, 128);
    const clean = await gradients(q, k, v, dout);
    // token 60 is the 41st of the second sequence: as a key it is seen by tokens 60 to 89, as a row it sees keys 20 to 60
    for (const [what, [dq, dk, dv]] of [
      ["key", await gradients(q, dirty(k, 60), v, dout)],
      ["value", await gradients(q, k, dirty(v, 60), dout)],
      ["query", await gradients(dirty(q, 60), k, v, dout)],
      ["gradient", await gradients(q, k, v, dirty(dout, 60))],
    ] as const)
      for (let n = 0; n < 90; n++) {
        const asKey = what === "key" || what === "value";
        const rowHit = asKey ? n >= 60 : n === 60;
        const keyHit = n >= 20 && (asKey ? true : n <= 60);
        if (!rowHit) expectSameBits(dq!.subarray(n * 128, (n + 1) * 128), clean[0]!.subarray(n * 128, (n + 1) * 128), `${what}: dq ${n}`);
        if (keyHit) continue;
        expectSameBits(dk!.subarray(n * 64, (n + 1) * 64), clean[1]!.subarray(n * 64, (n + 1) * 64), `${what}: dk ${n}`);
        expectSameBits(dv!.subarray(n * 64, (n + 1) * 64), clean[2]!.subarray(n * 64, (n + 1) * 64), `${what}: dv ${n}`);
      }
    await halves.destroy();
  });
});
