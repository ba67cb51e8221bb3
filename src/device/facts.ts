/** What the devices of this machine could do, without opening one. */
import { compileKernels, loadKernelsFromDist } from "./cpu/module.ts";
import type { SimdBuild } from "./cpu/options.ts";
import type { FoundAdapter } from "./probe.ts";
import { capabilitiesOf, tierReasons } from "./webgpu/adapter.ts";
import { tiers, tiersUsed, type Tier } from "./webgpu/capabilities.ts";

/** The build of the CPU's kernels that this runtime takes; null where it takes none, or none is built. */
export async function cpuBuild(): Promise<SimdBuild | null> {
  try {
    return (await compileKernels(loadKernelsFromDist, "auto")).build;
  } catch {
    return null;
  }
}

/** One tier of kernels on one adapter. */
export interface TierReport {
  readonly tier: Tier;
  /** What of it is used; null where it is not. */
  readonly used: string | null;
  /** Why it is not used. */
  readonly why: string | null;
}

/** Before the self-test, which can switch a tier off. */
export function tiersOf(adapter: FoundAdapter): TierReport[] {
  const used = tiersUsed(capabilitiesOf(adapter, new Set()));
  const reasons = tierReasons(adapter, new Map());
  return tiers.map((tier) => {
    const words = used.get(tier);
    if (words === undefined) return { tier, used: null, why: reasons.get(tier) ?? null };
    return { tier, used: tier === "subgroup-matrix" ? `${words}, f16 x f16 -> f32` : words, why: null };
  });
}
