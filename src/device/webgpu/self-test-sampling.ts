/** Random numbers, sampling and log-probabilities in the self-test. */
import { philox } from "../../util/philox.ts";
import type { Dtype } from "../device.ts";
import { bitsOf, gridValues, type SelfTestCase } from "./self-test-values.ts";

/** Equal logits make the sampled id a known number of the Philox word. The first two are known-answer vectors of Random123. */
export const randomNumbers: SelfTestCase = {
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
    const [logits, settingRows] = [trial.put(R, V, new Float64Array(R * V)), trial.put(R, 4, settings)];
    const inputs = [logits, settingRows, trial.put(R, 5, keys, "u32"), trial.put(1, R, positions, "u32")];
    trial.run("sample", {}, inputs, [ids, trial.room(1, R)]);
    const want = rows.map(([, , random]) => Math.floor(((random >>> 8) + 0.5) * 2 ** -24 * V));
    return () => trial.close(ids, want, 0, "ids of equal logits");
  },
};

/** Sampled ids and their log-probabilities, which `log_prob` must give again bit for bit. */
export function sampling(weights: Dtype, tolerance: number): SelfTestCase {
  // more logits than one block of the softmax holds
  const [R, V, C] = [4, 4500, 64];
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
          const z = Array.from({ length: V }, (_, v) =>
            x.subarray(r * C, (r + 1) * C).reduce((sum, value, c) => sum + value * w[v * C + c]!, 0),
          );
          const counter = [keys[5 * r + 2]!, keys[5 * r + 3]!, keys[5 * r + 4]!, positions[r]!] as const;
          const u = ((philox([keys[5 * r]!, keys[5 * r + 1]!], counter)[0] >>> 8) + 0.5) * 2 ** -24;
          return expectedSample(z, settings.slice(4 * r, 4 * r + 4), u);
        });
        const wanted = (name: "id" | "logProb" | "entropy"): number[] => want.map((row) => row[name]);
        await trial.close(ids, wanted("id"), 0, "sampled ids");
        await trial.close(logProb, wanted("logProb"), tolerance, "log-probabilities");
        await trial.close(entropy, wanted("entropy"), tolerance, "entropies");
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
