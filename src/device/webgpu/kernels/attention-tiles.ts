/** How attention is cut into tiles, for kernels with and without matrices. */
import type { GpuBuffer, GpuStorage, KernelCall, KernelContext } from "../kernel.ts";

export interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly D: number;
  readonly scale: number;
}

export function headsOf({ dims, inputs }: KernelCall): Heads {
  const heads = dims["heads"]!;
  return { heads, kvHeads: dims["kvHeads"]!, D: inputs[0]!.cols / heads, scale: dims["scale"]! };
}

/** Query heads that a workgroup takes together: the largest divisor of the group that is at most `most`. */
export function groupOf({ heads, kvHeads }: Heads, most: number): number {
  const all = heads / kvHeads;
  let group = Math.min(all, most);
  while (all % group !== 0) group--;
  return group;
}

/** Numbers of a tiled kernel: tiles of `tile` tokens times `group` query heads; sequence b has slots from offsets[b] / tile + b on. */
export function tiling(shape: Heads, tokens: number, sequences: number, most: number) {
  const group = groupOf(shape, most);
  const tile = Math.floor(most / group);
  const groups = shape.heads / group;
  return { group, tile, groups, groupsPerHead: groups / shape.kvHeads, slots: Math.floor(tokens / tile) + sequences };
}

/** Of a paged cache the blocks that lie in one buffer. */
export interface CacheShard {
  readonly keys: GpuBuffer;
  readonly values: GpuBuffer;
  readonly first: number;
  readonly blocks: number;
}

export const reader =
  (context: KernelContext) =>
  (storage: GpuStorage): GpuBuffer =>
    context.whole(storage, "read");
export const quads = ({ stride }: GpuStorage): number => stride / 4;
