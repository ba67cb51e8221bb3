/**
 * What a device must compute before it is trusted: small cases of the kernels that tiers differ in, and their results in float64.
 * Inputs on a coarse grid make products and sums exact, so that matrix products are compared without a tolerance.
 */
import { philox } from "../../util/philox.ts";
import type { Device, Dtype, Storage } from "../device.ts";
import { bitsOf, gridValues, roughValues, Trial } from "./self-test-values.ts";
import { attentionGradients, attentionRows, type Heads } from "./self-test-attention.ts";

export interface SelfTestCase {
  readonly name: string;
  /** Asks for kernels at once; what it returns waits for them, and throws if a result is wrong. */
  run(trial: Trial, device: Device): () => Promise<void>;
}

interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA?: 0 | 1;
  readonly transB?: 0 | 1;
  readonly accumulate?: 0 | 1;
  readonly bias?: boolean;
  readonly weights?: Dtype;
}

/** Exact products over the edges of any tile, in one orientation. */
function exactProducts(name: string, products: readonly Product[]): SelfTestCase {
  return {
    name,
    run: (trial) => {
      const checks = products.map(({ M, N, K, transA = 0, transB = 0, accumulate = 0, bias = false, weights = "f32" }, i) => {
        const [a, b, before, add] = [gridValues(M * K, i), gridValues(K * N, i + 50), gridValues(M * N, i + 90), gridValues(N, i + 70)];
        const usage = transB === 1 ? "parameter" : "activation";
        const c = trial.put(M, N, before);
        trial.run(
          "matmul",
          { M, N, K, transA, transB, accumulate },
          [
            trial.put(transA === 1 ? K : M, transA === 1 ? M : K, a),
            trial.put(transB === 1 ? N : K, transB === 1 ? K : N, b, weights, usage),
            bias ? trial.put(1, N, add, weights, usage) : null,
          ],
          [c],
        );
        return async (): Promise<void> => {
          const want = new Float64Array(M * N);
          for (let m = 0; m < M; m++)
            for (let n = 0; n < N; n++) {
              let sum = (bias ? add[n]! : 0) + (accumulate === 1 ? before[m * N + n]! : 0);
              for (let k = 0; k < K; k++) sum += a[transA === 1 ? k * M + m : m * K + k]! * b[transB === 1 ? n * K + k : k * N + n]!;
              want[m * N + n] = sum;
            }
          await trial.close(c, want, 0, `[${M}, ${K}] x [${K}, ${N}], ${weights}`);
        };
      });
      return async () => {
        for (const check of checks) await check();
      };
    },
  };
}

/** A row's bits are the same alone and among others. */
function rowsAlone(weights: Dtype): SelfTestCase {
  const [M, N, K] = [64, 136, 520];
  const alone = [0, 17, 63];
  return {
    name: `matmul of one row and of many, ${weights}`,
    run: (trial) => {
      const a = roughValues(M * K, 7);
      const b = trial.put(N, K, gridValues(N * K, 8, 512, 1), weights, "parameter");
      const dims = { N, K, transA: 0, transB: 1, accumulate: 0 };
      const together = trial.room(M, N);
      trial.run("matmul", { M, ...dims }, [trial.put(M, K, a), b, null], [together]);
      const single = alone.map((row) => {
        const c = trial.room(1, N);
        trial.run("matmul", { M: 1, ...dims }, [trial.put(1, K, a.subarray(row * K, (row + 1) * K)), b, null], [c]);
        return c;
      });
      return async () => {
        for (const [i, row] of alone.entries()) await trial.same(single[i]!, together, [[0, row]], "[1, 520] and [64, 520]");
      };
    },
  };
}

const heads: Heads = { H: 4, K: 2, D: 64, scale: 0.125, offsets: [0, 70, 75] };
const tokens = 75;

/** Attention against float64, and its bits against those of the cache's, in prefill and in decode. */
function attentionCase(cache: Dtype, tolerance: number): SelfTestCase {
  return {
    name: `attention, ${cache} cache`,
    run: (trial) => {
      const { H, K, D, scale, offsets } = heads;
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
        await trial.same(
          decoded,
          out,
          last.map((row, i) => [i, row] as const),
          "decode and packed",
        );
      };
    },
  };
}

