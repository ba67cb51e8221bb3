import { describe, expect, it } from "vitest";
import {
  INACTIVE,
  check,
  device,
  expectGradient,
  ids,
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

describe("embedding", () => {
  it("reads rows of a table of any float type, across shards", async () => {
    for (const dtype of ["f32", "f16", "bf16"] as const)
      for (const c of [1, 7, 64])
        await check(
          "embedding",
          {},
          [ids([0, 36, 5, 5, 12, 36, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 30]), randomTensor(1, 37, c, dtype)],
          [zeros(18, c)],
          { tolerance: 0 },
        );
  });
  it("reads NaN for an id outside the table", async () => {
    const [y] = await runOn(device(), "embedding", {}, [ids([3]), zeros(3, 2)], [zeros(1, 2)]);
    expect(Array.from(y!)).toEqual([NaN, NaN]);
  });
});

describe("embedding_backward", () => {
  it("adds up the rows of equal ids in token order", async () => {
    for (const c of [1, 7, 130])
      await check("embedding_backward", {}, [ids([3, 0, 3, 3, 36, 1, 0]), randomTensor(1, 7, c)], [randomTensor(2, 37, c)], {
        tolerance: 3e-7,
      });
  });
});

describe("rms_norm", () => {
  const shapes = [
    [1, 1, 1],
    [5, 1, 7],
    [33, 1, 64],
    [18, 3, 6],
    [40, 2, 20],
    [3, 1, 1030],
  ] as const;
  it("matches the float64 reference, per row and per head", async () => {
    for (const dtype of ["f32", "f16", "bf16"] as const)
      for (const [n, g, c] of shapes)
        await check(
          "rms_norm",
          { groups: g, eps: 1e-6 },
          [randomTensor(1, n, g * c), randomTensor(2, 1, c, dtype, 0.5, 1.5)],
          [zeros(n, g * c), zeros(n, g)],
          { tolerance: 2e-6 },
        );
  });
  it("gives a row the same bits whatever the other rows", async () => {
    const x = randomTensor(1, 40, 37),
      weight = randomTensor(2, 1, 37);
    const [all] = await runOn(device(), "rms_norm", { groups: 1, eps: 1e-6 }, [x, weight], [zeros(40, 37), zeros(40, 1)]);
    const [one] = await runOn(
      device(),
      "rms_norm",
      { groups: 1, eps: 1e-6 },
      [tensor(1, 37, x.values.slice(37 * 21, 37 * 22)), weight],
      [zeros(1, 37), zeros(1, 1)],
    );
    expect(Array.from(one!)).toEqual(Array.from(all!.slice(37 * 21, 37 * 22)));
  });
  it("backward matches the reference and its central differences, at any number of rows", async () => {
    for (const [n, g, c] of [...shapes, [1100, 1, 5]] as const) {
      const x = randomTensor(1, n, g * c),
        weight = randomTensor(2, 1, c, "f32", 0.5, 1.5),
        dy = randomTensor(3, n, g * c),
        start = randomTensor(4, 1, c),
        forward = zeros(n, g * c);
      const rstd = tensor(n, g, runReference("rms_norm", { groups: g, eps: 1e-6 }, [x, weight], [forward, zeros(n, g)])[1]!);
      const [dx, dweight] = await check("rms_norm_backward", { groups: g }, [x, weight, rstd, dy], [zeros(n, g * c), start], {
        tolerance: 1e-5,
      });
      const loss = (a: Values, w: Values): number =>
        runReference("rms_norm", { groups: g, eps: 1e-6 }, [a, w], [forward, zeros(n, g)])[0]!.reduce(
          (sum, y, i) => sum + y * dy.values[i]!,
          0,
        );
      if (c === 1) continue; // y is the sign of x: curvature beyond what differences can see
      expectGradient((values) => loss({ ...x, values }, weight), x.values, dx!, 1e-4, "dx");
      expectGradient(
        (values) => loss(x, { ...weight, values }),
        weight.values,
        dweight!.map((value, i) => value - start.values[i]!),
        1e-4,
        "dweight",
      );
    }
  });
});

describe("rope", () => {
  const table = (positions: number, d: number): Values =>
    tensor(
      positions,
      d,
      Array.from({ length: positions * d }, (_, i) => {
        const position = Math.floor(i / d),
          j = i % d,
          half = d / 2,
          angle = position * 10000 ** (-(j % half) / half);
        return j < half ? Math.cos(angle) : Math.sin(angle);
      }),
    );
  it("turns every head by its token's position and leaves inactive tokens alone", async () => {
    const positions = [0, 5, 99, INACTIVE, 1, 5, 63, 64, 2, 3, 4, 6, 7, 8, 9, 10, 11];
    for (const [h, d] of [
      [1, 2],
      [3, 12],
      [2, 64],
      [1, 20],
    ] as const)
      for (const inverse of [0, 1]) {
        const width = h * d;
        await check(
          "rope",
          { heads: h, inverse },
          [randomTensor(1, positions.length, width), ids(positions), table(100, d)],
          [zeros(positions.length, width)],
          { tolerance: 1e-6 },
        );
      }
  });
  it("turned back is where it was", async () => {
    const x = randomTensor(1, 9, 24),
      at = ids([0, 1, 2, 50, 9, 8, 7, 3, 3]);
    const [y] = await runOn(device(), "rope", { heads: 2, inverse: 0 }, [x, at, table(64, 12)], [zeros(9, 24)]);
    const [back] = await runOn(device(), "rope", { heads: 2, inverse: 1 }, [tensor(9, 24, y!), at, table(64, 12)], [zeros(9, 24)]);
    back!.forEach((value, i) => {
      expect(value).toBeCloseTo(x.values[i]!, 5);
    });
  });
});

describe("gather_rows and scatter_rows", () => {
  it("move rows there and back", async () => {
    for (const c of [1, 5, 70]) {
      const indices = ids([4, 0, 19, 7, 8]);
      await check("gather_rows", {}, [randomTensor(1, 20, c), indices], [zeros(5, c)], { tolerance: 0 });
      await check("scatter_rows", {}, [randomTensor(2, 5, c), indices], [randomTensor(3, 20, c)], { tolerance: 0 });
    }
    await check("gather_rows", {}, [vector([7]), ids([0])], [zeros(1, 1)], { tolerance: 0 });
  });
});
