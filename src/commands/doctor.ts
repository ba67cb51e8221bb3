/** `zerosearch doctor`: what this machine offers, and whether it computes right. */
import { statfs } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { argumentsHelp, parseArguments, type ArgumentSpec } from "../config/arguments.ts";
import { createDevice } from "../device/create.ts";
import type { Device } from "../device/device.ts";
import { formatBytes } from "../log/progress.ts";
import { ZeroSearchError } from "../util/errors.ts";
import { streamKey, uniform } from "../util/philox.ts";
import { median } from "../util/stats.ts";

const spec: ArgumentSpec = {
  program: "zerosearch doctor",
  summary: "Says what this machine offers and whether it computes right.",
  options: {},
};

/** Side of the square matrices of the self-test. */
const SIDE = 512;
/** How far f32 sums of 512 products of numbers below 1 may be from float64. */
const TOLERANCE = 1e-4;

/** Prints facts and self-tests; exit code 1 if a needed one fails. */
export async function main(argv: readonly string[]): Promise<void> {
  const { options } = parseArguments(argv, spec);
  if (options.has("help")) {
    process.stdout.write(argumentsHelp(spec));
    return;
  }
  say("Node", `${process.version} on ${process.platform} ${process.arch}`);
  say("CPU", `${cpus()[0]?.model.trim() ?? "unknown"}; ${availableParallelism()} threads`);
  say("memory", `${formatBytes(freemem())} free of ${formatBytes(totalmem())}`);
  const disk = await statfs(".");
  say("disk", `${formatBytes(disk.bavail * disk.bsize)} free in ${process.cwd()}`);

  const all = await examine("wasm", {});
  const one = all === null ? null : await examine("1 thread", { threads: 1 });
  if (all !== null && one !== null)
    verdict("threads", sameBits(all, one), "1 thread and all threads give the same bits", "1 thread and all threads differ");
  // OpenBLAS is optional: its absence is no fault.
  await examine("openblas", { blas: "openblas" }, false);
}

/** Computes a product on a device and compares it with float64. @returns the product; null where the device cannot be had or is wrong */
async function examine(name: string, options: Parameters<typeof createDevice>[0], needed = true): Promise<Float32Array | null> {
  let device: Device;
  try {
    device = await createDevice(options);
  } catch (error) {
    if (!(error instanceof ZeroSearchError)) throw error;
    if (needed) process.exitCode = 1;
    say(name, `${needed ? "FAILED" : "absent"}: ${error.message}`);
    return null;
  }
  try {
    const { product, gigaflops } = await multiply(device);
    const right = largestError(product) < TOLERANCE;
    verdict(name, right, `${device.description}; ${gigaflops.toFixed(1)} GFLOP/s at ${SIDE}`, `${device.description}: wrong products`);
    return right ? product : null;
  } finally {
    await device.destroy();
  }
}

async function multiply(device: Device): Promise<{ product: Float32Array; gigaflops: number }> {
  const [a, b, c] = ["a", "b", "c"].map((label) => device.allocate(SIDE, SIDE, "f32", "activation", label)) as [Matrix, Matrix, Matrix];
  device.write(a, values(0));
  device.write(b, values(1));
  const run = () => device.run("matmul", { M: SIDE, N: SIDE, K: SIDE, transA: 0, transB: 0, accumulate: 0 }, [a, b, null], [c]);
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

type Matrix = ReturnType<Device["allocate"]>;

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

function sameBits(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}

function verdict(name: string, right: boolean, good: string, bad: string): void {
  if (!right) process.exitCode = 1;
  say(name, right ? `ok: ${good}` : `FAILED: ${bad}`);
}

function say(name: string, text: string): void {
  process.stdout.write(`${name.padEnd(9)} ${text}\n`);
}
