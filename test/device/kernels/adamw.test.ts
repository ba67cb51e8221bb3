import { describe, expect, it } from "vitest";
import type { HostArray } from "../../../src/device/device.ts";
import type { KernelName } from "../../../src/device/kernels.ts";
import { momentTables } from "../../../src/optim/dynamic-map.ts";
import { toFloats } from "../../../src/tensor/dtype.ts";
import {
  check,
  device,
  eachSetUp,
  expectClose,
  expectSameBits,
  random,
  randomTensor,
  runOn,
  runReference,
  tensor,
  useDevices,
  vector,
  zeros,
  type Values,
} from "./harness.ts";
import { fromBf16 } from "../../helpers/round-to.ts";

useDevices();
// odd, one, one row, long rows that are split, many rows that are joined, one more and one less than a block of 256
const shapes: readonly (readonly [number, number])[] = [
  [1, 1],
  [3, 7],
  [5, 4],
  [17, 33],
  [1, 16389],
  [2, 20001],
  [300, 65],
  [4, 255],
  [40, 256],
  [3, 257],
];
const plain = { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, correction1: 1 - 0.9 ** 3, correction2: 1 - 0.99 ** 3 };
const dims = { ...plain, key0: 0xdeadbeef, key1: 0x89abcdef };
const clip = vector([3, 0.25]);

/** What a kernel leaves, as the same bits in every set-up that should have them. */
async function everywhere(
  kernel: KernelName,
  inputs: readonly Values[],
  outputs: readonly Values[],
  compare: (got: readonly HostArray[], name: string) => void,
): Promise<void> {
  let first: readonly HostArray[] | undefined;
  await eachSetUp(async ({ name, device: on, sameBits }) => {
    const got = await runOn(on, kernel as "adamw_bf16", dims, inputs, outputs);
    first ??= got;
    if (sameBits)
      got.forEach((data, o) => {
        expectSameBits(data, first![o]!, `${kernel}, ${name}, output ${o}`);
      });
    compare(got, name);
  });
}

/** Fails unless all but a few per mille are equal, and those differ by one: where f32 and float64 fall on two sides of a random number. */
function expectRounded(got: ArrayLike<number>, want: ArrayLike<number>, what: string): void {
  expect(got.length, what).toBe(want.length);
  let others = 0;
  for (let i = 0; i < want.length; i++) {
    if (got[i] === want[i]) continue;
    others += 1;
    if (Math.abs(got[i]! - want[i]!) !== 1) expect.fail(`${what}: element ${i} is ${got[i]}; expected ${want[i]}`);
  }
  expect(others, `${what}: elements that differ`).toBeLessThanOrEqual(1 + want.length / 500);
}

describe("adamw", () => {
  it("moves parameters and moments as the reference does", async () => {
    for (const [n, c] of shapes) {
      const state = [randomTensor(2, n, c), randomTensor(3, n, c, "f32", -0.1, 0.1), randomTensor(4, n, c, "f32", 0.001, 0.1)];
      await check("adamw", plain, [randomTensor(1, n, c), clip], state, { tolerance: 1e-6 });
    }
  });
  it("leaves everything as it was when the clip is NaN", async () => {
    const state = [randomTensor(2, 3, 5), randomTensor(3, 3, 5), randomTensor(4, 3, 5)];
    await check("adamw", plain, [tensor(3, 5, new Float64Array(15).fill(NaN)), vector([NaN, NaN])], state, { tolerance: 0 });
  });
});

