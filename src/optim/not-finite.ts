/** Which tensors hold a number that is none. */
import { sumOfSquares } from "../ops/clip-grad-norm.ts";
import { keep } from "../tensor/scope.ts";
import { full, type Tensor } from "../tensor/tensor.ts";

/**
 * Names of those f32 tensors of one device that hold NaN or infinity (or numbers whose squares sum to infinity), in their order. Reads one
 * number a tensor.
 */
export async function notFinite(tensors: ReadonlyMap<string, Tensor>): Promise<string[]> {
  const all = [...tensors];
  const [first] = all;
  if (first === undefined) return [];
  const sums = keep(full(first[1].device, [all.length], 0, { label: "sums of squares" }));
  all.forEach(([, tensor], slot) => {
    sumOfSquares(tensor, sums, slot);
  });
  const values = await sums.readFloats();
  sums.dispose();
  return all.flatMap(([name], slot) => (Number.isFinite(values[slot]) ? [] : [name]));
}
