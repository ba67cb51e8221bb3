/**
 * Runs one kernel on the device under test in several set-ups (threads, small shards, builds or tiers) and in float64
 * (test/reference/kernels.ts), and compares: bit by bit between set-ups of one build, within a tolerance with the reference.
 */
import { afterAll, beforeAll, expect } from "vitest";
import type { Device, Dtype, HostArray, Storage } from "../../../src/device/device.ts";
import type { KernelDims, KernelName } from "../../../src/device/kernels.ts";
import { toElements, toFloats } from "../../../src/tensor/dtype.ts";
import { kernelVariants, makeDevice } from "../../helpers/device.ts";
import { referenceKernels, type ReferenceTensor } from "../../reference/kernels.ts";
import { roundTo } from "../../helpers/round-to.ts";

export const INACTIVE = 0xffffffff;

export interface Values {
  readonly rows: number;
  readonly cols: number;
  readonly dtype: Dtype;
  readonly values: Float64Array;
}

/** A tensor of given numbers, rounded to its type. */
export function tensor(rows: number, cols: number, values: ArrayLike<number>, dtype: Dtype = "f32"): Values {
  if (values.length !== rows * cols) throw new Error(`${values.length} values for ${rows} x ${cols}`);
  return { rows, cols, dtype, values: Float64Array.from(values, (x) => roundTo(x, dtype)) };
}
export const vector = (values: ArrayLike<number>, dtype: Dtype = "f32"): Values => tensor(1, values.length, values, dtype);
export const ids = (values: ArrayLike<number>): Values => vector(values, "u32");
export const zeros = (rows: number, cols: number, dtype: Dtype = "f32"): Values => tensor(rows, cols, new Float64Array(rows * cols), dtype);

/** Uniform numbers in [low, high), the same for the same seed (mulberry32). */
export function random(seed: number): (low?: number, high?: number) => number {
  let state = seed >>> 0;
  return (low = -1, high = 1) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return low + ((t ^ (t >>> 14)) >>> 0) * 2 ** -32 * (high - low);
  };
}
export function randomTensor(seed: number, rows: number, cols: number, dtype: Dtype = "f32", low = -1, high = 1): Values {
  const next = random(seed);
  return tensor(
    rows,
    cols,
    Float64Array.from({ length: rows * cols }, () => next(low, high)),
    dtype,
  );
}

export interface SetUp {
  readonly name: string;
  readonly device: Device;
  /** Whether its bits should be those of the first set-up. */
  readonly sameBits: boolean;
}
const setUps: SetUp[] = [];

/** Call once in a file: makes the devices before its tests and ends them after. */
export function useDevices(): void {
  beforeAll(async () => {
    for (const { name, options, sameBits } of kernelVariants) setUps.push({ name, device: await makeDevice(options), sameBits });
  });
  afterAll(async () => {
    for (const { device } of setUps.splice(0)) await device.destroy();
  });
}
/** Every set-up in turn, the default one first. */
export async function eachSetUp(visit: (setUp: SetUp) => Promise<void>): Promise<void> {
  for (const setUp of setUps) await visit(setUp);
}
export function device(): Device {
  const first = setUps[0];
  if (first === undefined) throw new Error("useDevices was not called");
  return first.device;
}

export function place(on: Device, value: Values, label = "t"): Storage {
  const storage = on.allocate(value.rows, value.cols, value.dtype, "activation", label);
  on.write(storage, toElements(value.values, value.dtype));
  return storage;
}

/** What `run` leaves in the outputs on one device, as raw elements. */
export async function runOn<K extends KernelName>(
  on: Device,
  kernel: K,
  dims: KernelDims<K>,
  inputs: readonly (Values | null)[],
  outputs: readonly (Values | null)[],
): Promise<HostArray[]> {
  const ins = inputs.map((value, i) => (value === null ? null : place(on, value, `input ${i}`)));
  const outs = outputs.map((value, i) => (value === null ? null : place(on, value, `output ${i}`)));
  on.run(kernel, dims, ins, outs);
  const results: HostArray[] = [];
  for (const storage of outs) results.push(storage === null ? new Float32Array() : await on.read(storage));
  for (const storage of [...ins, ...outs]) if (storage !== null) on.release(storage);
  return results;
}

