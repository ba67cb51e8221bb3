/** Whether a device computes right, and how fast: one product of square matrices, compared with float64. */
import { createDevice } from "../../device/create.ts";
import type { DeviceOptions } from "../../device/options.ts";
import { wholeDescription, type Device, type Storage } from "../../device/device.ts";
import { ZeroSearchError } from "../../util/errors.ts";
import { streamKey, uniform } from "../../util/philox.ts";
import { median } from "../../util/stats.ts";

/** Side of the matrices. */
const SIDE = 512;
/** How far f32 sums of 512 products of numbers below 1 may be from float64. */
const TOLERANCE = 1e-4;

export interface SelfTest {
  readonly state: "ok" | "failed" | "absent";
  /** The device and its rate, or what is wrong. */
  readonly text: string;
  /** What can be done about it. */
  readonly hint: string | null;
  /** The product's elements; null where there is none, or a wrong one. */
  readonly product: Float32Array | null;
}

/** Never throws what is a user's or a machine's fault. */
export async function selfTest(options: DeviceOptions): Promise<SelfTest> {
  let device: Device | null = null;
  try {
    device = await createDevice(options);
    const { product, gigaflops } = await multiply(device);
    if (!(largestError(product) < TOLERANCE))
      return { state: "failed", text: `${wholeDescription(device)}: wrong products`, hint: null, product: null };
    return { state: "ok", text: `${wholeDescription(device)}; ${gigaflops.toFixed(1)} GFLOP/s at ${SIDE}`, hint: null, product };
  } catch (error) {
    if (!(error instanceof ZeroSearchError)) throw error;
    const { where, what, hint = null } = error.complaint;
    return { state: device === null ? "absent" : "failed", text: `${where}: ${what}`, hint, product: null };
  } finally {
    await device?.destroy();
  }
}

async function multiply(device: Device): Promise<{ product: Float32Array; gigaflops: number }> {
  const make = (label: string): Storage => device.allocate(SIDE, SIDE, "f32", "activation", label);
  const a = make("a"),
    b = make("b"),
    c = make("c");
  device.write(a, values(0));
  device.write(b, values(1));
  const run = (): void => device.run("matmul", { M: SIDE, N: SIDE, K: SIDE, transA: 0, transB: 0, accumulate: 0 }, [a, b, null], [c]);
  run();
  await device.synchronize();
  const seconds: number[] = [];
  for (let repeat = 0; repeat < 9; repeat++) {
    const start = performance.now();
    run();
    await device.synchronize();
    seconds.push((performance.now() - start) / 1000);
  }
  const product = (await device.read(c)) as Float32Array;
  for (const matrix of [a, b, c]) device.release(matrix);
  return { product, gigaflops: (2 * SIDE ** 3) / median(seconds) / 1e9 };
}

/** Numbers in [-1, 1), the same everywhere. */
function values(which: number): Float32Array {
  const key = streamKey(0, "initialise");
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => 2 * uniform(key, [i, which, 0, 0]) - 1);
}

/** Over every 37th row. */
function largestError(product: Float32Array): number {
  const a = values(0);
  const b = values(1);
  let largest = 0;
  for (let row = 0; row < SIDE; row += 37) {
    for (let col = 0; col < SIDE; col++) {
      let sum = 0;
      for (let k = 0; k < SIDE; k++) sum += (a[row * SIDE + k] ?? NaN) * (b[k * SIDE + col] ?? NaN);
      // Math.max hands NaN on.
      largest = Math.max(largest, Math.abs(sum - (product[row * SIDE + col] ?? NaN)));
    }
  }
  return largest;
}

export function sameBits(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}
