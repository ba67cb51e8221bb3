import { describe, expect, it } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { AdamW, decayGroups } from "../../src/optim/adamw.ts";
import { LossScaler } from "../../src/optim/loss-scaler.ts";
import { full, Parameter } from "../../src/tensor/tensor.ts";
import { randomValues, relativeError } from "../helpers/check-op.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";
import { liveTensors } from "../helpers/live-tensors.ts";

const shapes: Readonly<Record<string, readonly number[]>> = { matrix: [9, 33], norm: [65], bias: [1] };
const settings = { beta1: 0.9, beta2: 0.98, eps: 1e-8, maxGradNorm: 0.5 };

function size(name: string): number {
  return shapes[name]!.reduce((a, b) => a * b, 1);
}

function makeParameters(device: Device): Map<string, Parameter> {
  return new Map(
    Object.entries(shapes).map(([name, shape], i) => {
      const parameter = new Parameter(device, name, shape);
      parameter.write(randomValues(size(name), i + 1));
      parameter.grad = full(device, shape, 0);
      return [name, parameter];
    }),
  );
}

/** Gradients of step t: large at first, so that clipping is on in some steps and off in others. */
function gradient(name: string, t: number): Float32Array {
  return randomValues(size(name), 50 + t * 3 + Object.keys(shapes).indexOf(name)).map((x) => x * (t % 3 === 0 ? 1 : 0.01));
}

function rate(t: number): number {
  return 0.01 / (1 + t / 10);
}

/** The same ten steps in float64. */
function reference(steps: number, weightDecay: number): { values: Map<string, Float64Array>; norms: number[] } {
  const names = Object.keys(shapes);
  const values = new Map(names.map((name, i) => [name, Float64Array.from(randomValues(size(name), i + 1))]));
  const m = new Map(names.map((name) => [name, new Float64Array(size(name))]));
  const v = new Map(names.map((name) => [name, new Float64Array(size(name))]));
  const norms: number[] = [];
  for (let t = 0; t < steps; t++) {
    const norm = Math.sqrt(names.reduce((sum, name) => sum + gradient(name, t).reduce((part, x) => part + x * x, 0), 0));
    norms.push(norm);
    const clip = Math.min(1, settings.maxGradNorm / (norm + 1e-6));
    for (const name of names) {
      const decay = shapes[name]!.length > 1 ? weightDecay : 0;
      gradient(name, t).forEach((raw, i) => {
        const g = raw * clip;
        m.get(name)![i] = settings.beta1 * m.get(name)![i]! + (1 - settings.beta1) * g;
        v.get(name)![i] = settings.beta2 * v.get(name)![i]! + (1 - settings.beta2) * g * g;
        const mHat = m.get(name)![i]! / (1 - settings.beta1 ** (t + 1));
        const vHat = v.get(name)![i]! / (1 - settings.beta2 ** (t + 1));
        const p = values.get(name)!;
        p[i]! -= rate(t) * (mHat / (Math.sqrt(vHat) + settings.eps) + decay * p[i]!);
      });
    }
  }
  return { values, norms };
}

