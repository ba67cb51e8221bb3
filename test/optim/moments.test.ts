/** AdamW with moments in bf16 and in 8 bits: what it holds, what it loses, and that it goes on from a saved state. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadTensors } from "../../src/checkpoint/load-model.ts";
import { saveTensors } from "../../src/checkpoint/save-tensors.ts";
import { dtypeBytes, type Device } from "../../src/device/device.ts";
import { packBatch } from "../../src/nn/batch.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { crossEntropy } from "../../src/ops/cross-entropy.ts";
import { AdamW, decayGroups, type AdamWOptions } from "../../src/optim/adamw.ts";
import { dynamicMap } from "../../src/optim/dynamic-map.ts";
import { momentKind, momentKinds, momentTensors, type MomentKind } from "../../src/optim/moments.ts";
import { backward } from "../../src/tensor/backward.ts";
import { toBf16 } from "../../src/tensor/dtype.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, full, Parameter } from "../../src/tensor/tensor.ts";
import { randomValues } from "../helpers/check-op.ts";
import { testDevice, useDevice, withDevice } from "../helpers/device.ts";
import { randomIds, tinyConfigs } from "../helpers/tiny-model.ts";
import { liveTensors } from "../helpers/live-tensors.ts";
import { fromBf16 } from "../helpers/round-to.ts";

const device = useDevice();
const lowKinds = ["bf16", "8bit"] as const;

/** A parameter with a gradient, both constant until they are written. */
function trained(on: Device, name: string, shape: readonly number[]): Parameter {
  const parameter = new Parameter(on, name, shape);
  parameter.write(new Float32Array(parameter.size));
  parameter.grad = full(on, shape, 0);
  return parameter;
}

/** Of the moments of a parameter. */
function momentBytes(shape: readonly number[], kind: MomentKind): number {
  return momentTensors(shape, kind).reduce((sum, one) => sum + one.shape.reduce((a, b) => a * b, 1) * dtypeBytes[one.dtype], 0);
}

async function step(optimizer: AdamW, lr = 1e-3): Promise<void> {
  await optimizer.update(lr);
  await optimizer.settle();
}

describe("what is held", () => {
  it("is 8 bytes a weight in f32, 4 in bf16 and 2.03 in 8 bits, for large matrices", () => {
    const perWeight = (shape: readonly [number, number], kind: MomentKind): number => momentBytes(shape, kind) / (shape[0] * shape[1]);
    expect(momentKinds.map((kind) => perWeight([4864, 1024], kind))).toEqual([8, 4, 2 + 8 / 256]);
    expect(perWeight([151936, 896], "8bit")).toBeCloseTo(2 + (4 * 8) / 896, 12);
  });

  it("is f32 for vectors, small matrices and, of 8 bits, narrow ones", () => {
    const kinds = (shape: readonly number[]): MomentKind[] => lowKinds.map((kind) => momentKind(shape, kind));
    expect(kinds([896])).toEqual(["f32", "f32"]);
    expect(kinds([151936])).toEqual(["f32", "f32"]);
    expect(kinds([63, 65])).toEqual(["f32", "f32"]);
    expect(kinds([64, 64])).toEqual(["bf16", "8bit"]);
    expect(kinds([4864, 16])).toEqual(["bf16", "f32"]);
  });

  it.each(momentKinds)("is on the device what was worked out, %s, and is freed", (moments) => {
    const before = liveTensors(device());
    const shapes = { matrix: [70, 301], norm: [301], small: [5, 7] } as const;
    const parameters = new Map(Object.entries(shapes).map(([name, shape]) => [name, trained(device(), name, shape)]));
    const held = liveTensors(device()).bytes;
    const optimizer = new AdamW(decayGroups(parameters, 0), { moments });
    const tables = moments === "8bit" ? 3 * 256 * 4 : 0;
    const expected = Object.values(shapes).reduce((sum, shape) => sum + momentBytes(shape, moments), 0);
    expect(liveTensors(device()).bytes - held - tables).toBe(expected);
    // 70 x 301: 76 words and 4 scales a row
    const matrix = { f32: 8 * 21070, bf16: 4 * 21070, "8bit": 70 * (2 * 76 + 4) * 4 }[moments];
    expect(expected).toBe(matrix + 8 * (301 + 35));
    const names = [...optimizer.stateTensors().keys()].filter((name) => name.endsWith(".matrix"));
    expect(names).toEqual(["m.matrix", "v.matrix", ...(moments === "8bit" ? ["scales.matrix"] : [])]);
    optimizer.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
    expect(liveTensors(device())).toEqual(before);
  });

  it("is refused where the kind is unknown", () => {
    const parameter = trained(device(), "w", [4, 4]);
    expect(() => new AdamW(decayGroups(new Map([["w", parameter]]), 0), { moments: "4bit" as MomentKind })).toThrow(
      "AdamW: unknown kind of moments; expected f32, bf16, 8bit, got 4bit",
    );
    parameter.dispose();
  });
});

