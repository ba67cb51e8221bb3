import { describe, it } from "vitest";
import { add } from "../../src/ops/add.ts";
import { gatherRows } from "../../src/ops/gather-rows.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("gatherRows on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, C, indices] of [
    [1, 1, [0]],
    [7, 3, [6, 0, 3]],
    [70, 65, [69, 2, 64, 63]],
  ] as const)
    it(`matches float64, and scatters gradients back, for N ${N}, C ${C}`, async () => {
      await checkOp(cpu(), {
        inputs: { x: { shape: [N, C] }, indices: { shape: [indices.length], dtype: "u32", values: indices } },
        run: ({ x, indices: rows }) => gatherRows(add(x, x), rows),
      });
    });
});
