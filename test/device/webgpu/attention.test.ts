import { describe, it } from "vitest";
import { check, ids, INACTIVE, randomTensor, runReference, tensor, useDevices, zeros } from "../kernels/harness.ts";
import { cases, dimsOf, inputsOf, offsetsOf } from "./attention-cases.ts";

useDevices();

describe("attention of real head widths, with empty sequences", () => {
  it("matches the float64 reference", async () => {
    for (const one of cases) {
      const { q, k, v } = inputsOf(one);
      await check("attention", dimsOf(one), [q, k, v, ids(offsetsOf(one.lengths))], [zeros(q.rows, one.H * one.D), zeros(q.rows, one.H)], {
        tolerance: 3e-6,
      });
    }
  });

  it("has gradients that match it", async () => {
    for (const one of cases) {
      const { q, k, v } = inputsOf(one);
      const offsets = ids(offsetsOf(one.lengths));
      const dout = randomTensor(4, q.rows, q.cols);
      const [out, lse] = runReference("attention", dimsOf(one), [q, k, v, offsets], [zeros(q.rows, q.cols), zeros(q.rows, one.H)]);
      const saved = [tensor(q.rows, q.cols, out!), tensor(q.rows, one.H, lse!)] as const;
      await check(
        "attention_backward",
        dimsOf(one),
        [q, k, v, offsets, ...saved, dout],
        [zeros(q.rows, q.cols), zeros(q.rows, k.cols), zeros(q.rows, k.cols)],
        { tolerance: 2e-5 },
      );
    }
  });
});

describe("kv_write", () => {
  it("rounds as the host does, infinities, subnormals and ties included", async () => {
    const special = [
      0,
      -0,
      65519,
      65520,
      -65520,
      1e30,
      Infinity,
      -Infinity,
      NaN,
      2 ** -24,
      2 ** -25,
      2 ** -25 * 1.001,
      3 * 2 ** -25,
      1e-8,
      6.1e-5,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      2049,
      2051,
      -1e-7,
    ];
    for (const cache of ["f16", "bf16"] as const) {
      const values = Float64Array.from({ length: 8 * 20 }, (_, i) => special[(i * 7) % 20]! * (i < 80 ? 1 : 1.0009));
      const x = tensor(8, 20, values);
      const positions = ids([3, 4, 5, INACTIVE, 0, 1, 64, 2]);
      await check(
        "kv_write",
        { kvHeads: 1 },
        [x, x, positions, ids([0, 4, 7, 8]), tensor(3, 2, [0, 1, 2, 3, 4, 5], "u32")],
        [randomTensor(1, 6, 20 * 64, cache), randomTensor(2, 6, 20 * 64, cache)],
        { tolerance: 0 },
      );
    }
  });
});
