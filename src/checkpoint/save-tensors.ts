/** From tensors of a device into files, piece by piece, converted by the device to the type that is asked for. */
import type { Dtype, HostArray } from "../device/device.ts";
import { toFloats } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ConfigError, ZeroSearchError } from "../util/errors.ts";
import { fileDtypes, writeSafetensors, type TensorSource } from "./safetensors-write.ts";

export type FloatDtype = Exclude<Dtype, "u32">;

export interface SaveTensorsOptions {
  /** Type of all tensors in the file; each has its own unless told. */
  readonly dtype?: FloatDtype;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Refuses NaN and infinity, and numbers that `dtype` cannot hold: weights that nobody could use. */
  readonly finite?: boolean;
}

/**
 * Saves named tensors (weights, optimiser moments, an adapter) as one safetensors file, rounding to nearest even where `dtype` is narrower.
 * @throws FileError when it cannot be written, ZeroSearchError for what `finite` refuses; the old file then stays.
 */
export async function saveTensors(path: string, tensors: ReadonlyMap<string, Tensor>, options: SaveTensorsOptions = {}): Promise<void> {
  const sources = [...tensors].map(([name, tensor]) => tensorSource(name, tensor, options));
  await writeSafetensors(path, sources, options.metadata);
}

/** A tensor as something to be written. @throws ConfigError for ids asked for as floats */
export function tensorSource(name: string, tensor: Tensor, options: Pick<SaveTensorsOptions, "dtype" | "finite"> = {}): TensorSource {
  const { finite = false, dtype = tensor.dtype } = options;
  if (tensor.dtype === "u32" && dtype !== "u32")
    throw new ConfigError({ where: `saving "${name}"`, what: "it holds whole numbers", expected: "no dtype", got: dtype });
  return {
    name,
    shape: tensor.shape,
    dtype,
    async read(firstRow, rows) {
      const data = await readAs(tensor, dtype, firstRow, rows);
      const bad = finite ? firstNotFinite(data, dtype) : -1;
      if (bad >= 0) await refuse(name, tensor, dtype, firstRow + Math.floor(bad / tensor.cols), bad % tensor.cols);
      return data;
    },
  };
}

async function readAs(tensor: Tensor, dtype: Dtype, firstRow: number, rows: number): Promise<HostArray> {
  const { device, storage, cols } = tensor;
  if (dtype === tensor.dtype) return device.read(storage, firstRow, rows);
  const staging = device.allocate(rows, cols, dtype, "activation", "tensors being saved");
  try {
    device.run("copy", { fromRow: firstRow, toRow: 0, rows }, [storage], [staging]);
    return await device.read(staging);
  } finally {
    device.release(staging);
  }
}

/** Bits of the exponent: all set in NaN and infinity, and in nothing else. */
const exponents: Readonly<Record<FloatDtype, number>> = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 };

/** Index of the first NaN or infinity, or -1. */
function firstNotFinite(data: HostArray, dtype: Dtype): number {
  if (dtype === "u32") return -1;
  const mask = exponents[dtype];
  const bits = data instanceof Float32Array ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & mask) === mask) return i;
  return -1;
}

async function refuse(name: string, tensor: Tensor, dtype: Dtype, row: number, col: number): Promise<never> {
  const value = toFloats(await tensor.device.read(tensor.storage, row, 1), tensor.dtype)[col]!;
  const where = `saving "${name}"`;
  const got = `${value} at ${tensor.shape.length < 2 ? `[${col}]` : `[${row}, ${col}]`}`;
  const expected = `at most ${dtype === "f16" ? "65504" : "3.39e38"} in size`;
  if (Number.isFinite(value))
    throw new ZeroSearchError({
      where,
      what: `a number is too large for ${fileDtypes[dtype]}`,
      expected,
      got,
      hint: "save as bf16 or f32",
    });
  const hint = "the model is broken: training has diverged, or the file it came from is damaged";
  throw new ZeroSearchError({ where, what: "the weights are not finite", got, hint });
}
