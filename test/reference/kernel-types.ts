/** What the float64 kernels share. */
export interface ReferenceTensor {
  readonly rows: number;
  readonly cols: number;
  readonly values: Float64Array;
}

export type Dims = Readonly<Record<string, number>>;
export type Maybe = ReferenceTensor | null | undefined;
export type ReferenceKernel = (dims: Dims, inputs: readonly Maybe[], outputs: readonly Maybe[]) => void;

/** Position of an inactive row. */
export const INACTIVE = 0xffffffff;

/** The tensor, which the kernel cannot do without. */
export function need(tensor: Maybe): ReferenceTensor {
  if (tensor === null || tensor === undefined) throw new Error("a tensor that the kernel needs is absent");
  return tensor;
}

export const dim = (dims: Dims, name: string): number => dims[name]!;

/** log sum e^z, by the largest. */
export function logSumExp(z: Float64Array): number {
  const max = z.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (const x of z) sum += Math.exp(x - max);
  return max + Math.log(sum);
}