describe("what is lost", () => {
  it("is nothing on average in bf16, where rounding to nearest stalls at half of v", async () => {
    const steps = 600;
    const parameter = trained(device(), "w", [64, 64]);
    const optimizer = new AdamW(decayGroups(new Map([["w", parameter]]), 0), { maxGradNorm: 0, moments: "bf16" });
    parameter.grad!.write(new Float32Array(64 * 64).fill(1));
    let nearest = 0;
    for (let t = 0; t < steps; t++) {
      await step(optimizer);
      nearest = fromBf16(toBf16(0.999 * nearest + 0.001));
    }
    const state = optimizer.stateTensors();
    const mean = async (name: string): Promise<number> => (await state.get(name)!.readFloats()).reduce((sum, x) => sum + x, 0) / (64 * 64);
    const exact = 1 - 0.999 ** steps; // .451
    expect(nearest).toBeLessThan(0.26);
    // a random walk with steps of up to half a neighbour's distance, 2^-9, that forgets a thousandth a step; 4096 of them
    expect(Math.abs((await mean("v.w")) - exact)).toBeLessThan((4 * 2 ** -10 * Math.sqrt(500)) / 64);
    expect(Math.abs((await mean("m.w")) - 1)).toBeLessThan(1e-4);
    optimizer.dispose();
    parameter.dispose();
  });

  it("is nothing on average in 8 bits, over five orders of magnitude of v in one block", async () => {
    const steps = testDevice === "cpu" ? 400 : 150;
    const [rows, cols] = [64, 256];
    const parameter = trained(device(), "w", [rows, cols]);
    const optimizer = new AdamW(decayGroups(new Map([["w", parameter]]), 0), { maxGradNorm: 0, moments: "8bit" });
    const size = (col: number): number => 10 ** ((-2.5 * col) / (cols - 1));
    // the sign of every other column turns with each step: their m is small where their v is not
    const gradient = (t: number): Float32Array =>
      Float32Array.from({ length: rows * cols }, (_, i) => size(i % cols) * (i % 2 === 1 && t % 2 === 1 ? -1 : 1));
    for (let t = 0; t < steps; t++) {
      parameter.grad!.write(gradient(t));
      await step(optimizer);
    }
    const state = optimizer.stateTensors();
    const [codes, scales] = [(await state.get("v.w")!.read()) as Uint32Array, await state.get("scales.w")!.readFloats()];
    const map = dynamicMap("unsigned");
    let sum = 0;
    let worst = 0;
    for (let col = 0; col < cols; col++) {
      let mean = 0;
      for (let row = 0; row < rows; row++) {
        const code = (codes[row * 64 + Math.floor(col / 4)]! >>> (8 * (col % 4))) & 255;
        mean += (map[code]! * scales[2 * row + 1]!) / rows;
      }
      const ratio = mean / (size(col) ** 2 * (1 - 0.999 ** steps));
      sum += ratio;
      worst = Math.max(worst, Math.abs(ratio - 1));
    }
    expect(Math.abs(sum / cols - 1)).toBeLessThan(0.01);
    expect(worst).toBeLessThan(0.3);
    optimizer.dispose();
    parameter.dispose();
  });

  it("leaves the loss of a small model where f32 moments take it", async () => {
    const steps = testDevice === "cpu" ? 120 : 8; // software adapters take a third of a second for one
    const losses = new Map<MomentKind, number>();
    for (const moments of momentKinds) losses.set(moments, await finalLoss(moments, steps));
    const f32 = losses.get("f32")!;
    expect(f32).toBeLessThan(testDevice === "cpu" ? 1 : 6); // from log 300 = 5.7
    for (const kind of lowKinds)
      expect(Math.abs(losses.get(kind)! / f32 - 1), `${kind}: ${[...losses.values()].join(", ")}`).toBeLessThan(0.05);
  });
});

