import { describe, expect, it } from "vitest";
import type { HostArray } from "../../src/device/device.ts";
import { useDevice } from "../helpers/device.ts";
import {
  check,
  expectClose,
  expectGradient,
  expectSameBits,
  ids,
  place,
  random,
  randomTensor,
  runOn,
  useDevices,
  vector,
  zeros,
  type Values,
} from "./kernels/harness.ts";

useDevices();
const cpu = useDevice({ threads: 2 });

function problem(
  N: number,
  C: number,
  V: number,
  dtype: "f32" | "f16" | "bf16" = "f32",
): { hidden: Values; weight: Values; targets: Values; dLogProb: Values; dEntropy: Values } {
  const next = random(9);
  return {
    hidden: randomTensor(1, N, C, "f32", -6 / Math.sqrt(C), 6 / Math.sqrt(C)),
    weight: randomTensor(2, V, C, dtype, -2, 2),
    targets: ids(Array.from({ length: N }, () => Math.floor(next(0, V)))),
    dLogProb: randomTensor(3, 1, N),
    dEntropy: randomTensor(4, 1, N),
  };
}
const vectors = (N: number): Values[] => [zeros(1, N), zeros(1, N), zeros(1, N)];
/** log_prob's outputs in float64: logProb, entropy, lse. */
function forward(
  hidden: ArrayLike<number>,
  weight: ArrayLike<number>,
  targets: ArrayLike<number>,
  C: number,
  temperature: number,
): [Float64Array, Float64Array, Float64Array] {
  const N = targets.length,
    V = weight.length / C;
  const out: [Float64Array, Float64Array, Float64Array] = [new Float64Array(N), new Float64Array(N), new Float64Array(N)];
  for (let n = 0; n < N; n++) {
    const z = Float64Array.from({ length: V }, (_, v) => {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += hidden[n * C + c]! * weight[v * C + c]!;
      return sum / temperature;
    });
    const top = z.reduce((a, b) => Math.max(a, b), -Infinity);
    const lse = top + Math.log(z.reduce((sum, x) => sum + Math.exp(x - top), 0));
    out[0][n] = z[targets[n]!]! - lse;
    out[1][n] = lse - z.reduce((sum, x) => sum + Math.exp(x - lse) * x, 0);
    out[2][n] = lse;
  }
  return out;
}

// one of everything; one over a tile, a block of 512 columns, a chunk of 256 and a block of 512 rows
const sizes: readonly (readonly [N: number, C: number, V: number])[] = [
  [1, 1, 1],
  [3, 5, 9],
  [130, 37, 513],
  [521, 12, 1030],
  [2, 300, 1100],
];

