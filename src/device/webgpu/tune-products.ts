/** The products that a tuning is measured by: those of two models' layers, in decode, prefill and training. */
import type { Device, Storage } from "../device.ts";
import type { Capabilities } from "./capabilities.ts";
import { DryWebGpuDevice } from "./dry-device.ts";
import type { Dispatch } from "./kernel.ts";
import { tileName } from "./tuning.ts";

export interface TimedProduct {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA: 0 | 1;
  readonly transB: 0 | 1;
  /** For people. */
  readonly name: string;
}

/** Width and that of the MLP, of models of 0.5B and 3B. */
const models = [
  { width: 896, inner: 4864 },
  { width: 2048, inner: 11008 },
] as const;
/** Rows: of one sequence and of several in decode, of prefill, of training. */
const rows = [1, 8, 32, 64, 256, 1024] as const;

/** All of them; for slow devices widths, and rows where there are many, are divided by `shrink`. */
export function timedProducts(shrink: number): TimedProduct[] {
  const narrow = (n: number): number => Math.max(64, Math.round(n / shrink / 8) * 8);
  const fewer = (M: number): number => (M <= 64 ? M : Math.max(M > 256 ? 136 : 96, Math.round(M / shrink / 8) * 8));
  const make = (M: number, N: number, K: number, what = "", transA: 0 | 1 = 0, transB: 0 | 1 = 1): TimedProduct => {
    return { M, N, K, transA, transB, name: `[${M}, ${K}] x [${K}, ${N}]${what}` };
  };
  return models.flatMap(({ width, inner }, i) => {
    const [C, F] = [narrow(width), narrow(inner)];
    const forward = rows.map(fewer).flatMap((M) => [make(M, F, C), make(M, C, F), make(M, C, C)]);
    const tokens = fewer(1024);
    const backward = [make(tokens, C, F, ", input's gradient", 0, 0), make(F, C, tokens, ", weight's gradient", 1, 0)];
    return i === 0 ? [...forward, ...backward] : forward;
  });
}

/** How a product is cut on a device with these capabilities. */
export interface Plan {
  /** The same for the same dispatches. */
  readonly key: string;
  /** For people: its tile, and how many workgroups share K. */
  readonly text: string;
}

export function planOf(capabilities: Capabilities, precision: "f32" | "f16", product: TimedProduct): Plan {
  const dispatches: Dispatch[] = [];
  const device = new DryWebGpuDevice({ capabilities, precision, notes: false, onDispatch: (one) => dispatches.push(one) });
  storagesOf(device, product).run();
  device.memory(); // what is held back is recorded
  const own = dispatches.filter(({ kernel }) => kernel !== "matmul_pack");
  const key = JSON.stringify(own.map(({ kernel, constants, uints, grid }) => [kernel, constants, uints, grid]));
  const { constants, grid } = own.find((one) => one.constants?.["BM"] !== undefined)!;
  const tile = tileName(constants as { readonly BM: number; readonly BN: number; readonly BK: number });
  return { key, text: grid[2] > 1 ? `${tile}, K in ${grid[2]}` : tile };
}

interface ProductStorages {
  readonly a: Storage;
  readonly b: Storage;
  readonly c: Storage;
  readonly run: () => void;
}

export function storagesOf(device: Device, { M, N, K, transA, transB }: TimedProduct): ProductStorages {
  const a = transA === 1 ? device.allocate(K, M, "f32", "activation", "timed a") : device.allocate(M, K, "f32", "activation", "timed a");
  const [bRows, bCols] = transB === 1 ? [N, K] : [K, N];
  // gradients of weights are products of activations
  const b =
    transA === 1
      ? device.allocate(bRows, bCols, "f32", "activation", "timed b")
      : device.allocate(bRows, bCols, device.precision, "parameter", "timed b");
  const c = device.allocate(M, N, "f32", "activation", "timed product");
  return {
    ...{ a, b, c },
    run: () => {
      device.run("matmul", { M, N, K, transA, transB, accumulate: 0 }, [a, b, null], [c]);
    },
  };
}

/** Of a prime length, so that rows differ. */
const period = 1_000_003;
let numbers: Float32Array | null = null;
let halves: Uint16Array | null = null;

/** Fills a storage with numbers whose products and sums round: that of another order of a sum shows in the bits. */
export function fillRough(device: Device, storage: Storage): void {
  const count = storage.rows * storage.cols;
  if (numbers === null || halves === null) {
    numbers = new Float32Array(period);
    halves = new Uint16Array(period);
    let state = 1;
    for (let i = 0; i < period; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator
      numbers[i] = state / 2 ** 31 - 1;
      halves[i] = ((state >>> 16) & 0x8000) | (0x2c00 + ((state >>> 8) & 0xfff)); // of size 1/16 to 1
    }
  }
  const [data, source] = storage.dtype === "f32" ? [new Float32Array(count), numbers] : [new Uint16Array(count), halves];
  for (let at = 0; at < count; at += period) data.set(source.subarray(0, Math.min(period, count - at)), at);
  device.write(storage, data);
}
