/** Sums that workgroups left in memory, added in order: of products split along K, and of column_sum. */
import { dtypeCodes, fold, type GpuBuffer, type GpuStorage, type KernelContext } from "../kernel.ts";

/** One product among those whose sums lie side by side in `part`. */
export interface PartMember {
  /** First quad of its columns in a row of `part`. */
  readonly partStart: number;
  /** Where they are added: start and stride in quads. */
  readonly c: { readonly buffer: GpuBuffer; readonly start: number; readonly stride: number };
  readonly cols: number;
  readonly bias: GpuStorage | null;
  /** Element of the bias for the first column: a multiple of 4. */
  readonly biasStart: number;
}

export interface PartSums {
  /** [parts, rows, cols] f32; stride of rows and plane from part to part in quads of 4 elements. */
  readonly part: { readonly buffer: GpuBuffer; readonly parts: number; readonly stride: number; readonly plane: number };
  readonly rows: number;
  /** Whether to the old values of c, or to 0. */
  readonly accumulate: boolean;
  readonly members: readonly PartMember[];
}

/** What a bias is to a kernel: its first element and its type; 3 for none. */
export const biasWords = (bias: GpuStorage | null, start: number): readonly [number, number] => [
  start,
  bias === null ? dtypeCodes.u32 : dtypeCodes[bias.dtype],
];

export function matmulSum(context: KernelContext, { part, rows, accumulate, members }: PartSums): void {
  const quadsOf = ({ cols }: PartMember): number => Math.ceil(cols / 4);
  context.dispatch({
    kernel: "matmul_sum",
    constants: { MEMBERS: members.length },
    buffers: [part.buffer, ...members.map(({ bias }) => bias?.buffers[0] ?? part.buffer), ...members.map(({ c }) => c.buffer)],
    uints: [
      ...[part.parts, part.stride, part.plane, accumulate ? 1 : 0],
      ...members.flatMap((member) => [
        ...[rows * quadsOf(member), quadsOf(member), member.partStart, member.c.start, member.c.stride],
        ...biasWords(member.bias, member.biasStart),
      ]),
    ],
    grid: fold(Math.ceil((rows * members.reduce((sum, member) => sum + quadsOf(member), 0)) / 64)),
  });
}