describe("log_prob", () => {
  it("gives log-probability, entropy and logsumexp of float64, on any threads and shards", async () => {
    for (const [N, C, V] of sizes)
      for (const temperature of [1, 0.7]) {
        const { hidden, weight, targets } = problem(N, C, V);
        await check("log_prob", { temperature }, [hidden, weight, targets], vectors(N), { tolerance: 3e-5 });
      }
  });

  it("reads f16 and bf16 weights exactly", async () => {
    for (const dtype of ["f16", "bf16"] as const) {
      const { hidden, weight, targets, dLogProb, dEntropy } = problem(9, 21, 600, dtype);
      const [, entropy, lse] = await check("log_prob", { temperature: 1 }, [hidden, weight, targets], vectors(9), { tolerance: 3e-5 });
      await check(
        "log_prob_backward",
        { temperature: 1 },
        [hidden, weight, targets, vector(entropy!), vector(lse!), dLogProb, dEntropy],
        [zeros(9, 21), zeros(600, 21)],
        { tolerance: 3e-5 },
      );
    }
  });

  it("survives logits far apart and all alike", async () => {
    const hidden = vector([1]),
      targets = ids([2]);
    for (const logits of [
      [-1e4, 0, 1e4, 5],
      [3, 3, 3, 3, 3],
      [-90, -90, 0],
      Array.from({ length: 1200 }, (_, v) => (v === 700 ? 200 : -v)),
    ]) {
      const weight: Values = { rows: logits.length, cols: 1, dtype: "f32", values: Float64Array.from(logits) };
      await check("log_prob", { temperature: 1 }, [hidden, weight, targets], vectors(1), { tolerance: 1e-6 });
    }
  });

  it("gives the same bits whatever else is in the batch", async () => {
    const { hidden, weight, targets } = problem(300, 40, 700);
    const [whole] = await runOn(cpu(), "log_prob", { temperature: 0.9 }, [hidden, weight, targets], vectors(300));
    for (const [from, to] of [
      [0, 1],
      [11, 13],
      [100, 300],
      [7, 131],
    ] as const) {
      const part: Values = { rows: to - from, cols: 40, dtype: "f32", values: hidden.values.slice(from * 40, to * 40) };
      const [got] = await runOn(
        cpu(),
        "log_prob",
        { temperature: 0.9 },
        [part, weight, ids(targets.values.slice(from, to))],
        vectors(to - from),
      );
      expectSameBits(got!, whole!.slice(from, to), `rows ${from}..${to}`);
    }
  });

  it("gives an id the bits that sample recorded for it from the logits of matmul", async () => {
    const device = cpu(),
      [N, C, V] = [37, 70, 1500];
    const { hidden, weight } = problem(N, C, V);
    for (const temperature of [1, 0.7, 1.3, 0.1]) {
      const [x, w] = [place(device, hidden), place(device, weight)];
      const [logits, sampled, logProb] = [
        device.allocate(N, V, "f32", "activation", "logits"),
        device.allocate(1, N, "u32", "activation", "ids"),
        device.allocate(1, N, "f32", "activation", "logProb"),
      ];
      device.run("matmul", { M: N, N: V, K: C, transA: 0, transB: 1, accumulate: 0 }, [x, w, null], [logits]);
      const settings = place(device, {
        rows: N,
        cols: 4,
        dtype: "f32",
        values: Float64Array.from({ length: N * 4 }, (_, i) => [temperature, 0, 1, 0][i % 4]!),
      });
      const keys = place(device, { rows: N, cols: 5, dtype: "u32", values: Float64Array.from({ length: N * 5 }, (_, i) => i) });
      const positions = place(device, ids(Array.from({ length: N }, (_, i) => i)));
      device.run("sample", {}, [logits, settings, keys, positions], [sampled, logProb]);
      const [recomputed, entropy, lse] = [0, 0, 0].map(() => device.allocate(1, N, "f32", "activation", "v")) as [
        typeof x,
        typeof x,
        typeof x,
      ];
      device.run("log_prob", { temperature }, [x, w, sampled], [recomputed, entropy, lse]);
      expectSameBits(await device.read(recomputed), await device.read(logProb), `temperature ${temperature}`);
      for (const storage of [x, w, logits, sampled, logProb, settings, keys, positions, recomputed, entropy, lse]) device.release(storage);
    }
  });

  it("never holds [N, V]: the weight is packed in blocks of 32 MiB, the logits reduced to 16 bytes for each 512", async () => {
    const device = cpu(),
      [N, C, V] = [3, 8192, 1100];
    let state = 1;
    const noise = (length: number): Float32Array => {
      const data = new Float32Array(length);
      for (let i = 0; i < length; i++) data[i] = ((state = (state * 48271) % 0x7fffffff) / 0x7fffffff - 0.5) * 0.2;
      return data;
    };
    const hidden = noise(N * C),
      weight = noise(V * C),
      targets = [5, 1024, 1099];
    const [x, w] = [device.allocate(N, C, "f32", "activation", "hidden"), device.allocate(V, C, "f32", "activation", "weight")];
    device.write(x, hidden);
    device.write(w, weight);
    const inputs = [x, w, place(device, ids(targets))],
      outs = vectors(N).map((value) => place(device, value));
    device.resetPeak();
    const before = device.memory().inUse;
    device.run("log_prob", { temperature: 1 }, inputs, outs);
    // 32 MiB in its size class, and little more
    expect(device.memory().peak - before).toBeLessThan(37 * 2 ** 20);
    const want = forward(hidden, weight, targets, C, 1);
    for (let i = 0; i < 3; i++) expectClose(await device.read(outs[i]!), want[i]!, 1e-4, `output ${i}`);
    for (const storage of [...inputs, ...outs]) device.release(storage);
  });

  it("gives NaN for a target that is no id", async () => {
    const { hidden, weight } = problem(2, 3, 5);
    const [logProb, entropy] = (await runOn(cpu(), "log_prob", { temperature: 1 }, [hidden, weight, ids([0xffffffff, 5])], vectors(2))) as [
      HostArray,
      HostArray,
    ];
    expect([...logProb]).toEqual([NaN, NaN]);
    expect([...entropy].every(Number.isFinite)).toBe(true);
  });
});

