/** What an adapter can do, and which tiers of kernels that allows. */

/** Sets of kernels that need certain features, from the one that runs anywhere upwards. */
export const tiers = ["subgroups", "shader-f16", "subgroup-matrix"] as const;
export type Tier = (typeof tiers)[number];

/** The shape of one product of subgroup matrices, f16 x f16 -> f32: [M, K] x [K, N]. */
export interface MatrixShape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Limits and features as used: a tier that is switched off is absent here. Bytes unless said. */
export interface Capabilities {
  /** Fixed size of subgroups; 0 where subgroups are absent or their size may vary. */
  readonly subgroupSize: number;
  /** WGSL's `f16` type. */
  readonly f16: boolean;
  /** Subgroup matrices f16 x f16 -> f32; null without. */
  readonly matrix: MatrixShape | null;
  readonly maxBinding: number;
  readonly maxBuffer: number;
  readonly maxWorkgroupMemory: number;
  readonly maxInvocations: number;
  /** No hardware: llvmpipe, SwiftShader, the null backend. */
  readonly software: boolean;
}
