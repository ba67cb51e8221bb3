/** What tensors hold that is no number, for a person: how many, and where the first is. */
import { sumsOfSquares } from "../ops/clip-grad-norm.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A tensor with NaN or infinity in it. */
export interface TensorFault {
  readonly name: string;
  readonly shape: readonly number[];
  /** How many of its elements are none. */
  readonly notFinite: number;
  /** Row-major index of the first of them, its place along each dimension, and what stands there. */
  readonly first: number;
  readonly at: readonly number[];
  readonly value: number;
}

/** The length of a tensor, as of a vector. */
export interface TensorNorm {
  readonly name: string;
  readonly norm: number;
}

export interface TensorLook {
  /** In the order of the tensors. */
  readonly faults: readonly TensorFault[];
  /** Of those that are finite. */
  readonly norms: readonly TensorNorm[];
}

/**
 * Looks at tensors of one device. Reads one number an f32 tensor, and all elements, one tensor at a time, of those whose squares do not sum to
 * a number, and of other types.
 * @param scale - what the elements were multiplied by; norms are without it
 */
export async function lookAt(tensors: ReadonlyMap<string, Tensor>, scale = 1): Promise<TensorLook> {
  const faults: TensorFault[] = [];
  const norms: TensorNorm[] = [];
  const squares = await squaresOf(tensors);
  for (const [name, tensor] of tensors) {
    const known = squares.get(name);
    const { fault, norm } =
      known !== undefined && Number.isFinite(known)
        ? { fault: null, norm: Math.sqrt(known) }
        : scan(name, tensor, await tensor.readFloats());
    if (fault === null) norms.push({ name, norm: norm / scale });
    else faults.push(fault);
  }
  return { faults, norms };
}

/** Sums of squares of the f32 tensors among `tensors`, as the device sums them. */
async function squaresOf(tensors: ReadonlyMap<string, Tensor>): Promise<ReadonlyMap<string, number>> {
  const floats = [...tensors].filter(([, { dtype }]) => dtype === "f32");
  const [first, ...others] = floats.map(([, tensor]) => tensor);
  if (first === undefined) return new Map();
  const sums = sumsOfSquares([first, ...others]);
  const values = await sums.readFloats();
  sums.dispose();
  return new Map(floats.map(([name], slot) => [name, values[slot] as number]));
}

function scan(name: string, { shape }: Tensor, values: Float32Array): { readonly fault: TensorFault | null; readonly norm: number } {
  let [notFinite, first, squares] = [0, -1, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (Number.isFinite(value)) squares += value * value;
    else {
      if (notFinite === 0) first = i;
      notFinite++;
    }
  }
  if (notFinite === 0) return { fault: null, norm: Math.sqrt(squares) };
  return { fault: { name, shape: [...shape], notFinite, first, at: placeOf(first, shape), value: values[first] as number }, norm: NaN };
}

/** Where the element of a row-major index stands. */
function placeOf(index: number, shape: readonly number[]): number[] {
  const place: number[] = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    place.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return place;
}
