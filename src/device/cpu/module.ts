/** The compiled kernels: which of the two builds this runtime takes, and the functions a module exports. */
import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { DeviceError } from "../../util/errors.ts";
import type { KernelLoader, SimdBuild } from "./options.ts";

/** What `kernels/wasm/index.ts` exports to the host. Addresses are signed on this side: `>>> 0` them. */
export interface KernelExports {
  hasKernel(kernel: number): number;
  scratchBytes(kernel: number, args: number): number;
  run(control: number, kernel: number, args: number, scratch: number, workers: number, spin: number): number;
  replay(control: number, list: number, count: number, scratch: number, workers: number, spin: number): number;
  replayApart(control: number, lists: number, scratch: number, workers: number, spin: number): number;
  serve(control: number, scratch: number, spin: number): void;
  /** 1 if a multiply-add rounds once. */
  isFused(): number;
  /** From now on so many threads take items of a kernel. */
  useThreads(count: number): void;
  /** From now on the imports of machine code are called, with a call block at this address. */
  useNative(block: number): void;
}

export const loadKernelsFromDist: KernelLoader = async (name) => {
  // src/device/cpu/ and dist/device/cpu/ lie equally deep
  const url = new URL(`../../../dist/kernels/${name}`, import.meta.url);
  try {
    return await readFile(url);
  } catch (cause) {
    throw new DeviceError(
      {
        where: "cpu device",
        what: `cannot read the kernels, ${url.pathname}`,
        hint: "Build them: npm run build (or node scripts/build-kernels.js).",
      },
      { cause },
    );
  }
};

/**
 * Compiles the best build that validates. Node 20 knows relaxed SIMD behind a V8 flag only, which is set here before it is asked again.
 * @throws DeviceError if the files are missing or no build validates.
 */
export async function compileKernels(
  load: KernelLoader,
  wanted: SimdBuild | "auto",
): Promise<{ module: WebAssembly.Module; build: SimdBuild }> {
  if (wanted !== "plain") {
    const bytes = new Uint8Array(await load("zerosearch.relaxed.wasm"));
    if (validates(bytes)) return { module: await WebAssembly.compile(bytes), build: "relaxed" };
    if (wanted === "relaxed")
      throw new DeviceError({
        where: "cpu device",
        what: "this runtime has no relaxed SIMD",
        got: process.version,
        hint: 'Use simd: "plain" or "auto".',
      });
  }
  const bytes = new Uint8Array(await load("zerosearch.wasm"));
  if (!WebAssembly.validate(bytes)) {
    throw new DeviceError({
      where: "cpu device",
      what: "this runtime has no WebAssembly SIMD with threads",
      expected: "Node 20 or later on a processor with SSE 4.1 or Neon",
      got: `${process.version} on ${process.arch}`,
    });
  }
  return { module: await WebAssembly.compile(bytes), build: "plain" };
}

function validates(bytes: Uint8Array<ArrayBuffer>): boolean {
  if (WebAssembly.validate(bytes)) return true;
  // later versions do not know the flag and would only print a line
  if (Number(process.versions.node.split(".")[0]) >= 22) return false;
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  return WebAssembly.validate(bytes);
}
