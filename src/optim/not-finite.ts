/** Which tensors hold a number that is none. */
import { sumsOfSquares } from "../ops/clip-grad-norm.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * Names of those f32 tensors of one device that hold NaN or infinity (or numbers whose squares sum to infinity), in their order. Reads one
 * number a tensor.
 */
export async function notFinite(tensors: ReadonlyMap<string, Tensor>): Promise<string[]> {
  const [first, ...others] = tensors.values();
  if (first === undefined) return [];
  const sums = sumsOfSquares([first, ...others]);
  const values = await sums.readFloats();
  sums.dispose();
  return [...tensors.keys()].filter((_, slot) => !Number.isFinite(values[slot]));
}