describe.each(deviceVariants)("AdamW on $name", ({ options }) => {
  const cpu = useDevice(options);

  it("takes ten clipped steps to where float64 takes them, decaying matrices only, and reports the norms", async () => {
    const parameters = makeParameters(cpu());
    const optimiser = new AdamW(decayGroups(parameters, 0.1), settings);
    const expected = reference(10, 0.1);
    for (let t = 0; t < 10; t++) {
      for (const [name, parameter] of parameters) parameter.grad!.write(gradient(name, t));
      await optimiser.update(rate(t));
      const { gradNorm: norm } = await optimiser.settle();
      expect(norm).toBeCloseTo(expected.norms[t]!, 4);
    }
    for (const [name, parameter] of parameters)
      expect(relativeError(await parameter.readFloats(), expected.values.get(name)!), name).toBeLessThan(1e-5);
    optimiser.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
    expect(liveTensors(cpu()).tensors).toBe(0);
  });

  it("goes on from saved moments and step with the same bits", async () => {
    const run = async (interrupted: boolean): Promise<Map<string, Float32Array>> => {
      const parameters = makeParameters(cpu());
      let optimiser = new AdamW(decayGroups(parameters, 0.1), settings);
      for (let t = 0; t < 6; t++) {
        if (interrupted && t === 3) {
          const saved = new Map<string, Float32Array>();
          for (const [name, tensor] of optimiser.stateTensors()) saved.set(name, await tensor.readFloats());
          const { step } = optimiser;
          optimiser.dispose();
          optimiser = new AdamW(decayGroups(parameters, 0.1), settings);
          for (const [name, tensor] of optimiser.stateTensors()) tensor.write(saved.get(name)!);
          optimiser.resume(step);
        }
        for (const [name, parameter] of parameters) parameter.grad!.write(gradient(name, t));
        await optimiser.update(rate(t));
        await optimiser.settle();
      }
      const result = new Map<string, Float32Array>();
      for (const [name, parameter] of parameters) result.set(name, await parameter.readFloats());
      optimiser.dispose();
      for (const parameter of parameters.values()) parameter.dispose();
      return result;
    };
    expect(await run(true)).toEqual(await run(false));
  });

  it("leaves weights and moments as they were when a gradient is not finite", async () => {
    const parameters = makeParameters(cpu());
    const optimiser = new AdamW(decayGroups(parameters, 0.1), settings);
    const before = await parameters.get("matrix")!.readFloats();
    parameters.get("norm")!.grad!.write(new Float32Array(65).fill(Infinity));
    await optimiser.update(0.1);
    expect(await optimiser.settle()).toEqual({ gradNorm: NaN, overflowed: false });
    expect(optimiser.step).toBe(0);
    expect(await parameters.get("matrix")!.readFloats()).toEqual(before);
    expect(await optimiser.stateTensors().get("m.norm")!.readFloats()).toEqual(new Float32Array(65));
    optimiser.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
  });

  it("hands all gradients to the reduction, by name, before the norm is taken", async () => {
    const parameters = makeParameters(cpu());
    const seen: string[] = [];
    const optimiser = new AdamW(decayGroups(parameters, 0), {
      ...settings,
      maxGradNorm: 0,
      reduceGradients: async (gradients) => {
        seen.push(...gradients.keys());
        // Two processes with the same gradients: the sum is twice as large.
        for (const tensor of gradients.values()) tensor.write((await tensor.readFloats()).map((x) => 2 * x));
      },
    });
    for (const [name, parameter] of parameters) parameter.grad!.write(gradient(name, 0));
    const [norm, factor] = await (await optimiser.update(0.01)).readFloats();
    expect(seen.sort()).toEqual(Object.keys(shapes).sort());
    expect(norm).toBeCloseTo(2 * reference(1, 0).norms[0]!, 3);
    expect(factor).toBe(1);
    optimiser.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
  });

  it("takes the step after one that was refused as if that had never been", async () => {
    const results: Float32Array[] = [];
    for (const refused of [false, true]) {
      const parameters = makeParameters(cpu());
      const optimiser = new AdamW(decayGroups(parameters, 0.1), settings);
      for (const t of refused ? [0, -1, 1] : [0, 1]) {
        for (const [name, parameter] of parameters)
          parameter.grad!.write(t < 0 ? new Float32Array(size(name)).fill(NaN) : gradient(name, t));
        await optimiser.update(0.01);
        await optimiser.settle();
      }
      expect(optimiser.step).toBe(2);
      results.push(await parameters.get("matrix")!.readFloats());
      optimiser.dispose();
      for (const parameter of parameters.values()) parameter.dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("with a loss scale takes the same steps from gradients so many times as large, bit for bit", async () => {
    const results: Float32Array[][] = [];
    for (const lossScaler of [null, new LossScaler({ growAfter: 2 })]) {
      const parameters = makeParameters(cpu());
      const optimiser = new AdamW(decayGroups(parameters, 0.1), { ...settings, lossScaler });
      const scales: number[] = [];
      const outcomes: unknown[] = [];
      for (let t = 0; t < 5; t++) {
        scales.push(optimiser.lossScale);
        for (const [name, parameter] of parameters) parameter.grad!.write(gradient(name, t).map((x) => x * optimiser.lossScale));
        await optimiser.update(rate(t));
        outcomes.push(await optimiser.settle());
      }
      expect(scales).toEqual(lossScaler === null ? [1, 1, 1, 1, 1] : [2 ** 16, 2 ** 16, 2 ** 17, 2 ** 17, 2 ** 18]);
      results.push([
        ...(await Promise.all([...parameters.values()].map((parameter) => parameter.readFloats()))),
        Float32Array.from(outcomes.flatMap((outcome) => Object.values(outcome as Record<string, number>))),
      ]);
      optimiser.dispose();
      for (const parameter of parameters.values()) parameter.dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("skips, counts and halves the scale on an overflow, until the scale is down to 1", async () => {
    const parameters = makeParameters(cpu());
    const optimiser = new AdamW(decayGroups(parameters, 0.1), { ...settings, lossScaler: new LossScaler({ scale: 4 }) });
    const before = await parameters.get("matrix")!.readFloats();
    const seen: unknown[] = [];
    for (let t = 0; t < 3; t++) {
      for (const [name, parameter] of parameters) parameter.grad!.write(new Float32Array(size(name)).fill(Infinity));
      await optimiser.update(0.1);
      seen.push([(await optimiser.settle()).overflowed, optimiser.lossScale, optimiser.overflows, optimiser.step]);
    }
    expect(seen).toEqual([
      [true, 2, 1, 0],
      [true, 1, 2, 0],
      [false, 1, 3, 0],
    ]);
    expect(await parameters.get("matrix")!.readFloats()).toEqual(before);
    optimiser.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
  });

  it("refuses an update before the last one is settled, and a settlement of none", async () => {
    const parameters = makeParameters(cpu());
    const optimiser = new AdamW(decayGroups(parameters, 0));
    await expect(optimiser.settle()).rejects.toThrow(/no update was asked for/);
    await optimiser.update(0.1);
    await expect(optimiser.update(0.1)).rejects.toThrow(/the update before is not settled/);
    await optimiser.settle();
    await expect(optimiser.settle()).rejects.toThrow(/no update was asked for/);
    optimiser.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
  });

  it("refuses frozen parameters and names given twice", () => {
    const parameters = makeParameters(cpu());
    const groups = [
      { parameters, weightDecay: 0 },
      { parameters, weightDecay: 0.1 },
    ];
    expect(() => new AdamW(groups)).toThrow(/parameter "matrix" is in two groups/);
    parameters.get("norm")!.requiresGrad = false;
    expect(() => new AdamW(decayGroups(parameters, 0))).toThrow(/parameter "norm" is frozen/);
    for (const parameter of parameters.values()) parameter.dispose();
  });
});
