import { describe, expect, it } from "vitest";
import type { Dtype } from "../../src/device/device.ts";
import { round } from "../../src/ops/round.ts";
import { toElements } from "../../src/tensor/dtype.ts";
import { empty, fromHost, runKernel, type Tensor } from "../../src/tensor/tensor.ts";
import { randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";
import { roundTo } from "../helpers/round-to.ts";

/** Ordinary numbers, ties, subnormal halves, overflow, signed zeros. */
const awkward = [
  ...randomValues(40, 1),
  1 + 2 ** -11,
  1 + 3 * 2 ** -11,
  1 + 2 ** -8,
  65504,
  65520,
  1e30,
  -1e30,
  2 ** -25,
  3e-8,
  -3e-8,
  2 ** -14,
  0,
  -0,
  3.39e38,
];

/** A copy stored as `dtype`. */
function cast(x: Tensor, dtype: Dtype): Tensor {
  const y = empty(x.device, x.shape, { dtype });
  runKernel("copy", { fromRow: 0, toRow: 0, rows: x.rows }, [x], [y]);
  return y;
}

describe.each(deviceVariants)("round on $name", ({ options }) => {
  const cpu = useDevice(options);

  it.each(["f16", "bf16"] as const)("gives what a copy to %s and back does, which is what the host gives", async (dtype) => {
    const x = fromHost(cpu(), awkward, [9, 6]);
    const narrow = cast(x, dtype);
    const wide = cast(narrow, "f32");
    const rounded = round(x, dtype);
    expect(await narrow.read()).toEqual(toElements(awkward, dtype));
    expect(await wide.readFloats()).toEqual(Float32Array.from(awkward, (value) => roundTo(value, dtype)));
    expect(await rounded.readFloats()).toEqual(await wide.readFloats());
    for (const tensor of [x, narrow, wide, rounded]) tensor.dispose();
  });
});
