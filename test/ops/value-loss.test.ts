import { describe, expect, it } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { valueLoss, valueLossStats, type ValueLossOptions } from "../../src/ops/value-loss.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, type Tensor } from "../../src/tensor/tensor.ts";
import { checkOp, randomValues } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";

type Row = { value: number; old: number; target: number; weight?: number };

async function run(
  device: Device,
  rows: readonly Row[],
  options: ValueLossOptions,
): Promise<{ stats: Record<string, number>; dValue: number[] }> {
  const vector = (pick: (row: Row) => number): Tensor => fromHost(device, rows.map(pick), [rows.length]);
  const value = fromHost(
    device,
    rows.map((row) => row.value),
    [rows.length, 1],
  );
  value.requiresGrad = true;
  const others = { oldValue: vector((row) => row.old), returns: vector((row) => row.target), weight: vector((row) => row.weight ?? 1) };
  const { tape, value: loss } = withTape(() => valueLoss({ value, ...others }, options));
  backward(tape, loss);
  const read = await loss.readFloats();
  expect(value.grad!.shape).toEqual(value.shape);
  const result = {
    stats: Object.fromEntries(valueLossStats.map((name, i) => [name, read[i]!])),
    dValue: [...(await value.grad!.readFloats())],
  };
  for (const tensor of [value, ...Object.values(others)]) tensor.dispose();
  if (loss !== options.stats) loss.dispose();
  return result;
}

const rows = Array.from({ length: 9 }, (_, n): Row => ({
  value: n / 7,
  old: n / 9 - 0.1 * (n % 3),
  target: (n % 4) - 1,
  weight: n % 4 === 3 ? 0 : 1 + n / 8,
}));

describe.each(deviceVariants)("valueLoss on $name", ({ options }) => {
  const device = useDevice(options);

  it.each([
    [1, 0.3, 0.2, 0.32, 0.8],
    [0, 0.3, 0.2, 0.02, -0.2],
    [1, 0.3, 2, 0.72, 0],
  ])("value %d, old %d, return %d gives loss %d and gradient %d where clip is .5", async (value, old, target, loss, gradient) => {
    const { stats, dValue } = await run(device(), [{ value, old, target }], { clip: 0.5, scale: 1 });
    expect(stats["loss"]).toBeCloseTo(loss, 6);
    expect(dValue[0]).toBeCloseTo(gradient, 6);
    expect(stats["clipped"]).toBe(gradient === 0 ? 1 : 0);
  });

  it("takes the mean over tokens whatever the split: two calls into one statistic equal one, gradients bit by bit", async () => {
    const settings = { clip: 0.1, scale: 1 / 7 };
    const whole = await run(device(), rows, settings);
    expect(whole.stats["clipped"]).toBeGreaterThan(0);
    expect(whole.stats["tokens"]).toBe(7);
    const stats = fromHost(device(), new Float32Array(3), [1, 3]);
    const parts: number[] = [];
    for (const part of [rows.slice(0, 4), rows.slice(4)]) parts.push(...(await run(device(), part, { ...settings, stats })).dValue);
    const got = await stats.readFloats();
    valueLossStats.forEach((name, i) => {
      expect(got[i], name).toBeCloseTo(whole.stats[name]!, 6);
    });
    expect(parts).toEqual(whole.dValue);
    stats.dispose();
  });

  it("gives a masked token no say, NaN or not", async () => {
    const plain = await run(device(), rows, { clip: 0.1, scale: 1 });
    const poisoned = rows.map((row): Row => (row.weight === 0 ? { value: NaN, old: NaN, target: NaN, weight: 0 } : row));
    expect(await run(device(), poisoned, { clip: 0.1, scale: 1 })).toEqual(plain);
    expect([plain.dValue[3], plain.dValue[7]]).toEqual([0, 0]);
  });

  it("refuses values and vectors of other shapes, saying which", () => {
    const make = (...shape: number[]): Tensor => fromHost(device(), new Float32Array(shape.reduce((a, b) => a * b)), shape, { label: "x" });
    const [column, four, three, two] = [make(4, 1), make(4), make(3), make(1, 2)];
    const rest = { oldValue: four, returns: four, weight: four };
    const call =
      (inputs: object, settings: object = {}) =>
      () =>
        valueLoss({ value: column, ...rest, ...inputs }, { clip: 0, scale: 1, ...settings });
    expect(call({ value: four })).toThrow('value_loss: value ("x") has the wrong shape; expected [1, 1], got [4]');
    expect(call({ value: make(4, 2) })).toThrow(/value .* expected \[4, 1\], got \[4, 2\]/);
    expect(call({ returns: three })).toThrow('value_loss: returns ("x") has the wrong shape; expected [4], got [3]');
    expect(call({ oldValue: column })).toThrow(/oldValue .* expected \[4\], got \[4, 1\]/);
    expect(call({}, { stats: two })).toThrow(/stats .* expected \[1, 3\], got \[1, 2\]/);
  });

  for (const N of [1, 5, 70, 1030])
    for (const clip of [0, 0.3])
      it(`matches float64 and central differences for N ${N}, clip ${clip}`, async () => {
        await checkOp(device(), {
          inputs: {
            value: { shape: [N, 1], grad: true },
            oldValue: { shape: [N], grad: false },
            returns: { shape: [N], values: randomValues(N, 5).map((x) => 2 * x) },
            weight: { shape: [N], values: Array.from({ length: N }, (_, n) => (n % 3 === 1 ? 0 : 1 + (n % 5) / 4)) },
          },
          run: (t) => valueLoss(t, { clip, scale: 1 / N }),
          loss: true,
        });
      });
});
