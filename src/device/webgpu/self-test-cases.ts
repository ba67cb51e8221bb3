/** What a device must compute before it is trusted: small cases of the kernels that tiers differ in, and their results in float64. */
import type { Dtype, Storage } from "../device.ts";
import type { Capabilities } from "./capabilities.ts";
import { attentionGradients, attentionRows, type Heads } from "./self-test-attention.ts";
import { exactProducts, rowsAlone } from "./self-test-products.ts";
import { randomNumbers, sampling } from "./self-test-sampling.ts";
import { gridValues, roughValues, type SelfTestCase } from "./self-test-values.ts";

const offsets = [0, 70, 75];
const tokens = 75;
const pairs: Heads = { H: 4, K: 2, D: 64, scale: 0.125, offsets };
/** As many query heads as share one in Qwen2.5 0.5B and 7B. */
const sevens: Heads = { H: 7, K: 1, D: 64, scale: 0.125, offsets };
/** Wide heads, as many as share one in Qwen3 32B and the 3B of Qwen2.5. */
const eights: Heads = { H: 8, K: 1, D: 128, scale: 0.0625, offsets };

/** Attention against float64, and its bits against those of the cache's, in prefill and in decode. */
function attentionCase(heads: Heads, cache: Dtype, tolerance: number): SelfTestCase {
  const { H, K, D, scale } = heads;
  return {
    name: `attention of ${H} heads on ${K}, ${D} wide, ${cache} cache`,
    run: (trial) => {
      const [q, k, v] = [gridValues(tokens * H * D, 1, 64, 1), gridValues(tokens * K * D, 2, 64, 1), gridValues(tokens * K * D, 3, 64, 1)];
      const [qs, ks, vs] = [trial.put(tokens, H * D, q), trial.put(tokens, K * D, k), trial.put(tokens, K * D, v)];
      const ends = trial.put(1, offsets.length, offsets, "u32");
      const [out, paged, decoded] = [trial.room(tokens, H * D), trial.room(tokens, H * D), trial.room(2, H * D)];
      const dims = { heads: H, kvHeads: K, scale };
      trial.run("attention", dims, [qs, ks, vs, ends], [out, trial.room(tokens, H)]);

      const positions = Array.from({ length: tokens }, (_, n) => (n < 70 ? n : n - 70));
      const places = [trial.put(1, tokens, positions, "u32"), ends, trial.put(2, 2, [2, 0, 1, 1], "u32")];
      const caches = [trial.room(3, K * D * 64, cache), trial.room(3, K * D * 64, cache)];
      trial.run("kv_write", { kvHeads: K }, [ks, vs, ...places], caches);
      trial.run("attention_paged", dims, [qs, ...places, ...caches], [paged]);
      const last = [69, 74];
      const lastRows = Float64Array.from(last.flatMap((row) => [...q.subarray(row * H * D, (row + 1) * H * D)]));
      const one = [trial.put(1, 2, [69, 4], "u32"), trial.put(1, 3, [0, 1, 2], "u32"), places[2]!];
      trial.run("attention_paged", dims, [trial.put(2, H * D, lastRows), ...one, ...caches], [decoded]);
      return async () => {
        await trial.close(out, attentionRows(heads, q, k, v).out, tolerance, "packed, against float64");
        const all = Array.from({ length: tokens }, (_, n) => [n, n] as const);
        await trial.same(paged, out, all, "prefill and packed");
        const rows = last.map((row, i) => [i, row] as const);
        await trial.same(decoded, out, rows, "decode and packed");
      };
    },
  };
}

function attentionBackward(heads: Heads, tolerance: number): SelfTestCase {
  const { H, K, D, scale } = heads;
  return {
    name: `attention_backward of ${H} heads on ${K}, ${D} wide`,
    run: (trial) => {
      const [q, k, v] = [gridValues(tokens * H * D, 4, 64, 1), gridValues(tokens * K * D, 5, 64, 1), gridValues(tokens * K * D, 6, 64, 1)];
      const dout = gridValues(tokens * H * D, 7, 64, 1);
      const forward = attentionRows(heads, q, k, v);
      const room = (count: number): Storage => trial.room(tokens, count * D);
      const gradients = [room(H), room(K), room(K)];
      const [qs, ks, vs] = [trial.put(tokens, H * D, q), trial.put(tokens, K * D, k), trial.put(tokens, K * D, v)];
      const ends = trial.put(1, offsets.length, offsets, "u32");
      const [outs, lses] = [trial.put(tokens, H * D, forward.out), trial.put(tokens, H, forward.lse)];
      const inputs = [qs, ks, vs, ends, outs, lses, trial.put(tokens, H * D, dout)];
      trial.run("attention_backward", { heads: H, kvHeads: K, scale }, inputs, gradients);
      return async () => {
        const want = attentionGradients(heads, q, k, v, dout);
        for (const [i, name] of ["dq", "dk", "dv"].entries()) await trial.close(gradients[i]!, want[i]!, tolerance, name);
      };
    },
  };
}

