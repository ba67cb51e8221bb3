import { describe, expect, it } from "vitest";
import {
  bitsOf,
  check,
  device,
  expectSameBits,
  ids,
  random,
  randomTensor,
  runOn,
  runReference,
  tensor,
  useDevices,
  vector,
  zeros,
  type Values,
} from "../kernels/harness.ts";
import { makeDevice } from "../../helpers/device.ts";

useDevices();

const vectors = (N: number): Values[] => [zeros(1, N), zeros(1, N), zeros(1, N)];
function problem(N: number, C: number, V: number): [hidden: Values, weight: Values, targets: Values] {
  const next = random(9);
  return [randomTensor(1, N, C), randomTensor(2, V, C, "f32", -2, 2), ids(Array.from({ length: N }, () => Math.floor(next(0, V))))];
}

describe("log_prob on a GPU", () => {
  it("merges the blocks of a long row as float64 does", async () => {
    for (const V of [4095, 4097, 20_000])
      await check("log_prob", { temperature: 0.8 }, [...problem(3, 7, V)], vectors(3), { tolerance: 2e-6 });
  });

  it("gives rows of later chunks the bits they have alone, and adds every chunk to the gradient of the weight", async () => {
    // one row more than a chunk has at most
    const [N, C, V] = [4097, 3, 5];
    const inputs = problem(N, C, V);
    const [logProb, entropy, lse] = await check("log_prob", { temperature: 0.8 }, inputs, vectors(N), { tolerance: 3e-6 });
    const [hidden, weight, targets] = inputs;
    const tail = tensor(5, C, hidden.values.slice((N - 5) * C));
    const [alone] = await runOn(device(), "log_prob", { temperature: 0.8 }, [tail, weight, ids(targets.values.slice(N - 5))], vectors(5));
    expect(bitsOf(alone!)).toEqual(bitsOf(logProb!.slice(N - 5)));
    const gradients = [vector(entropy!), vector(lse!), randomTensor(3, 1, N), randomTensor(4, 1, N)];
    await check("log_prob_backward", { temperature: 0.8 }, [...inputs, ...gradients], [zeros(N, C), randomTensor(5, V, C)], {
      tolerance: 1e-4,
    });
  });

  it("leaves ids of logit -infinity out, and says NaN for one that is no number or +infinity", async () => {
    const V = 4100;
    const hidden = vector([1]);
    const row = Float64Array.from({ length: V }, (_, v) => (v % 3 === 0 ? -Infinity : (v % 5) - 2));
    const weight: Values = { rows: V, cols: 1, dtype: "f32", values: row };
    const [logProb, entropy, lse] = await runOn(device(), "log_prob", { temperature: 1 }, [hidden, weight, ids([1])], vectors(1));
    const z = [...row].filter((x) => x !== -Infinity);
    const wanted = Math.log(z.reduce((sum, x) => sum + Math.exp(x), 0));
    expect(lse![0]).toBeCloseTo(wanted, 5);
    expect(logProb![0]).toBeCloseTo(row[1]! - wanted, 5);
    expect(entropy![0]).toBeCloseTo(wanted - z.reduce((sum, x) => sum + Math.exp(x - wanted) * x, 0), 5);
    for (const bad of [NaN, Infinity]) {
      const values = row.slice();
      values[4099] = bad;
      const out = await runOn(device(), "log_prob", { temperature: 1 }, [hidden, { ...weight, values }, ids([1])], vectors(1));
      for (const data of out) expect(data[0]).toBeNaN();
    }
  });

  it("repeats its gradients bit for bit", async () => {
    const [N, C, V] = [70, 40, 5000];
    const inputs = problem(N, C, V);
    const [, entropy, lse] = await runOn(device(), "log_prob", { temperature: 1 }, inputs, vectors(N));
    const all = [...inputs, vector(entropy!), vector(lse!), randomTensor(3, 1, N), randomTensor(4, 1, N)];
    const [first, second] = [
      await runOn(device(), "log_prob_backward", { temperature: 1 }, all, [zeros(N, C), zeros(V, C)]),
      await runOn(device(), "log_prob_backward", { temperature: 1 }, all, [zeros(N, C), zeros(V, C)]),
    ];
    first.forEach((data, i) => {
      expectSameBits(second[i]!, data, `output ${i}`);
    });
  });

  it("shows a NaN in the statistics of a row that has a say", async () => {
    const [hidden, weight, targets] = problem(2, 4, 30);
    const inputs = [hidden, weight, targets, vector([1, 1]), vector([NaN, 3]), vector([1, 1]), null];
    const [dhidden] = await runOn(device(), "log_prob_backward", { temperature: 1 }, inputs, [zeros(2, 4), null]);
    expect([...dhidden!.slice(0, 4)].every(Number.isNaN)).toBe(true);
    expect([...dhidden!.slice(4)].every(Number.isFinite)).toBe(true);
  });

  it("gives the gradients of float64 in precision f16, where the adapter has matrices by operands that are written packed, in several chunks", async () => {
    const halves = await makeDevice({ precision: "f16" });
    // one row more than a chunk has at most, and columns and rows that no tile divides
    for (const [N, C, V] of [
      [130, 40, 700],
      [4097, 8, 9],
    ] as const) {
      const inputs = problem(N, C, V);
      const [, entropy, lse] = runReference("log_prob", { temperature: 0.8 }, inputs, vectors(N));
      const all = [...inputs, vector(entropy!), vector(lse!), randomTensor(3, 1, N), randomTensor(4, 1, N)];
      const outputs = [zeros(N, C), randomTensor(5, V, C)];
      const want = runReference("log_prob_backward", { temperature: 0.8 }, all, outputs);
      const got = await runOn(halves, "log_prob_backward", { temperature: 0.8 }, all, outputs);
      // logits are of rounded operands: 2^-11 of their size, once a factor
      for (const [i, name] of ["dhidden", "dweight"].entries()) {
        const scale = want[i]!.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        const worst = want[i]!.reduce((most, x, j) => Math.max(most, Math.abs(x - (got[i] as Float32Array)[j]!)), 0);
        expect(worst / scale, `${name} of ${N} x ${C} x ${V}`).toBeLessThan(6e-3);
      }
    }
    await halves.destroy();
  });
});
