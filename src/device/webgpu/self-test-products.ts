/** Matrix products of the self-test. Inputs on a coarse grid make products and sums exact, so that no tolerance is needed. */
import type { Dtype, Storage } from "../device.ts";
import { checkClose, gridValues, roughValues, type SelfTestCase } from "./self-test-values.ts";

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
export function exactProducts(name: string, products: readonly Product[]): SelfTestCase {
  return {
    name,
    run: (trial) => {
      const checks = products.map(({ M, N, K, transA = 0, transB = 0, accumulate = 0, bias = false, weights = "f32" }, i) => {
        const [a, b, add] = [gridValues(M * K, i), gridValues(K * N, i + 50), gridValues(N, i + 70)];
        const before = accumulate === 1 ? gridValues(M * N, i + 90) : null;
        const usage = transB === 1 ? "parameter" : "activation";
        const c = before === null ? trial.room(M, N) : trial.put(M, N, before);
        const left = transA === 1 ? trial.put(K, M, a) : trial.put(M, K, a);
        const right = transB === 1 ? trial.put(N, K, b, weights, usage) : trial.put(K, N, b, weights, usage);
        const addend = bias ? trial.put(1, N, add, weights, usage) : null;
        trial.run("matmul", { M, N, K, transA, transB, accumulate }, [left, right, addend], [c]);
        return async (): Promise<void> => {
          const want = (m: number): Float64Array =>
            new Float64Array(N).map((_, n) => {
              let sum = (bias ? add[n]! : 0) + (before?.[m * N + n] ?? 0);
              for (let k = 0; k < K; k++) sum += a[transA === 1 ? k * M + m : m * K + k]! * b[transB === 1 ? n * K + k : k * N + n]!;
              return sum;
            });
          // of a large product some rows
          const step = M > 200 ? 43 : 1;
          for (const [m, row] of (await trial.rows(c)).entries())
            if (m % step === 0 || m === M - 1) checkClose(row, want(m), 0, `[${M}, ${K}] x [${K}, ${N}], ${weights}, row ${m}`);
        };
      });
      return async () => {
        for (const check of checks) await check();
      };
    },
  };
}

/** Rows of a batch: one, as many as are read where they lie, one more, for which operands are packed, and several tiles. */
const batches = [1, 64, 65, 300];

/** A row's bits are the same alone and among others, whichever way operands are read, over several chunks of the longest kind. */
export function rowsAlone(weights: Dtype): SelfTestCase {
  const [N, K] = [136, 4200];
  return {
    name: `matmul of one row and of many, ${weights}`,
    run: (trial) => {
      const most = Math.max(...batches);
      const a = roughValues(most * K, 7);
      const b = trial.put(N, K, gridValues(N * K, 8, 512, 1), weights, "parameter");
      const product = (rows: Float64Array): Storage => {
        const M = rows.length / K;
        const c = trial.room(M, N);
        trial.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [trial.put(M, K, rows), b, null], [c]);
        return c;
      };
      const each = batches.map((M) => product(a.subarray(0, M * K)));
      // the last of 64 rows, alone
      const last = product(a.subarray(63 * K, 64 * K));
      return async () => {
        for (const [i, c] of each.slice(1).entries()) {
          const M = batches[i + 1]!;
          const what = (rows: number): string => `[${rows}, ${K}] and [${M}, ${K}]`;
          await trial.same(each[0]!, c, [[0, 0]], what(1));
          await trial.same(last, c, [[0, 63]], what(1));
          const shared = Array.from({ length: batches[i]! }, (_, row) => [row, row] as const);
          await trial.same(each[i]!, c, shared, what(batches[i]!));
        }
      };
    },
  };
}
