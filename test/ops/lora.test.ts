import { describe, it } from "vitest";
import { lora } from "../../src/ops/lora.ts";
import { checkOp } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

describe.each(deviceVariants)("lora on $name", ({ options }) => {
  const cpu = useDevice(options);
  for (const [N, K, M, r] of [
    [1, 1, 1, 1],
    [5, 9, 7, 2],
    [66, 20, 13, 3],
  ] as const) {
    it(`matches float64, forward and in all five gradients, for N ${N}, K ${K}, M ${M}, rank ${r}`, async () => {
      await checkOp(cpu(), {
        inputs: { x: { shape: [N, K] }, weight: { shape: [M, K] }, bias: { shape: [M] }, a: { shape: [r, K] }, b: { shape: [M, r] } },
        run: ({ x, weight, bias, a, b }) => lora(x, weight, bias, a, b, 0.7),
      });
    });
    it.each(["f16", "bf16"] as const)(`matches float64 over a frozen %s weight for N ${N}, K ${K}, M ${M}, rank ${r}`, async (dtype) => {
      await checkOp(cpu(), {
        inputs: { x: { shape: [N, K] }, weight: { shape: [M, K], dtype }, a: { shape: [r, K] }, b: { shape: [M, r] } },
        run: ({ x, weight, a, b }) => lora(x, weight, null, a, b, 2),
      });
    });
  }
});
