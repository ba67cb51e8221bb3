import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { makeDevice, withDevice } from "../helpers/device.ts";
import {
  check,
  expectClose,
  expectSameBits,
  place,
  random,
  randomTensor,
  runOn,
  runReference,
  useDevices,
  zeros,
  type Values,
} from "./kernels/harness.ts";

useDevices();

const plain = { transA: 0, transB: 0, accumulate: 0 } as const;
// size 1; one tile; one over a tile in M (5), N (8), K (256); M around the limit between the two ways of tiling (256)
const sizes: readonly (readonly [M: number, N: number, K: number])[] = [
  [1, 1, 1],
  [5, 8, 256],
  [6, 9, 257],
  [2, 31, 300],
  [3, 7, 5],
  [4, 40, 513],
  [37, 45, 301],
  [256, 24, 64],
  [257, 65, 33],
];

describe("matmul", () => {
  it("agrees with float64 in every transposition, at odd sizes, with any threads and shards", async () => {
    for (const [M, N, K] of sizes)
      for (const transA of [0, 1])
        for (const transB of [0, 1]) {
          const a = transA === 0 ? randomTensor(1, M, K) : randomTensor(1, K, M);
          const b = transB === 0 ? randomTensor(2, K, N) : randomTensor(2, N, K);
          await check("matmul", { M, N, K, transA, transB, accumulate: 0 }, [a, b, null], [zeros(M, N)], { tolerance: 2e-5 });
        }
  });

  it("accumulates into c, and adds a bias", async () => {
    for (const [M, N, K] of [
      [1, 13, 300],
      [7, 9, 20],
      [260, 70, 257],
    ] as const) {
      const a = randomTensor(1, M, K),
        b = randomTensor(2, N, K),
        c = randomTensor(3, M, N),
        bias = randomTensor(4, 1, N);
      await check("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 1 }, [a, b, null], [c], { tolerance: 2e-5 });
      await check("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [a, b, bias], [c], { tolerance: 2e-5 });
      await check("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 1 }, [a, b, bias], [c], { tolerance: 2e-5 });
    }
  });

  it("reads f16 and bf16 operands exactly", async () => {
    for (const dtype of ["f16", "bf16"] as const)
      for (const transA of [0, 1])
        for (const transB of [0, 1])
          for (const [M, N, K] of [
            [3, 11, 270],
            [259, 21, 37],
          ] as const) {
            const a = transA === 0 ? randomTensor(1, M, K, dtype) : randomTensor(1, K, M, dtype);
            const b = transB === 0 ? randomTensor(2, K, N, dtype) : randomTensor(2, N, K, dtype);
            await check("matmul", { M, N, K, transA, transB, accumulate: 0 }, [a, b, randomTensor(3, 1, N, dtype)], [zeros(M, N)], {
              tolerance: 2e-5,
            });
          }
  });

  it("sums chunks of 256, each from 0 in order, then adds them in order: exactly so without FMA", async () => {
    const [M, N, K] = [3, 10, 600];
    const a = randomTensor(1, M, K),
      b = randomTensor(2, K, N);
    const want = new Float32Array(M * N);
    for (let i = 0; i < M; i++)
      for (let j = 0; j < N; j++)
        for (let k0 = 0; k0 < K; k0 += 256) {
          let chunk = 0;
          for (let k = k0; k < Math.min(K, k0 + 256); k++)
            chunk = Math.fround(chunk + Math.fround(a.values[i * K + k]! * b.values[k * N + j]!));
          want[i * N + j] = want[i * N + j]! + chunk;
        }
    await withDevice(
      async (device) => {
        const [got] = await runOn(device, "matmul", { ...plain, M, N, K }, [a, b, null], [zeros(M, N)]);
        expectSameBits(got!, want, "c");
      },
      { simd: "plain" },
    );
  });
});

describe("a row of a product", () => {
  let one: Device, three: Device;
  beforeAll(async () => {
    one = await makeDevice({ threads: 1 });
    three = await makeDevice({ threads: 3 });
  });
  afterAll(async () => {
    await one.destroy();
    await three.destroy();
  });

  it("has the same bits at every M, with kept panels or without, on 1 and 3 threads", async () => {
    const [N, K] = [77, 530];
    const a = randomTensor(1, 400, K),
      b = randomTensor(2, N, K),
      bias = randomTensor(3, 1, N);
    const rows = (from: number, to: number): Values => ({
      rows: to - from,
      cols: K,
      dtype: "f32",
      values: a.values.slice(from * K, to * K),
    });
    const [whole] = await runOn(one, "matmul", { M: 400, N, K, transA: 0, transB: 1, accumulate: 0 }, [a, b, bias], [zeros(400, N)]);
    for (const device of [one, three]) {
      for (const usage of ["activation", "parameter"] as const) {
        const weight = device.allocate(N, K, "f32", usage, "weight");
        device.write(weight, Float32Array.from(b.values));
        const biased = place(device, bias);
        for (const [from, to] of [
          [0, 1],
          [17, 18],
          [3, 5],
          [9, 12],
          [100, 104],
          [11, 16],
          [0, 6],
          [200, 264],
          [0, 256],
          [100, 357],
          [0, 400],
        ] as const) {
          const x = place(device, rows(from, to)),
            y = device.allocate(to - from, N, "f32", "activation", "y");
          device.run("matmul", { M: to - from, N, K, transA: 0, transB: 1, accumulate: 0 }, [x, weight, biased], [y]);
          expectSameBits(await device.read(y), whole!.subarray(from * N, to * N), `rows ${from}..${to}, ${usage}`);
          device.release(x);
          device.release(y);
        }
        device.release(weight);
        device.release(biased);
      }
    }
  });

  it("follows a parameter that is written after its panels were kept, by the host or by a kernel, in both orientations", async () => {
    const [M, N, K] = [4, 24, 40];
    const x = place(three, randomTensor(1, M, K)),
      xT = place(three, randomTensor(2, M, N));
    const weight = three.allocate(N, K, "f32", "parameter", "weight"),
      y = three.allocate(M, N, "f32", "activation", "y"),
      dx = three.allocate(M, K, "f32", "activation", "dx");
    const values = randomTensor(3, N, K);
    const expectProducts = async (w: Values): Promise<void> => {
      three.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [x, weight, null], [y]);
      three.run("matmul", { M, N: K, K: N, transA: 0, transB: 0, accumulate: 0 }, [xT, weight, null], [dx]);
      expectClose(
        await three.read(y),
        runReference("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [randomTensor(1, M, K), w, null], [zeros(M, N)])[0]!,
        1e-5,
        "y",
      );
      expectClose(
        await three.read(dx),
        runReference("matmul", { M, N: K, K: N, transA: 0, transB: 0, accumulate: 0 }, [randomTensor(2, M, N), w, null], [zeros(M, K)])[0]!,
        1e-5,
        "dx",
      );
    };
    three.write(weight, Float32Array.from(values.values));
    await expectProducts(values);
    await expectProducts(values);
    const doubled = { ...values, values: values.values.map((v) => 2 * v) };
    three.write(weight, Float32Array.from(doubled.values));
    await expectProducts(doubled);
    const delta = place(three, values);
    three.run("accumulate", { scale: 1 }, [delta], [weight]);
    await expectProducts({ ...values, values: values.values.map((v) => 3 * v) });
  });
});

describe("the room a product takes", () => {
  it("stays bounded: an operand whose panels exceed 32 MiB is packed in blocks, with the same result", async () => {
    const [M, N, K] = [2, 2100, 4200];
    const next = random(5);
    const a = Float32Array.from({ length: M * K }, () => next()),
      b = Float32Array.from({ length: N * K }, () => next());
    await withDevice(async (device) => {
      const [x, w, y] = [
        device.allocate(M, K, "f32", "activation", "x"),
        device.allocate(N, K, "f32", "activation", "w"),
        device.allocate(M, N, "f32", "activation", "y"),
      ];
      device.write(x, a);
      device.write(w, b);
      const before = device.memory().inUse;
      device.resetPeak();
      device.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [x, w, null], [y]);
      expect(device.memory().peak - before).toBeLessThan(36 * 2 ** 20);
      expect(device.memory().inUse).toBe(before);
      const got = await device.read(y);
      for (const [i, j] of [
        [0, 0],
        [1, 2047],
        [0, 2048],
        [1, 2099],
        [0, 1500],
      ] as const) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += a[i * K + k]! * b[j * K + k]!;
        expectClose([got[i * N + j]!], [sum], 1e-4, `c[${i}, ${j}]`);
      }
    });
  });

  it("counts panels that the CPU keeps, and gives them up when memory runs short", async () => {
    await withDevice(
      async (device) => {
        const [N, K] = [512, 2048];
        const x = place(device, randomTensor(1, 1, K)),
          y = device.allocate(1, N, "f32", "activation", "y"),
          w = device.allocate(N, K, "f32", "parameter", "w");
        device.write(w, new Float32Array(N * K).fill(1));
        const before = device.memory().inUse;
        const product = (): void => device.run("matmul", { M: 1, N, K, transA: 0, transB: 1, accumulate: 0 }, [x, w, null], [y]);
        product();
        expect(device.memory().inUse - before).toBe(N * K * 4);
        const want = await device.read(y);
        const large = device.allocate(20, 2 ** 18, "f32", "activation", "large");
        expect(device.memory().inUse).toBe(before + 20 * 2 ** 20);
        device.release(large);
        product();
        expectSameBits(await device.read(y), want, "after the panels were dropped");
      },
      { device: "cpu", threads: 1, maxMemoryBytes: 32 * 2 ** 20 },
    );
  });
});

describe("mistakes", () => {
  it("names the operand that does not fit M, N and K", async () => {
    await withDevice(async (device) => {
      const a = place(device, zeros(2, 3), "left"),
        b = place(device, zeros(3, 4), "right"),
        c = place(device, zeros(2, 4), "product");
      expect(() => device.run("matmul", { ...plain, M: 2, N: 4, K: 4 }, [a, b, null], [c])).toThrow(
        "kernel matmul: a (left) does not fit M=2 N=4 K=4 transA=0 transB=0; expected [2, 4], got [2, 3]",
      );
      expect(() => device.run("matmul", { ...plain, M: 2, N: 4, K: 3 }, [a, b, b], [c])).toThrow(
        "kernel matmul: bias (right) does not fit",
      );
      expect(() => device.run("matmul", { ...plain, M: 2, N: 4, K: 3 }, [a, c, null], [c])).toThrow("output product is also an input");
    });
  });
});
