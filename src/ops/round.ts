/** What a narrower storage type would give back. */
import type { Dtype } from "../device/device.ts";
import { record } from "../tensor/tape.ts";
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { expectDtype } from "./check.ts";

/**
 * x rounded to `dtype` (nearest, ties to even) and back to f32, in new memory. The gradient passes straight through, as if nothing
 * had been rounded (Bengio et al. 2013, arXiv:1308.3432).
 */
export function round(x: Tensor, dtype: Extract<Dtype, "f16" | "bf16">): Tensor {
  expectDtype("round", "x", x, "f32");
  const y = empty(x.device, x.shape, { label: `${x.label} as ${dtype}` });
  runKernel("round", { bits: dtype === "f16" ? 16 : 17 }, [x], [y]);
  record({
    op: "round",
    inputs: [x],
    outputs: [y],
    holds: [],
    backward(gradients, [dy]) {
      gradients.pass(x, dy!);
    },
  });
  return y;
}