describe("adamw_bf16", () => {
  const bits = (values: ArrayLike<number>): number[] =>
    Array.from(values, (x) => {
      const word = new Uint32Array(Float32Array.of(x).buffer)[0]!;
      return (word >>> 31 === 1 ? -1 : 1) * ((word & 0x7fffffff) >>> 16);
    });

  it("moves parameters by moments that are not yet rounded, and stores those rounded as the random words of the reference say", async () => {
    for (const [n, c] of shapes) {
      const state = [randomTensor(2, n, c), randomTensor(3, n, c, "bf16", -0.1, 0.1), randomTensor(4, n, c, "bf16", 0.001, 0.1)];
      const inputs = [randomTensor(1, n, c), clip];
      const want = runReference("adamw_bf16", dims, inputs, state);
      await everywhere("adamw_bf16", inputs, state, (got, name) => {
        expectClose(got[0] as Float32Array, want[0]!, 1e-6, `${name} [${n}, ${c}], param`);
        expectRounded(bits(toFloats(got[1]!, "bf16")), bits(want[1]!), `${name} [${n}, ${c}], m`);
        expectRounded(bits(toFloats(got[2]!, "bf16")), bits(want[2]!), `${name} [${n}, ${c}], v`);
      });
    }
  });

  it("leaves everything as it was when the clip is NaN", async () => {
    const state = [randomTensor(2, 3, 13), randomTensor(3, 3, 13, "bf16"), randomTensor(4, 3, 13, "bf16")];
    await check("adamw_bf16", dims, [tensor(3, 13, new Float64Array(39).fill(NaN)), vector([NaN, NaN])], state, { tolerance: 0 });
  });

  it("keeps the mean of moments that lie between two neighbours, and moments that bf16 holds exactly as they are", async () => {
    const [n, c] = [64, 1000];
    const constant = (x: number, dtype: "f32" | "bf16" = "bf16"): Values => tensor(n, c, new Float64Array(n * c).fill(x), dtype);
    // m 1 + .1 of (1.04 - 1): 1.004, halfway from 1 to its neighbour 1 + 2^-7; v 1 + .01 of 1.04^2 - 1: .104 of the way
    const [, m, v] = await runOn(
      device(),
      "adamw_bf16",
      dims,
      [constant(1.04, "f32"), vector([1, 1])],
      [zeros(n, c), constant(1), constant(1)],
    );
    const mean = (x: HostArray): number => Array.from(x, fromBf16).reduce((sum, value) => sum + value, 0) / x.length;
    const deviation = (2 ** -7 * 0.5) / Math.sqrt(n * c);
    expect(Math.abs(mean(m!) - 1.004)).toBeLessThan(4 * deviation);
    expect(Math.abs(mean(v!) - (1 + 0.01 * (1.04 ** 2 - 1)))).toBeLessThan(4 * deviation);
    expect(new Set(Array.from(v!, fromBf16))).toEqual(new Set([1, 1 + 2 ** -7]));

    const halved = { ...dims, beta1: 0.5, beta2: 0.5 };
    const exact = await runOn(
      device(),
      "adamw_bf16",
      halved,
      [constant(3, "f32"), vector([1, 1])],
      [zeros(n, c), constant(-1), constant(7)],
    );
    expect([new Set(Array.from(exact[1]!, fromBf16)), new Set(Array.from(exact[2]!, fromBf16))]).toEqual([new Set([1]), new Set([8])]);
  });
});

