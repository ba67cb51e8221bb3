/** What an adapter can do at most, by its maker's data sheet; and what was measured on it, as a second yardstick. */

export interface Peak {
  readonly name: string;
  /** Dense FLOP/s with operands of that type and f32 sums; null where unknown. */
  readonly flops: { readonly f16: number | null; readonly f32: number | null };
  /** Bytes per second of its memory. */
  readonly bytes: number | null;
  /** Bytes of its memory. */
  readonly memory: number | null;
}

interface Known extends Peak {
  readonly matches: RegExp;
}

/** Only adapters somebody has looked up. Source: NVIDIA H200 Tensor Core GPU data sheet (SXM; sparsity taken out). */
const known: readonly Known[] = [
  {
    name: "NVIDIA H200 (SXM, data sheet)",
    matches: /\bH200\b/,
    flops: { f16: 989e12, f32: 67e12 },
    bytes: 4.8e12,
    memory: 141e9,
  },
];

/** The peak that JavaScript's time is compared with where no adapter is at hand. */
export const referencePeak: Peak = known[0]!;

/** The peak of an adapter by its name, with what the user gave in place of it; null where nothing is known. */
export function peakOf(
  adapter: string,
  given: { readonly peakTflops: number | null; readonly peakGbps: number | null; readonly memoryGb: number | null },
): Peak | null {
  const found = known.find(({ matches }) => matches.test(adapter));
  const { peakTflops, peakGbps, memoryGb } = given;
  if (peakTflops === null && peakGbps === null && memoryGb === null) return found ?? null;
  const flops = peakTflops === null ? null : peakTflops * 1e12;
  return {
    name: [found?.name, "as given on the command line"].filter((part) => part !== undefined).join(", "),
    flops: { f16: flops ?? found?.flops.f16 ?? null, f32: flops ?? found?.flops.f32 ?? null },
    bytes: peakGbps === null ? (found?.bytes ?? null) : peakGbps * 1e9,
    memory: memoryGb === null ? (found?.memory ?? null) : memoryGb * 1e9,
  };
}

/** Measured in the same run; filled by the first benches. */
export interface Yardsticks {
  /** Bytes per second, read and written, of the platform's own buffer copy. */
  copyBytes: number | null;
  /** FLOP/s of the square product, by precision. */
  gemmFlops: number | null;
}
