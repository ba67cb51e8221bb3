/** What the CPU device may be told. */

/** Bytes of a file of `dist/kernels/`. */
export type KernelLoader = (name: string) => Promise<Uint8Array>;

/** `relaxed`: fused multiply-add where the processor has it; `plain`: a multiplication, then an addition. */
export type SimdBuild = "relaxed" | "plain";

export interface CpuDeviceOptions {
  /** Threads that compute, the calling one included; as many as the machine runs at once by default. Results do not depend on it. */
  readonly threads?: number | undefined;
  /** Which build of the kernels: the best that validates by default. The two differ in rounding. */
  readonly simd?: SimdBuild | "auto" | undefined;
  /**
   * `auto`: machine code for products and attention, where the processor has AVX2 with FMA, the relaxed build runs and the system lets
   * a program make code; of AVX2 and AVX-512 the one that is faster here. `off`: WebAssembly alone. Results are the same bits.
   */
  readonly native?: "auto" | "off" | "AVX2" | "AVX-512" | undefined;
  /** Largest shard of a storage in bytes, 1 GiB by default. */
  readonly maxShardBytes?: number | undefined;
  /** Most memory in bytes: 4 GiB by default, which is also the most there can be. */
  readonly maxMemoryBytes?: number | undefined;
  /** Fills new storages with NaN, so that a test sees what nothing wrote. */
  readonly poison?: boolean | undefined;
  /** Where `zerosearch.wasm` and `zerosearch.relaxed.wasm` come from: `dist/kernels/` by default. */
  readonly loadKernels?: KernelLoader | undefined;
}