/** y against float64, alone and right behind the addition that makes its rows. */
const norm: SelfTestCase = {
  name: "rms_norm",
  run: (trial) => {
    const [N, C, eps] = [3, 200, 1e-5];
    const [x, weight, more] = [roughValues(N * C, 11), roughValues(C, 12), roughValues(N * C, 13)];
    const sums = x.map((value, i) => Math.fround(value + more[i]!));
    const [xs, weights] = [trial.put(N, C, x), trial.put(1, C, weight)];
    const [sum, y, ofSum] = [trial.room(N, C), trial.room(N, C), trial.room(N, C)];
    trial.run("rms_norm", { groups: 1, eps }, [xs, weights], [y, trial.room(N, 1)]);
    const moreRows = trial.put(N, C, more);
    trial.run("add", {}, [xs, moreRows], [sum]);
    trial.run("rms_norm", { groups: 1, eps }, [sum, weights], [ofSum, trial.room(N, 1)]);
    const want = (rows: Float64Array): Float64Array =>
      rows.map((value, i) => {
        const row = rows.subarray(i - (i % C), i - (i % C) + C);
        return (value / Math.sqrt(row.reduce((all, one) => all + one * one, 0) / C + eps)) * weight[i % C]!;
      });
    return async () => {
      await trial.close(y, want(x), 1e-5, "y");
      await trial.close(sum, sums, 0, "a sum");
      await trial.close(ofSum, want(sums), 1e-5, "y of a sum");
    };
  },
};

/** Rounding to f16: ties, the largest, overflow, subnormals, zero. */
const halves: SelfTestCase = {
  name: "copy to f16",
  run: (trial) => {
    const table: readonly (readonly [number, number])[] = [
      [1 / 3, 0x3555],
      [-0.1, 0xae66],
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
      [65519, 0x7bff],
      [-65520, 0xfc00],
      [2 ** -24, 0x0001],
      [3 * 2 ** -25, 0x0002],
      [2 ** -25, 0x0000],
      [-0, 0x8000],
    ];
    const values = table.map(([value]) => value);
    const y = trial.room(1, table.length, "f16");
    trial.run("copy", { fromRow: 0, toRow: 0, rows: 1 }, [trial.put(1, table.length, values)], [y]);
    return async () => {
      const got = await trial.read(y);
      for (const [i, [value, bits]] of table.entries())
        if (got[i] !== bits) throw new Error(`${value} is rounded to the bits 0x${got[i]!.toString(16)}, not 0x${bits.toString(16)}`);
    };
  },
};

/** All cases, products last: most of the pipelines are theirs. Where operands are rounded to f16, inner roundings of attention show too. */
export function selfTestCases(precision: "f32" | "f16", { software }: Pick<Capabilities, "software">): readonly SelfTestCase[] {
  const tolerance = precision === "f32" ? 3e-5 : 4e-3;
  const both: readonly Dtype[] = ["f32", "f16"];
  return [
    halves,
    norm,
    randomNumbers,
    attentionCase(pairs, precision, tolerance),
    attentionCase(sevens, "f16", tolerance),
    attentionCase(eights, "bf16", tolerance),
    attentionBackward(pairs, 4 * tolerance),
    attentionBackward(eights, 4 * tolerance),
    sampling(precision, 3e-5),
    ...both.flatMap((weights) => [
      exactProducts(`matmul with ${weights} weights`, [
        { M: 1, N: 200, K: 328, transB: 1, bias: true, weights },
        { M: 3, N: 65, K: 300, transB: 1, weights },
        { M: 64, N: 136, K: 320, transB: 1, bias: true, weights },
        { M: 130, N: 257, K: 264, transB: 1, weights },
        { M: 70, N: 136, K: 264, weights },
        // several chunks, split among workgroups
        { M: 5, N: 72, K: 4200, transB: 1, bias: true, weights },
        { M: 65, N: 72, K: 4200, transB: 1, weights },
      ]),
      rowsAlone(weights),
    ]),
    // enough tiles for the largest ones to be used, and the next smaller ones; not worth the seconds they take in software
    ...(software
      ? []
      : [
          exactProducts("matmul of many tiles", [
            { M: 1536, N: 1536, K: 64, transB: 1, weights: precision },
            { M: 1536, N: 768, K: 64, transB: 1, weights: precision },
          ]),
        ]),
    exactProducts("matmul of gradients", [
      { M: 136, N: 72, K: 130, transA: 1 },
      { M: 65, N: 33, K: 300, transA: 1, accumulate: 1 },
      { M: 130, N: 136, K: 72, accumulate: 1 },
    ]),
  ];
}
