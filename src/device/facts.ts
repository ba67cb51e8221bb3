/** What the devices of this machine could do, without opening one. */
import { compileKernels, loadKernelsFromDist } from "./cpu/module.ts";
import type { SimdBuild } from "./cpu/options.ts";
import type { FoundAdapter } from "./probe.ts";
import { capabilitiesOf, tierReasons } from "./webgpu/adapter.ts";
import { tiers, type Tier } from "./webgpu/capabilities.ts";

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
  const { subgroupSize, f16, matrix } = capabilitiesOf(adapter, new Set());
  const reasons = tierReasons(adapter, new Map());
  const used: Readonly<Record<Tier, string | null>> = {
    subgroups: subgroupSize > 0 ? `subgroups of ${subgroupSize}` : null,
    "shader-f16": f16 ? "shader-f16" : null,
    "subgroup-matrix": matrix === null ? null : `subgroup matrices ${matrix.M}x${matrix.N}x${matrix.K}, f16 x f16 -> f32`,
  };
  return tiers.map((tier) => ({ tier, used: used[tier], why: used[tier] === null ? (reasons.get(tier) ?? null) : null }));
}
