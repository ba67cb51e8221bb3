/** Fixed inputs of the self-test, storages for them, and comparisons. */
import type { Device, Dtype, HostArray, Storage, Usage } from "../device.ts";
import type { KernelDims, KernelName } from "../kernels.ts";

/** Multiples of 1/`steps` in [-bound, bound], the same for the same seed. Few bits: f16 holds them, and sums of products are exact in f32. */
export function gridValues(count: number, seed: number, steps = 8, bound = 2): Float64Array {
  let state = seed >>> 0;
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator; its high bits are the better ones
    values[i] = (Math.floor(((state >>> 8) * (2 * bound * steps + 1)) / 2 ** 24) - bound * steps) / steps;
  }
  return values;
}

/** Numbers in [-1, 1) whose products and sums round. */
export function roughValues(count: number, seed: number): Float64Array {
  return gridValues(count, seed, 2 ** 20, 1).map((x, i) => Math.fround(x * (1 + ((i * 37) % 64) / 4099)));
}

const word = new Float32Array(1);
const wordBits = new Uint32Array(word.buffer);

/** Bits of an f16 that holds x exactly: zero or a normal number. */
function halfBits(x: number): number {
  word[0] = x;
  const bits = wordBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  return (bits & 0x7fffffff) === 0 ? sign : sign | (((bits & 0x7fffffff) - 0x38000000) >>> 13);
}

/** The storages of one case, and what it finds wrong. */
export class Trial {
  readonly #device: Device;
  readonly #storages: Storage[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  /** Room for outputs. */
  room(rows: number, cols: number, dtype: Dtype = "f32", usage: Usage = "activation"): Storage {
    const storage = this.#device.allocate(rows, cols, dtype, usage, "self-test");
    this.#storages.push(storage);
    return storage;
  }

  /** Values in a storage; those for f16 must be exact. */
  put(rows: number, cols: number, values: ArrayLike<number>, dtype: Dtype = "f32", usage: Usage = "activation"): Storage {
    const storage = this.room(rows, cols, dtype, usage);
    const halves = dtype !== "f32" && dtype !== "u32";
    const data = halves ? Uint16Array.from(values, halfBits) : dtype === "u32" ? new Uint32Array(values) : new Float32Array(values);
    this.#device.write(storage, data);
    return storage;
  }

  run<K extends KernelName>(kernel: K, dims: KernelDims<K>, inputs: readonly (Storage | null)[], outputs: readonly Storage[]): void {
    this.#device.run(kernel, dims, inputs, outputs);
  }

  read(storage: Storage): Promise<HostArray> {
    return this.#device.read(storage);
  }

  /** Throws unless |got - want| <= tolerance (1 + |want|) everywhere. */
  async close(storage: Storage, want: ArrayLike<number>, tolerance: number, what: string): Promise<void> {
    checkClose(await this.read(storage), want, tolerance, what);
  }

  /** All rows of a storage. */
  async rows(storage: Storage): Promise<HostArray[]> {
    const all = await this.read(storage);
    return Array.from({ length: storage.rows }, (_, row) => all.subarray(row * storage.cols, (row + 1) * storage.cols));
  }

  /** Throws unless rows `rows` of a and b, in pairs, have the same bits. */
  async same(a: Storage, b: Storage, rows: readonly (readonly [number, number])[], what: string): Promise<void> {
    const [got, want] = [bitsOf(await this.read(a)), bitsOf(await this.read(b))];
    for (const [m, n] of rows)
      for (let c = 0; c < a.cols; c++)
        if (got[m * a.cols + c] !== want[n * b.cols + c])
          throw new DifferentBits(`${what}: column ${c} of row ${m} and of row ${n} differ in their bits`);
  }

  release(): void {
    for (const storage of this.#storages.splice(0)) this.#device.release(storage);
  }
}

/** Both are right, but a promise of equal bits does not hold: a compiler has ordered the sums of two kernels in two ways. */
export class DifferentBits extends Error {}

/** Throws unless |got - want| <= tolerance (1 + |want|) everywhere. */
export function checkClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what: string): void {
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i]! - want[i]!) <= tolerance * (1 + Math.abs(want[i]!))))
      throw new Error(`${what}: element ${i} is ${got[i]}, not ${want[i]}`);
}

export function bitsOf(data: HostArray): Uint32Array | Uint16Array {
  return data instanceof Float32Array ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;
}

export interface SelfTestCase {
  readonly name: string;
  /** Asks for kernels at once; what it returns waits for them, and throws if a result is wrong. */
  run(trial: Trial): () => Promise<void>;
}