export function runReference<K extends KernelName>(
  kernel: K,
  dims: KernelDims<K>,
  inputs: readonly (Values | null)[],
  outputs: readonly (Values | null)[],
): Float64Array[] {
  const outs: (ReferenceTensor | null)[] = outputs.map((value) =>
    value === null ? null : { rows: value.rows, cols: value.cols, values: value.values.slice() },
  );
  referenceKernels[kernel](dims, inputs, outs);
  return outs.map((value) => value?.values ?? new Float64Array());
}

export const bitsOf = (data: HostArray): Uint32Array | Uint16Array =>
  data instanceof Float32Array ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;

/** Fails unless both hold the same bits, NaN included. */
export function expectSameBits(got: HostArray, want: HostArray, what: string): void {
  const [a, b] = [bitsOf(got), bitsOf(want)];
  expect(a.length, `${what}: length`).toBe(b.length);
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) expect.fail(`${what}: element ${i} is ${got[i]}; expected the bits of ${want[i]}`);
}

/** Fails unless |got - want| <= tolerance * (1 + |want|) everywhere; NaN matches NaN. */
export function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what: string): void {
  expect(got.length, `${what}: length`).toBe(want.length);
  for (let i = 0; i < want.length; i++) {
    const [a, b] = [got[i]!, want[i]!];
    if (Object.is(a, b) || a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    if (!(Math.abs(a - b) <= tolerance * (1 + Math.abs(b)))) expect.fail(`${what}: element ${i} is ${a}; expected ${b}`);
  }
}

export interface CheckOptions {
  /** 0 means exactly the reference rounded to the output's type. */
  readonly tolerance?: number;
  /** Elements that the kernel need not write are skipped: (output, index) => compare it? */
  readonly compare?: (output: number, index: number) => boolean;
}

/** Runs the kernel everywhere and compares. Returns the first set-up's outputs as numbers. */
export async function check<K extends KernelName>(
  kernel: K,
  dims: KernelDims<K>,
  inputs: readonly (Values | null)[],
  outputs: readonly (Values | null)[],
  options: CheckOptions = {},
): Promise<Float32Array[]> {
  const { tolerance = 1e-5, compare = () => true } = options;
  const want = runReference(kernel, dims, inputs, outputs);
  let first: HostArray[] | undefined;
  for (const { name, device: on, sameBits } of setUps) {
    const got = await runOn(on, kernel, dims, inputs, outputs);
    first ??= got;
    got.forEach((data, o) => {
      const output = outputs[o];
      if (output === null || output === undefined) return;
      const keep = (_: number, i: number): boolean => compare(o, i);
      const wanted = Float64Array.from(want[o]!, (x) => roundTo(x, output.dtype)).filter(keep);
      const numbers = toFloats(data, output.dtype).filter(keep);
      const exact = output.dtype === "u32" ? (data as Uint32Array).filter(keep) : numbers;
      expectClose(exact, wanted, tolerance, `${kernel}, ${name}, output ${o}`);
      if (sameBits) expectSameBits(data.filter(keep), first![o]!.filter(keep), `${kernel}, ${name}, output ${o}`);
    });
  }
  return first!.map((data, o) => toFloats(data, outputs[o]?.dtype ?? "f32"));
}

/**
 * Compares a gradient with central differences of `loss`, a float64 function of `x`, at some elements.
 * `gradient` may carry f32 error; the differences themselves are good to about 1e-7.
 */
export function expectGradient(
  loss: (x: Float64Array) => number,
  x: Float64Array,
  gradient: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  const h = 1e-4,
    stride = Math.max(1, Math.floor(x.length / 40));
  for (let i = 0; i < x.length; i += stride) {
    const moved = x.slice();
    moved[i] = x[i]! + h;
    const up = loss(moved);
    moved[i] = x[i]! - h;
    expectClose([gradient[i]!], [(up - loss(moved)) / (2 * h)], tolerance, `${what}[${i}]`);
  }
}
