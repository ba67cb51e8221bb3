/** What the WebGPU device is told. No type of WebGPU's own is named: programs compile with or without them, whichever they have. */
import type { Tier } from "./capabilities.ts";
import type { Tuning } from "./tuning.ts";

/** WebGPU's entry point, `GPU`, as far as its type matters here. */
export interface Gpu {
  requestAdapter(options?: { readonly powerPreference?: "low-power" | "high-performance" }): Promise<object | null>;
}

export interface WebGpuOptions {
  /** A browser's `navigator.gpu`, or Dawn's. */
  readonly gpu: Gpu;
  /** WGSL text of kernels/wgsl/ by stem. */
  readonly sources: ReadonlyMap<string, string>;
  /** Type that operands of matrix products are rounded to; sums are f32 in any case. Default f32. */
  readonly precision?: "f32" | "f16" | undefined;
  /** Tiers not to use though the adapter has them. */
  readonly tiersOff?: readonly Tier[] | undefined;
  /** Largest shard of a tensor in bytes; the adapter's largest binding is the most. */
  readonly maxShardBytes?: number | undefined;
  /** Most bytes to take from the adapter; no limit of our own unless told. */
  readonly maxMemoryBytes?: number | undefined;
  /** Decode steps between two reads. Default 16. */
  readonly readInterval?: number | undefined;
  /** Fills new storages with NaN, so that a test sees what nothing wrote. */
  readonly poison?: boolean | undefined;
  /**
   * Puts canaries around every buffer, for tests: a kernel that writes outside of one is an error that names it, what it reads there is
   * NaN. Scratch and workgroup memory start as NaN too.
   */
  readonly guard?: boolean | undefined;
  /** Small kernels that follow each other run as one where the bits are the same. Default true. */
  readonly fuse?: boolean | undefined;
  /** Whether `prepare` compiles ahead. By default on hardware only: software adapters compile slowly, or when a kernel first runs. */
  readonly precompile?: boolean | undefined;
  /** Tiles of products that were measured to be fast on this device. In Node those kept for it are taken unless told; false takes none. */
  readonly tuning?: Tuning | false | undefined;
  /** Computes small cases first and compares them with float64; a tier that fails is switched off, and said. Default true. */
  readonly selfTest?: boolean | undefined;
}