describe("log_prob_backward", () => {
  it("agrees with float64 and adds to dweight, on any threads and shards", async () => {
    for (const [N, C, V] of sizes)
      for (const withEntropy of [true, false]) {
        const { hidden, weight, targets, dLogProb, dEntropy } = problem(N, C, V);
        const [, entropy, lse] = forward(hidden.values, weight.values, targets.values, C, 0.7);
        const inputs = [hidden, weight, targets, vector(entropy), vector(lse), dLogProb, withEntropy ? dEntropy : null];
        await check("log_prob_backward", { temperature: 0.7 }, inputs, [zeros(N, C), randomTensor(5, V, C)], { tolerance: 5e-5 });
      }
  });

  it("is the gradient of its forward pass, by central differences in float64", async () => {
    const [N, C, V] = [4, 5, 11],
      temperature = 0.8;
    const { hidden, weight, targets, dLogProb, dEntropy } = problem(N, C, V);
    const loss = (h: Float64Array, w: Float64Array): number => {
      const [logProb, entropy] = forward(h, w, targets.values, C, temperature);
      return logProb.reduce((sum, x, n) => sum + x * dLogProb.values[n]! + entropy[n]! * dEntropy.values[n]!, 0);
    };
    const [, entropy, lse] = forward(hidden.values, weight.values, targets.values, C, temperature);
    const [dhidden, dweight] = await runOn(
      cpu(),
      "log_prob_backward",
      { temperature },
      [hidden, weight, targets, vector(entropy), vector(lse), dLogProb, dEntropy],
      [zeros(N, C), zeros(V, C)],
    );
    expectGradient((x) => loss(x, weight.values), hidden.values, dhidden!, 2e-5, "dhidden");
    expectGradient((x) => loss(hidden.values, x), weight.values, dweight!, 2e-5, "dweight");
  });

  it("agrees with float64 over several blocks of rows and of vocabulary", async () => {
    // 2 blocks of 512 rows and, with 16,384 entries a block, 2 of the vocabulary
    const device = cpu(),
      [N, C, V] = [515, 4, 16900];
    const { hidden, weight, targets } = problem(N, C, V);
    const [logProb, entropy, lse] = (await runOn(device, "log_prob", { temperature: 1 }, [hidden, weight, targets], vectors(N))) as [
      HostArray,
      HostArray,
      HostArray,
    ];
    expect(logProb.every(Number.isFinite)).toBe(true);
    const dLogProb = randomTensor(3, 1, N),
      inputs = [hidden, weight, targets, vector(entropy), vector(lse), dLogProb, null];
    const [dhidden, dweight] = (await runOn(device, "log_prob_backward", { temperature: 1 }, inputs, [zeros(N, C), zeros(V, C)])) as [
      HostArray,
      HostArray,
    ];
    const wantHidden = new Float64Array(N * C),
      wantWeight = new Float64Array(V * C);
    for (let n = 0; n < N; n++)
      for (let v = 0; v < V; v++) {
        let z = 0;
        for (let c = 0; c < C; c++) z += hidden.values[n * C + c]! * weight.values[v * C + c]!;
        const dz = dLogProb.values[n]! * ((v === targets.values[n] ? 1 : 0) - Math.exp(z - lse[n]!));
        for (let c = 0; c < C; c++) {
          wantHidden[n * C + c]! += dz * weight.values[v * C + c]!;
          wantWeight[v * C + c]! += dz * hidden.values[n * C + c]!;
        }
      }
    expectClose(dhidden, wantHidden, 2e-5, "dhidden");
    expectClose(dweight, wantWeight, 2e-5, "dweight");
  });

  it("lets a row whose gradients are 0 have no say, NaN in its statistics or not", async () => {
    const { hidden, weight, targets } = problem(3, 4, 700);
    const [, entropy, lse] = forward(hidden.values, weight.values, targets.values, 4, 1);
    const g = [0.5, 0, -1];
    const clean = await runOn(
      cpu(),
      "log_prob_backward",
      { temperature: 1 },
      [hidden, weight, targets, vector(entropy), vector(lse), vector(g), vector([0, 0, 0.25])],
      [zeros(3, 4), zeros(700, 4)],
    );
    entropy[1] = lse[1] = NaN;
    const dirty = await runOn(
      cpu(),
      "log_prob_backward",
      { temperature: 1 },
      [hidden, weight, targets, vector(entropy), vector(lse), vector(g), vector([0, 0, 0.25])],
      [zeros(3, 4), zeros(700, 4)],
    );
    clean.forEach((data, i) => expectSameBits(dirty[i]!, data, `output ${i}`));
    expect([...clean[0]!.slice(4, 8)]).toEqual([0, 0, 0, 0]);
  });
});