const config = { ...tinyConfigs.qwen3, width: 72, mlpWidth: 130, vocabulary: 300 };

/** Mean loss of the last five steps, on eight sequences that are learnt by heart. */
async function finalLoss(moments: MomentKind, steps: number): Promise<number> {
  const decoder = Decoder.initialise(config, device(), 1);
  decoder.setTrainable(true);
  const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01), { moments });
  const rows = Array.from({ length: 8 }, (_, i) => randomIds(20, config.vocabulary, i));
  let sum = 0;
  for (let t = 0; t < steps; t++) {
    optimizer.zeroGrad();
    const stats = withScope(() => {
      const targets = fromHost(device(), Uint32Array.from(rows.flatMap((ids) => [...ids.slice(1), 0])), [160]);
      const { tape, value } = withTape(() =>
        crossEntropy(decoder.forward(packBatch(device(), rows)), decoder.headWeight, targets, full(device(), [160], 1), { scale: 1 / 160 }),
      );
      backward(tape, value);
      return value;
    });
    await optimizer.update(3e-3);
    const [[loss]] = await Promise.all([stats.readFloats(), optimizer.settle()]);
    if (t >= steps - 5) sum += loss! / 5;
    stats.dispose();
  }
  optimizer.dispose();
  decoder.dispose();
  return sum;
}

describe("what is saved", () => {
  const shapes: Readonly<Record<string, readonly number[]>> = { matrix: [70, 301], embedding: [260, 64], norm: [65] };
  const names = Object.keys(shapes);

  function make(on: Device, options: AdamWOptions): { parameters: Map<string, Parameter>; optimizer: AdamW } {
    const parameters = new Map(Object.entries(shapes).map(([name, shape]) => [name, trained(on, name, shape)]));
    return { parameters, optimizer: new AdamW(decayGroups(parameters, 0.1), options) };
  }
  async function steps(parameters: ReadonlyMap<string, Parameter>, optimizer: AdamW, from: number, to: number): Promise<void> {
    for (let t = from; t < to; t++) {
      for (const [name, parameter] of parameters) parameter.grad!.write(randomValues(parameter.size, 7 * t + names.indexOf(name)));
      await step(optimizer, 1e-2);
    }
  }
  async function weights(parameters: ReadonlyMap<string, Parameter>): Promise<Map<string, Float32Array>> {
    const all = new Map<string, Float32Array>();
    for (const [name, parameter] of parameters) all.set(name, await parameter.readFloats());
    return all;
  }
  async function straight(options: AdamWOptions): Promise<Map<string, Float32Array>> {
    return withDevice(async (on) => {
      const { parameters, optimizer } = make(on, options);
      await steps(parameters, optimizer, 0, 6);
      return weights(parameters);
    });
  }

  it.each(momentKinds)("goes on with the same bits, %s, on shards of another size", async (moments) => {
    const folder = await mkdtemp(join(tmpdir(), "zerosearch-moments-"));
    const file = join(folder, "optimizer.safetensors");
    try {
      const half = await withDevice(
        async (on) => {
          const { parameters, optimizer } = make(on, { moments, seed: 5 });
          await steps(parameters, optimizer, 0, 3);
          await saveTensors(file, optimizer.stateTensors());
          return weights(parameters);
        },
        { maxShardBytes: 512 },
      );
      const resumed = await withDevice(async (on) => {
        const { parameters, optimizer } = make(on, { moments, seed: 5 });
        for (const [name, parameter] of parameters) parameter.write(half.get(name)!);
        await loadTensors(file, optimizer.stateTensors());
        optimizer.resume(3);
        await steps(parameters, optimizer, 3, 6);
        return weights(parameters);
      });
      expect(resumed).toEqual(await straight({ moments, seed: 5 }));
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("depends on the seed where moments are rounded at random, and on nothing but it", async () => {
    for (const moments of lowKinds) {
      const [a, b] = [await straight({ moments, seed: 1 }), await straight({ moments, seed: 2 })];
      expect(a.get("norm")).toEqual(b.get("norm"));
      expect(a.get("matrix")).not.toEqual(b.get("matrix"));
    }
    expect(await straight({ moments: "f32", seed: 1 })).toEqual(await straight({}));
  });
});
