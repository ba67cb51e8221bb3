import { describe, expect, it } from "vitest";
import { attention } from "../../src/ops/attention.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { checkOp, randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

const cases = [
  { name: "one token", heads: 1, kvHeads: 1, D: 4, lengths: [1] },
  { name: "grouped queries, several sequences", heads: 4, kvHeads: 2, D: 8, lengths: [3, 1, 7] },
  { name: "one head of keys for three, and one token over a block", heads: 3, kvHeads: 1, D: 12, lengths: [65, 2] },
  { name: "several blocks", heads: 2, kvHeads: 2, D: 16, lengths: [130] },
];

describe.each(deviceVariants)("attention on $name", ({ options }) => {
  const cpu = useDevice(options);
  it.each(cases)("matches float64, forward and backward: $name", async ({ heads, kvHeads, D, lengths }) => {
    const N = lengths.reduce((a, b) => a + b);
    const offsets = lengths.reduce<number[]>((all, n) => [...all, all.at(-1)! + n], [0]);
    await checkOp(cpu(), {
      inputs: {
        q: { shape: [N, heads * D] },
        k: { shape: [N, kvHeads * D] },
        v: { shape: [N, kvHeads * D] },
        offsets: { shape: [offsets.length], dtype: "u32", values: offsets },
      },
      run: ({ q, k, v, offsets: ends }) => attention(q, k, v, ends, { heads, kvHeads }),
    });
  });

  for (const cacheDtype of ["f16", "bf16"] as const) {
    it(`with a ${cacheDtype} cache attends over keys and values as rounded, bit for bit, and passes gradients straight through`, async () => {
      const shape = [9, 8] as const;
      const device = cpu();
      const make = (seed: number) => {
        const tensor = fromHost(device, randomValues(72, seed), shape);
        tensor.requiresGrad = true;
        return tensor;
      };
      const [q, k, v] = [make(1), make(2), make(3)];
      const offsets = fromHost(device, Uint32Array.from([0, 9]), [2]);
      const { round } = await import("../../src/ops/round.ts");
      const [kr, vr] = [round(k, cacheDtype), round(v, cacheDtype)];
      const got = attention(q, k, v, offsets, { heads: 2, kvHeads: 2, cacheDtype });
      const expected = attention(q, kr, vr, offsets, { heads: 2, kvHeads: 2 });
      expect(await got.read()).toEqual(await expected.read());
      expect(await kr.read()).not.toEqual(await k.read());
      for (const tensor of [q, k, v, offsets, kr, vr, got, expected]) tensor.dispose();
    });
  }

  it("rejects head widths that the kernels do not take", () => {
    const q = fromHost(cpu(), new Float32Array(12), [2, 6]);
    const offsets = fromHost(cpu(), Uint32Array.from([0, 2]), [2]);
    expect(() => attention(q, q, q, offsets, { heads: 1, kvHeads: 1 })).toThrow(/expected a multiple of 4, at most 128, got 6/);
    q.dispose();
    offsets.dispose();
  });

  it("rejects keys of another width, naming both", () => {
    const q = fromHost(cpu(), new Float32Array(16), [2, 8]);
    const k = fromHost(cpu(), new Float32Array(12), [2, 6]);
    const offsets = fromHost(cpu(), Uint32Array.from([0, 2]), [2]);
    expect(() => attention(q, k, k, offsets, { heads: 2, kvHeads: 1 })).toThrow(/attention: k .*expected \[2, 4\], got \[2, 6\]/);
    for (const tensor of [q, k, offsets]) tensor.dispose();
  });
});