describe("adamw_8bit", () => {
  const tables = tensor(3, 256, momentTables());
  const words = (c: number): number => Math.ceil(c / 4);
  const scaleCols = (c: number): number => 2 * Math.ceil(c / 256);
  const bytes = (data: ArrayLike<number>): number[] =>
    Array.from(data).flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 255));

  /** Param, m, v, scales of any codes. */
  function randomState(n: number, c: number): Values[] {
    const next = random(7);
    const codes = (): Values =>
      tensor(
        n,
        words(c),
        Float64Array.from({ length: n * words(c) }, () => Math.floor(next(0, 2 ** 32))),
        "u32",
      );
    return [randomTensor(2, n, c), codes(), codes(), randomTensor(4, n, scaleCols(c), "f32", 0.01, 0.2)];
  }

  it("moves parameters by moments that are not yet rounded, and stores the codes that the random words of the reference say", async () => {
    for (const [n, c] of shapes) {
      const state = randomState(n, c);
      const inputs = [randomTensor(1, n, c), clip, tables];
      const want = runReference("adamw_8bit", dims, inputs, state);
      await everywhere("adamw_8bit", inputs, state, (got, name) => {
        expectClose(got[0] as Float32Array, want[0]!, 2e-6, `${name} [${n}, ${c}], param`);
        expectRounded(bytes(got[1]!), bytes(want[1]!), `${name} [${n}, ${c}], codes of m`);
        expectRounded(bytes(got[2]!), bytes(want[2]!), `${name} [${n}, ${c}], codes of v`);
        expectClose(got[3] as Float32Array, want[3]!, 1e-6, `${name} [${n}, ${c}], scales`);
      });
    }
  });

  it("leaves everything as it was when the clip is NaN", async () => {
    const state = randomState(3, 300);
    const inputs = [tensor(3, 300, new Float64Array(900).fill(NaN)), vector([NaN, NaN]), tables];
    await check("adamw_8bit", dims, inputs, state, { tolerance: 0 });
  });

  it("never stores a v that is not 0 as 0, so that no step explodes, and stores 0 as 0", async () => {
    // One gradient of 1 in a block of 1e-6: their v is a 10^-12th of the scale, far below the least code. The last has never had any.
    const gradient = new Float64Array(256).fill(1e-6);
    gradient[9] = 1;
    gradient[255] = 0;
    const zero = [zeros(1, 64, "u32"), zeros(1, 64, "u32"), zeros(1, 2)];
    const first = await runOn(device(), "adamw_8bit", dims, [vector(gradient), vector([1, 1]), tables], [zeros(1, 256), ...zero]);
    const codes = bytes(first[2]!);
    expect([codes[9], codes[255], Math.min(...codes.slice(0, 255))]).toEqual([255, 0, 1]);

    const asValues = (data: HostArray, i: number): Values => tensor(1, data.length, data, i === 0 || i === 3 ? "f32" : "u32");
    const second = await runOn(device(), "adamw_8bit", dims, [zeros(1, 256), vector([1, 1]), tables], first.map(asValues));
    // Adam's own second step is about lr times this; none here may be larger.
    const most = 0.09 / plain.correction1 / Math.sqrt(0.0099 / plain.correction2);
    for (let i = 0; i < 256; i++) {
      const before = first[0]![i]!;
      expect(Math.abs(second[0]![i]! - before * (1 - 0.01 * 0.1))).toBeLessThanOrEqual(0.01 * most * 1.001);
    }
    expect(second[0]![255]).toBe(0);
  });

  it("stores the largest of a block exactly, so that v decays by beta2 though no code changes", async () => {
    const [n, c] = [1, 64];
    const full255 = tensor(n, 16, new Float64Array(16).fill(0xffffffff), "u32");
    let state = [zeros(n, c), tensor(n, 16, new Float64Array(16), "u32"), full255, vector([0, 1])];
    for (let t = 0; t < 50; t++) {
      const data = await runOn(device(), "adamw_8bit", dims, [zeros(n, c), vector([1, 1]), tables], state);
      state = data.map((x, i) => tensor(n, x.length, x, state[i]!.dtype));
    }
    expect(state[3]!.values[1]! / 0.99 ** 50).toBeCloseTo(1, 5);
    expect(new Set(bytes(state[2]!.values))).toEqual(new Set([255]));
  });

  it("keeps the mean of moments that lie between two codes", async () => {
    const [n, c] = [50, 256];
    const gradient = new Float64Array(n * c).fill(0.5005);
    const v0 = new Float64Array(n * 64).fill(0);
    for (let i = 0; i < n * c; i += 256) gradient[i] = 1;
    const state = [zeros(n, c), tensor(n, 64, v0, "u32"), tensor(n, 64, v0, "u32"), zeros(n, 2)];
    const [, m, v] = await runOn(device(), "adamw_8bit", dims, [tensor(n, c, gradient), vector([1, 1]), tables], state);
    const maps = momentTables();
    const mean = (data: HostArray, at: number): number => {
      const values = bytes(data)
        .filter((_, i) => i % 256 !== 0)
        .map((code) => maps[at + code]!);
      expect(new Set(values).size).toBe(2);
      return values.reduce((sum, x) => sum + x, 0) / values.length;
    };
    const deviation = (gap: number): number => (gap * 0.5) / Math.sqrt(n * 255);
    expect(Math.abs(mean(m!, 0) - 0.5005)).toBeLessThan(4 * deviation(0.9 / 64));
    expect(Math.abs(mean(v!, 256) - 0.5005 ** 2)).toBeLessThan(4 * deviation(0.9 / 128));
  });

  it("stores a block as 0 whose largest magnitude is too small to be divided by", async () => {
    const state = [zeros(1, 256), zeros(1, 64, "u32"), zeros(1, 64, "u32"), zeros(1, 2)];
    const tiny = vector(new Float64Array(256).fill(2 ** -125));
    const [param, , , scales] = await runOn(device(), "adamw_8bit", dims, [tiny, vector([1, 1]), tables], state);
    expect(Array.from(scales!)).toEqual([0, 0]);
    expect(param!.every((x) => Math.abs(x) < 1e-29)).toBe(true);
  });
});
