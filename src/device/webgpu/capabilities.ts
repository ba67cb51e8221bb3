/** What an adapter can do, and which tiers of kernels that allows. */
import type { Tuning, TuningPlace } from "./tuning.ts";

/** Sets of kernels that need certain features, from the one that runs anywhere upwards. */
export const tiers = ["subgroups", "shader-f16", "subgroup-matrix"] as const;
export type Tier = (typeof tiers)[number];

/** The shape of one product of subgroup matrices, f16 x f16 -> f32: [M, K] x [K, N]. */
export interface MatrixShape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What is used of each tier, in words; a tier that is not is absent. */
export function tiersUsed({ subgroupSize, f16, matrix }: Capabilities): ReadonlyMap<Tier, string> {
  const used = new Map<Tier, string>();
  if (subgroupSize > 0) used.set("subgroups", `subgroups of ${subgroupSize}`);
  if (f16) used.set("shader-f16", "shader-f16");
  if (matrix !== null) used.set("subgroup-matrix", `subgroup matrices ${matrix.M}x${matrix.N}x${matrix.K}`);
  return used;
}

/** Where a tuning of such a device holds. */
export function placeOf(
  { name, driver }: { readonly name: string; readonly driver: string },
  precision: "f32" | "f16",
  capabilities: Capabilities,
): TuningPlace {
  return { adapter: name, driver, precision, kernels: [...tiersUsed(capabilities).values()].join(", ") };
}

/** Limits and features as used: a tier that is switched off is absent here. Bytes unless said. */
export interface Capabilities {
  /** Size of subgroups; 0 where they are absent, or their size varies and cannot be chosen. */
  readonly subgroupSize: number;
  /** Whether the adapter has several sizes, of which kernels that count on `subgroupSize` must ask for that one: `@subgroup_size`. */
  readonly subgroupSizeControl: boolean;
  /** WGSL's `f16` type. */
  readonly f16: boolean;
  /** Subgroup matrices f16 x f16 -> f32; null without. */
  readonly matrix: MatrixShape | null;
  readonly maxBinding: number;
  readonly maxBuffer: number;
  readonly maxWorkgroupMemory: number;
  readonly maxInvocations: number;
  /** That one dispatch binds. */
  readonly maxStorageBuffers: number;
  /** No hardware: llvmpipe, SwiftShader, the null backend. */
  readonly software: boolean;
  /** How products are cut into tiles: only speed depends on it. */
  readonly tuning: Tuning;
}

/** What enables WGSL's `@subgroup_size`. */
export const sizeControl = "subgroup_size_control";

/** What kernels of subgroup matrices enable. */
export function matrixEnables({ subgroupSizeControl }: Capabilities): readonly string[] {
  return ["f16", "subgroups", "chromium_experimental_subgroup_matrix", ...(subgroupSizeControl ? [sizeControl] : [])];
}
