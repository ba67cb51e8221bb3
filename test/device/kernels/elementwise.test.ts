import { describe, expect, it } from "vitest";
import {
  check,
  device,
  expectGradient,
  random,
  randomTensor,
  runOn,
  runReference,
  tensor,
  useDevices,
  vector,
  zeros,
  type Values,
} from "./harness.ts";

useDevices();
// odd, one, one row, long rows that are split, many rows that are joined
const shapes: readonly (readonly [number, number])[] = [
  [1, 1],
  [3, 7],
  [5, 4],
  [17, 33],
  [1, 16389],
  [2, 20001],
  [300, 65],
];

describe("fill", () => {
  it("writes the value into every element", async () => {
    for (const [n, c] of shapes) await check("fill", { value: -1.25 }, [], [zeros(n, c)], { tolerance: 0 });
  });
});

describe("copy", () => {
  it("moves a range of rows and converts between all float types to nearest, ties to even", async () => {
    for (const from of ["f32", "f16", "bf16"] as const)
      for (const to of ["f32", "f16", "bf16"] as const)
        for (const c of [1, 6, 37])
          await check("copy", { fromRow: 2, toRow: 1, rows: 5 }, [randomTensor(1, 8, c, from, -100, 100)], [randomTensor(2, 7, c, to)], {
            tolerance: 0,
          });
  });
  it("copies a row longer than its working piece", async () => {
    await check("copy", { fromRow: 0, toRow: 0, rows: 1 }, [randomTensor(1, 1, 20011)], [zeros(1, 20011, "f16")], { tolerance: 0 });
  });
  it("keeps subnormals, infinities and ties of f16", async () => {
    const hard = [
      0,
      -0,
      2 ** -24,
      2 ** -25,
      3 * 2 ** -25,
      2 ** -14,
      2 ** -14 - 2 ** -25,
      65504,
      65519.9,
      65520,
      1e30,
      -Infinity,
      NaN,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      5e-8,
      -6.1e-5,
    ];
    for (const to of ["f16", "bf16"] as const)
      await check("copy", { fromRow: 0, toRow: 0, rows: 1 }, [vector(hard)], [zeros(1, hard.length, to)], { tolerance: 0 });
    await check("copy", { fromRow: 0, toRow: 0, rows: 1 }, [vector(hard, "f16")], [zeros(1, hard.length)], { tolerance: 0 });
  });
});

describe("round", () => {
  it("gives what storing as f16 or bf16 and reading back gives", async () => {
    for (const bits of [16, 17])
      for (const [n, c] of shapes)
        await check("round", { bits }, [randomTensor(3, n, c, "f32", -300, 300)], [zeros(n, c)], { tolerance: 0 });
  });
});

describe("add", () => {
  it("is exactly the f32 sum", async () => {
    for (const [n, c] of shapes) await check("add", {}, [randomTensor(1, n, c), randomTensor(2, n, c)], [zeros(n, c)], { tolerance: 0 });
  });
});

describe("accumulate", () => {
  it("adds scale times x, from any float type", async () => {
    for (const dtype of ["f32", "f16", "bf16"] as const)
      for (const [n, c] of shapes)
        await check("accumulate", { scale: -0.3 }, [randomTensor(1, n, c, dtype)], [randomTensor(2, n, c)], { tolerance: 2e-7 });
  });
});

describe("swiglu", () => {
  it("matches the float64 reference, large arguments included", async () => {
    for (const [n, c] of shapes)
      await check("swiglu", {}, [randomTensor(1, n, c, "f32", -30, 30), randomTensor(2, n, c)], [zeros(n, c)], { tolerance: 1e-6 });
    await check("swiglu", {}, [vector([-120, -88, 88, 120, 0]), vector([1, 1, 1, 1, 1])], [zeros(1, 5)], { tolerance: 1e-6 });
  });
  it("gives an element the same bits wherever it lies in its row", async () => {
    const next = random(4),
      gate = Array.from({ length: 11 }, () => next(-5, 5));
    const one = await runOn(device(), "swiglu", {}, [vector(gate), vector(gate)], [zeros(1, 11)]);
    for (let i = 0; i < 11; i++)
      expect((await runOn(device(), "swiglu", {}, [vector([gate[i]!]), vector([gate[i]!])], [zeros(1, 1)]))[0]![0]).toBe(one[0]![i]);
  });
});

describe("swiglu_backward", () => {
  it("matches the reference and its central differences", async () => {
    for (const [n, c] of shapes.slice(0, 5)) {
      const gate = randomTensor(1, n, c, "f32", -6, 6),
        up = randomTensor(2, n, c),
        dy = randomTensor(3, n, c);
      const [dgate, dup] = await check("swiglu_backward", {}, [gate, up, dy], [zeros(n, c), zeros(n, c)], { tolerance: 2e-6 });
      const loss = (g: Values, u: Values): number =>
        runReference("swiglu", {}, [g, u], [zeros(n, c)])[0]!.reduce((sum, y, i) => sum + y * dy.values[i]!, 0);
      expectGradient((x) => loss({ ...gate, values: x }, up), gate.values, dgate!, 1e-5, "dgate");
      expectGradient((x) => loss(gate, { ...up, values: x }), up.values, dup!, 1e-5, "dup");
    }
  });
});

describe("sum_squares and clip_scale", () => {
  it("sum to float32 accuracy for any shape", async () => {
    for (const [n, c] of shapes)
      await check("sum_squares", { slot: 2 }, [randomTensor(1, n, c)], [vector([1, 2, 3, 4])], { tolerance: 1e-7 });
  });
  it("scale only when the norm is above the maximum", async () => {
    for (const maxNorm of [0, 1, 5, 100])
      await check("clip_scale", { count: 3, maxNorm, gradScale: 1 }, [vector([9, 16, 0, NaN])], [zeros(1, 2)], { tolerance: 1e-7 });
  });
  it("take out the scale of gradients that are too large", async () => {
    for (const gradScale of [2, 1024, 65536])
      for (const maxNorm of [0, 1, 100]) {
        const acc = [9 * gradScale ** 2, 16 * gradScale ** 2];
        const [scaled] = await check("clip_scale", { count: 2, maxNorm, gradScale }, [vector(acc)], [zeros(1, 2)], { tolerance: 1e-7 });
        const [plain] = await check("clip_scale", { count: 2, maxNorm, gradScale: 1 }, [vector([9, 16])], [zeros(1, 2)], {
          tolerance: 1e-7,
        });
        expect([scaled![0], scaled![1]! * gradScale]).toEqual([plain![0], plain![1]]);
      }
  });
  it("say NaN when a gradient is not finite", async () => {
    for (const bad of [NaN, Infinity]) {
      const [acc] = await check("sum_squares", { slot: 0 }, [tensor(1, 5, [1, bad, 2, 3, 4])], [vector([0, 1])]);
      const [result] = await check("clip_scale", { count: 2, maxNorm: 1, gradScale: 1 }, [vector(acc!)], [zeros(1, 2)]);
      expect(Array.from(result!)).toEqual([NaN, NaN]);
    }
  });
});
