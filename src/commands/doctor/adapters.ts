/** An adapter in words: features, limits, and which tiers of kernels it gets and why not the others. */
import { tiersOf } from "../../device/facts.ts";
import type { FoundAdapter } from "../../device/probe.ts";
import { formatBytes } from "../../util/bytes.ts";

/** The first is the adapter itself, the others say more of it. */
export function adapterLines(adapter: FoundAdapter): string[] {
  const { fullName, backend, count, driver, vendor, architecture, software, features, matrices, subgroupMinSize, subgroupMaxSize } =
    adapter;
  const limit = (name: string): number => adapter.limits[name] ?? 0;
  const sizes = subgroupMinSize === subgroupMaxSize ? String(subgroupMinSize) : `${subgroupMinSize} to ${subgroupMaxSize}`;
  const kinds = matrices.map(
    ({ M, N, K, componentType, resultComponentType }) => `${M}x${N}x${K} ${componentType} -> ${resultComponentType}`,
  );
  const reports = tiersOf(adapter);
  return [
    `${fullName}${count > 1 ? `, ${count} of them` : ""} (${software ? "software" : "hardware"}, ${backend})`,
    `driver    ${driver || "unknown"}; ${[vendor, architecture].filter((part) => part !== "").join(" ") || "maker unknown"}`,
    `features  ${features.filter((name) => /^(shader-f16|subgroups|timestamp-query|subgroup-size-control|chromium-experimental-subgroup)/.test(name)).join(", ") || "none of those used"}`,
    `limits    binding ${formatBytes(limit("maxStorageBufferBindingSize"))}, buffer ${formatBytes(limit("maxBufferSize"))}, workgroup ${formatBytes(limit("maxComputeWorkgroupStorageSize"))} and ${limit("maxComputeInvocationsPerWorkgroup")} invocations, ${limit("maxStorageBuffersPerShaderStage")} storage buffers`,
    `subgroups ${subgroupMaxSize === 0 ? "unknown size" : `of ${sizes}`}; matrices: ${kinds.join(", ") || "none"}`,
    `kernels   ${["f32", ...reports.flatMap(({ used }) => used ?? [])].join(", ")}`,
    ...reports.flatMap(({ tier, why }) => (why === null ? [] : [`          not ${tier}: ${why}`])),
  ];
}
