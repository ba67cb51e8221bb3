import { describe, it } from "vitest";
import { ropeTable } from "../../src/nn/rope-table.ts";
import { rope } from "../../src/ops/rope.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("rope on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, heads, D] of [
    [1, 1, 2],
    [5, 3, 6],
    [67, 2, 34],
  ] as const) {
    it(`matches float64, forward and backward, for N ${N}, ${heads} heads of ${D}`, async () => {
      const table = ropeTable({ headDim: D, ropeTheta: 10000, ropeScaling: { type: "default" } }, 128);
      const positions = Array.from({ length: N }, (_, n) => (n * 29) % 128);
      await checkOp(cpu(), {
        inputs: {
          x: { shape: [N, heads * D] },
          positions: { shape: [N], dtype: "u32", values: positions },
          table: { shape: [128, D], values: table },
        },
        run: ({ x, positions: places, table: angles }) => rope(x, places, angles, heads),
      });
    });
  }
});