function attentionBackward(tolerance: number): SelfTestCase {
  return {
    name: "attention_backward",
    run: (trial) => {
      const { H, K, D, scale, offsets } = heads;
      const [q, k, v] = [gridValues(tokens * H * D, 4, 64, 1), gridValues(tokens * K * D, 5, 64, 1), gridValues(tokens * K * D, 6, 64, 1)];
      const dout = gridValues(tokens * H * D, 7, 64, 1);
      const forward = attentionRows(heads, q, k, v);
      const room = (count: number): Storage => trial.room(tokens, count * D);
      const gradients = [room(H), room(K), room(K)];
      trial.run(
        "attention_backward",
        { heads: H, kvHeads: K, scale },
        [
          trial.put(tokens, H * D, q),
          trial.put(tokens, K * D, k),
          trial.put(tokens, K * D, v),
          trial.put(1, offsets.length, offsets, "u32"),
          trial.put(tokens, H * D, forward.out),
          trial.put(tokens, H, forward.lse),
          trial.put(tokens, H * D, dout),
        ],
        gradients,
      );
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

/** Equal logits make the sampled id a known number of the Philox word. The first two are known-answer vectors of Random123. */
const randomNumbers: SelfTestCase = {
  name: "Philox",
  run: (trial) => {
    const V = 4096;
    const rows: readonly (readonly [key: readonly [number, number], counter: readonly [number, number, number, number], word: number])[] = [
      [[0, 0], [0, 0, 0, 0], 0x6627e8d5],
      [[0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], 0xd16cfe09],
      ...Array.from({ length: 6 }, (_, i) => {
        const [key, counter] = [[0xffffffff - i, 7 * i] as const, [i, 0xffffffff, 0x80000000 + i, 1000 * i] as const];
        return [key, counter, philox(key, counter)[0]] as const;
      }),
    ];
    const R = rows.length;
    const keys = rows.flatMap(([key, counter]) => [...key, ...counter.slice(0, 3)]);
    const positions = rows.map(([, counter]) => counter[3]);
    const settings = rows.flatMap(() => [1, 0, 1, 0]);
    const ids = trial.room(1, R, "u32");
    trial.run(
      "sample",
      {},
      [trial.put(R, V, new Float64Array(R * V)), trial.put(R, 4, settings), trial.put(R, 5, keys, "u32"), trial.put(1, R, positions, "u32")],
      [ids, trial.room(1, R)],
    );
    return () =>
      trial.close(
        ids,
        rows.map(([, , random]) => Math.floor(((random >>> 8) + 0.5) * 2 ** -24 * V)),
        0,
        "ids of equal logits",
      );
  },
};

/** Sampled ids and their log-probabilities, which `log_prob` must give again bit for bit. */
function sampling(weights: Dtype, tolerance: number): SelfTestCase {
  const [R, V, C] = [4, 700, 64];
  // temperature 1, greedy, the five largest, the largest that have 0.8 of the weight together
  const settings = [1, 0, 1, 0, 0, 0, 1, 0, 1, 5, 1, 0, 1, 0, 0.8, 0];
  return {
    name: `sample and log_prob, ${weights}`,
    run: (trial) => {
      const [x, w] = [gridValues(R * C, 21, 16, 1), gridValues(V * C, 22, 16, 1)];
      const [hidden, weight] = [trial.put(R, C, x), trial.put(V, C, w, weights, "parameter")];
      const logits = trial.room(R, V);
      trial.run("matmul", { M: R, N: V, K: C, transA: 0, transB: 1, accumulate: 0 }, [hidden, weight, null], [logits]);
      const keys = Array.from({ length: R * 5 }, (_, i) => i * 77);
      const positions = Array.from({ length: R }, (_, r) => 100 + r);
      const [ids, sampled] = [trial.room(1, R, "u32"), trial.room(1, R)];
      const inputs = [logits, trial.put(R, 4, settings), trial.put(R, 5, keys, "u32"), trial.put(1, R, positions, "u32")];
      trial.run("sample", {}, inputs, [ids, sampled]);
      const [logProb, entropy] = [trial.room(1, R), trial.room(1, R)];
      trial.run("log_prob", { temperature: 1 }, [hidden, weight, ids], [logProb, entropy, trial.room(1, R)]);
      return async () => {
        const want = Array.from({ length: R }, (_, r) => {
          const z = Array.from({ length: V }, (_, v) => x.subarray(r * C, (r + 1) * C).reduce((sum, value, c) => sum + value * w[v * C + c]!, 0));
          const counter = [keys[5 * r + 2]!, keys[5 * r + 3]!, keys[5 * r + 4]!, positions[r]!] as const;
          const u = ((philox([keys[5 * r]!, keys[5 * r + 1]!], counter)[0] >>> 8) + 0.5) * 2 ** -24;
          return expectedSample(z, settings.slice(4 * r, 4 * r + 4), u);
        });
        await trial.close(
          ids,
          want.map(({ id }) => id),
          0,
          "sampled ids",
        );
        await trial.close(
          logProb,
          want.map(({ logProb: value }) => value),
          tolerance,
          "log-probabilities",
        );
        await trial.close(
          entropy,
          want.map(({ entropy: value }) => value),
          tolerance,
          "entropies",
        );
        const [a, b] = [bitsOf(await trial.read(sampled)), bitsOf(await trial.read(logProb))];
        for (let r = 0; r < R; r++) if (a[r] !== b[r]) throw new Error(`row ${r}: sample and log_prob differ in their bits`);
      };
    },
  };
}

/** The id that `sample` takes for a random number u in (0, 1), and what `log_prob` says of it. */
function expectedSample(
  z: readonly number[],
  [temperature = 1, topK = 0, topP = 1]: readonly number[],
  u: number,
): { readonly id: number; readonly logProb: number; readonly entropy: number } {
  const top = Math.max(...z);
  const p = z.map((value) => Math.exp(value - top));
  const total = p.reduce((sum, value) => sum + value, 0);
  const logs = z.map((value) => value - top - Math.log(total));
  const entropy = -logs.reduce((sum, value) => sum + Math.exp(value) * value, 0);
  const order = Array.from(z.keys()).sort((a, b) => z[b]! - z[a]! || a - b);
  let kept = order.slice(0, topK > 0 ? topK : z.length);
  const weight = kept.reduce((sum, v) => sum + p[v]!, 0);
  let sum = 0;
  if (topP < 1) kept = kept.slice(0, 1 + kept.findIndex((v) => (sum += p[v]!) >= topP * weight));
  kept.sort((a, b) => a - b);
  const target = u * kept.reduce((all, v) => all + p[v]!, 0);
  let running = 0;
  const drawn = kept.find((v) => (running += p[v]!) > target) ?? kept[kept.length - 1]!;
  const id = temperature > 0 ? drawn : order[0]!;
  return { id, logProb: logs[id]!, entropy };
}

/** All cases, products last: most of the pipelines are theirs. Where operands are rounded to f16, inner roundings of attention show too. */
export function selfTestCases(precision: "f32" | "f16"): readonly SelfTestCase[] {
  const tolerance = precision === "f32" ? 3e-5 : 4e-3;
  const both: readonly Dtype[] = ["f32", "f16"];
  return [
    halves,
    norm,
    randomNumbers,
    attentionCase(precision, tolerance),
    attentionBackward(4 * tolerance),
    sampling(precision, 3e-5),
    ...both.flatMap((weights) => [
      exactProducts(`matmul with ${weights} weights`, [
        { M: 1, N: 200, K: 328, transB: 1, bias: true, weights },
        { M: 3, N: 65, K: 300, transB: 1, weights },
        { M: 64, N: 136, K: 320, transB: 1, bias: true, weights },
        { M: 130, N: 257, K: 264, transB: 1, weights },
        { M: 70, N: 136, K: 264, weights },
      ]),
      rowsAlone(weights),
    ]),
    exactProducts("matmul of gradients", [
      { M: 136, N: 72, K: 130, transA: 1 },
      { M: 65, N: 33, K: 300, transA: 1, accumulate: 1 },
      { M: 130, N: 136, K: 72, accumulate: 1 },
    ]),
  ];
}
