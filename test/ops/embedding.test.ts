import { describe, it } from "vitest";
import { embedding } from "../../src/ops/embedding.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("embedding on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, V, C] of [
    [1, 1, 1],
    [7, 5, 3],
    [70, 11, 65],
  ] as const) {
    it(`matches float64 for N ${N}, V ${V}, C ${C}, with ids that repeat`, async () => {
      const ids = Array.from({ length: N }, (_, n) => (n * 7 + 3) % V);
      await checkOp(cpu(), {
        inputs: { ids: { shape: [N], dtype: "u32", values: ids }, table: { shape: [V, C] } },
        run: (t) => embedding(t.ids, t.table),
      });
    });
  }
  it("reads f16 and bf16 tables exactly", async () => {
    for (const dtype of ["f16", "bf16"] as const)
      await checkOp(cpu(), {
        inputs: { ids: { shape: [3], dtype: "u32", values: [2, 0, 2] }, table: { shape: [4, 9], dtype } },
        run: (t) => embedding(t.ids, t.table),
        tolerance: 1e-12,
      });
  });
});
