import { describe, expect, it } from "vitest";
import { cast, copy } from "../../src/ops/copy.ts";
import { fill } from "../../src/ops/fill.ts";
import { round } from "../../src/ops/round.ts";
import { roundTo, toElements } from "../../src/tensor/dtype.ts";
import { empty, fromHost } from "../../src/tensor/tensor.ts";
import { randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

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

describe.each(deviceVariants)("copy on $name", ({ options }) => {
  const cpu = useDevice(options);

  it.each(["f16", "bf16"] as const)("casts to %s as the host does, and back exactly", async (dtype) => {
    const x = fromHost(cpu(), awkward, [9, 6]);
    const narrow = cast(x, dtype);
    const wide = cast(narrow, "f32");
    const rounded = round(x, dtype);
    expect(await narrow.read()).toEqual(toElements(awkward, dtype));
    expect(await wide.readFloats()).toEqual(Float32Array.from(awkward, (value) => roundTo(value, dtype)));
    expect(await rounded.readFloats()).toEqual(await wide.readFloats());
    for (const tensor of [x, narrow, wide, rounded]) tensor.dispose();
  });

  it("copies a range of rows, and refuses one that does not fit", async () => {
    const from = fromHost(cpu(), randomValues(70, 2), [10, 7]);
    const into = empty(cpu(), [5, 7]);
    fill(into, -1);
    copy(from, into, { fromRow: 6, toRow: 2, rows: 3 });
    const [source, got] = [await from.readFloats(), await into.readFloats()];
    expect([...got]).toEqual([...new Array<number>(14).fill(-1), ...source.subarray(42, 63)]);
    expect(() => {
      copy(from, into, { fromRow: 6, toRow: 2 });
    }).toThrow(/copy: rows of .* do not fit; expected|copy: rows .* do not fit into/);
    from.dispose();
    into.dispose();
  });
});
