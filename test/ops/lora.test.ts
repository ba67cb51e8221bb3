import { describe, expect, it } from "vitest";
import { lora, loraLayers, type LoraLayer } from "../../src/ops/lora.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { checkOp, opResults } from "../helpers/check-op.ts";
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

  it("gives several layers of one input, some without a pair, the bits that they have one by one, gradients too", async () => {
    const [N, K, r] = [9, 20, 3];
    const inputs = {
      ...{ x: { shape: [N, K] }, weight: { shape: [13, K] }, bias: { shape: [13] }, a: { shape: [r, K] }, b: { shape: [13, r] } },
      plain: { shape: [5, K] },
      ...{ other: { shape: [7, K] }, a2: { shape: [r, K] }, b2: { shape: [7, r] } },
    } as const;
    const together = { inputs, run: (all: Readonly<Record<keyof typeof inputs, Tensor>>) => loraLayers(all.x, layersOf(all)) };
    await checkOp(cpu(), together);
    const oneByOne = {
      inputs,
      run: (all: Readonly<Record<keyof typeof inputs, Tensor>>) => layersOf(all).flatMap((layer) => loraLayers(all.x, [layer])),
    };
    const results = await opResults(cpu(), together);
    expect(results).toHaveLength(3 + 9);
    expect(results).toEqual(await opResults(cpu(), oneByOne));
  });
});

type Named = Readonly<Record<"weight" | "bias" | "a" | "b" | "plain" | "other" | "a2" | "b2", Tensor>>;

function layersOf({ weight, bias, a, b, plain, other, a2, b2 }: Named): LoraLayer[] {
  return [
    { weight, bias, pair: { a, b, scale: 0.7 } },
    { weight: plain, bias: null, pair: null },
    { weight: other, bias: null, pair: { a: a2, b: b2, scale: 2 } },
  ];
}
