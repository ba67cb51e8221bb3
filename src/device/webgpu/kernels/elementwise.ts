/** Kernels that treat each element by itself: fill, copy, round, add, accumulate; and the way they walk sharded storages. */
import { dtypeBytes } from "../../device.ts";
import type { KernelDims } from "../../kernels.ts";
import {
  dtypeCodes,
  fold,
  rowRuns,
  type Dispatch,
  type GpuBuffer,
  type GpuStorage,
  type KernelContext,
  type KernelHost,
} from "../kernel.ts";

/** Invocations in a workgroup of the element-wise kernels. */
const groupSize = 256;

/** Workgroups for one invocation per item. */
export function groupsFor(items: number): readonly [number, number, number] {
  return fold(Math.ceil(items / groupSize));
}

/** 16-byte units from one row to the next. */
export function rowUnits({ stride, dtype }: GpuStorage): number {
  return (stride * dtypeBytes[dtype]) / 16;
}

interface FlatDispatch extends Pick<Dispatch, "kernel" | "constants" | "floats"> {
  /** Uniform words after `units` and the starts. */
  readonly uints?: readonly number[];
  /** Buffers after the storages'. */
  readonly extra?: readonly GpuBuffer[];
}

/**
 * One dispatch per run of rows over storages of one shape and dtype, padding and all: an invocation has 16 bytes of each. The uniform
 * starts with `units`, then the start of each storage, in units.
 */
export function flat(context: KernelContext, storages: readonly GpuStorage[], { uints = [], extra = [], ...rest }: FlatDispatch): void {
  const [first] = storages;
  if (first === undefined) return;
  const row = rowUnits(first);
  for (const run of rowRuns(storages)) {
    const units = run.rows * row;
    context.dispatch({
      ...rest,
      buffers: [...run.parts.map((part) => part.buffer), ...extra],
      uints: [units, ...run.parts.map((part) => part.row * row), ...uints],
      grid: groupsFor(units),
    });
  }
}

const word = new Float32Array(1);
const wordBits = new Uint32Array(word.buffer);

/** The bits of x as f32. */
function floatBits(x: number): number {
  word[0] = x;
  return wordBits[0]!;
}
/** A NaN for kernels to store: WGSL has no constant for it. */
export const nanBits = 0x7fc00000;
/** What kernels with sums in pairs of f32 are told: compilers do not know it, so they leave (a + b) - a as it is. */
export const zero = 0;

export const fill: KernelHost = (context, { dims, outputs: [y] }) => {
  const value = dims["value"]!;
  flat(context, [y!], { kernel: "fill", uints: [y!.dtype === "u32" ? value >>> 0 : floatBits(value)] });
};

/** Dispatches of a kernel that reads x and writes y of another dtype: by 16 bytes where the dtypes agree, else by 8 elements of a row. */
function convert(
  context: KernelContext,
  x: GpuStorage,
  y: GpuStorage,
  { fromRow, toRow, rows }: KernelDims<"copy">,
  dispatch: Pick<Dispatch, "kernel" | "constants" | "floats">,
): void {
  const [xStride, yStride] = [rowUnits(x), rowUnits(y)];
  const rowItems = Math.min(xStride, yStride); // where dtypes differ, that of the 16-bit side
  for (const { rows: some, parts } of rowRuns([x, y], fromRow, rows, [0, toRow - fromRow])) {
    const [from, to] = parts;
    const items = some * rowItems;
    context.dispatch({
      ...dispatch,
      buffers: [from!.buffer, to!.buffer],
      uints: [items, rowItems, from!.row * xStride, xStride, to!.row * yStride, yStride],
      grid: groupsFor(items),
    });
  }
}

export const copy: KernelHost = (context, { dims, inputs: [x], outputs: [y] }) => {
  const constants = { FROM: dtypeCodes[x!.dtype], TO: dtypeCodes[y!.dtype] };
  convert(context, x!, y!, dims, { kernel: "copy", constants });
};

export const round: KernelHost = (context, { dims, inputs: [x], outputs: [y] }) => {
  flat(context, [x!, y!], { kernel: "round", constants: { TO: dims["bits"] === 17 ? dtypeCodes.bf16 : dtypeCodes.f16 } });
};

export const add: KernelHost = (context, { inputs: [a, b], outputs: [y] }) => {
  flat(context, [a!, b!, y!], { kernel: "add" });
};

export const accumulate: KernelHost = (context, { dims, inputs: [x], outputs: [y] }) => {
  const constants = { X_DTYPE: dtypeCodes[x!.dtype] };
  convert(context, x!, y!, { fromRow: 0, toRow: 0, rows: y!.rows }, { kernel: "accumulate", constants, floats: [dims["scale"]!] });
};
