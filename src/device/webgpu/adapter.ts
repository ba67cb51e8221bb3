/** From a GPU entry point (a browser's, or Dawn's) to an adapter, its capabilities and a device. */
import { DeviceError } from "../../util/errors.ts";
import type { Capabilities, MatrixShape, Tier } from "./capabilities.ts";

/** Facts of an adapter for people. */
export interface AdapterFacts {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** Driver and its version, as far as the platform tells. */
  readonly driver: string;
  readonly software: boolean;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  /** Shapes of subgroup matrices, all types. */
  readonly matrices: readonly MatrixConfig[];
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
}

/** One shape of subgroup matrices: an experiment of Dawn's, not in the specification yet. */
export interface MatrixConfig extends MatrixShape {
  readonly componentType: string;
  readonly resultComponentType: string;
}

const matrixFeature = "chromium-experimental-subgroup-matrix";

interface MoreInfo {
  readonly subgroupMatrixConfigs?: Iterable<MatrixConfig>;
  readonly isFallbackAdapter?: boolean;
}

export function factsOf(adapter: GPUAdapter): AdapterFacts {
  const info = adapter.info as GPUAdapterInfo & MoreInfo;
  const limits: Record<string, number> = {};
  // The limits are getters of the prototype.
  for (const name in adapter.limits) {
    const value: unknown = (adapter.limits as unknown as Record<string, unknown>)[name];
    if (typeof value === "number" || typeof value === "bigint") limits[name] = Number(value);
  }
  const software = info.isFallbackAdapter || info.architecture === "software" || /swiftshader|llvmpipe|null-backend/i.test(info.device);
  return {
    name: nameOf(info),
    vendor: info.vendor,
    architecture: info.architecture,
    driver: info.description,
    software,
    features: [...adapter.features].map(String).sort(),
    limits,
    matrices: Array.from(info.subgroupMatrixConfigs ?? [], ({ M, N, K, componentType, resultComponentType }) => {
      return { M, N, K, componentType, resultComponentType };
    }),
    subgroupMinSize: info.subgroupMinSize ?? 0,
    subgroupMaxSize: info.subgroupMaxSize ?? 0,
  };
}

function nameOf({ device, description, vendor }: GPUAdapterInfo): string {
  return device.replace(/-+$/, "") || description || vendor || "unnamed adapter";
}

/** The shape for f16 x f16 -> f32: the largest that the adapter has. */
function matrixShape(facts: AdapterFacts): MatrixShape | null {
  const fitting = facts.matrices
    .filter(({ componentType, resultComponentType }) => componentType === "f16" && resultComponentType === "f32")
    .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  const [best] = fitting;
  return best === undefined ? null : { M: best.M, N: best.N, K: best.K };
}

/** What the kernels may use of an adapter; `off` are the tiers that were switched off. */
export function capabilitiesOf(facts: AdapterFacts, off: ReadonlySet<Tier>): Capabilities {
  const { limits } = facts;
  const has = (feature: string): boolean => facts.features.includes(feature);
  const subgroups = !off.has("subgroups") && has("subgroups") && facts.subgroupMinSize === facts.subgroupMaxSize;
  const f16 = !off.has("shader-f16") && has("shader-f16");
  // Workgroups of matrix kernels are laid out by a fixed size of subgroups.
  const matrix = !off.has("subgroup-matrix") && f16 && subgroups && has(matrixFeature) ? matrixShape(facts) : null;
  return {
    subgroupSize: subgroups ? facts.subgroupMaxSize : 0,
    f16,
    matrix,
    maxBinding: Math.floor((limits["maxStorageBufferBindingSize"] ?? 0) / 16) * 16,
    maxBuffer: Math.floor((limits["maxBufferSize"] ?? 0) / 256) * 256,
    maxWorkgroupMemory: limits["maxComputeWorkgroupStorageSize"] ?? 16384,
    maxInvocations: limits["maxComputeInvocationsPerWorkgroup"] ?? 256,
    maxStorageBuffers: limits["maxStorageBuffersPerShaderStage"] ?? 8,
    software: facts.software,
  };
}

/** Why a tier is off, for those that are; `failed` are those that did not compute what they should. */
export function tierReasons(facts: AdapterFacts, off: ReadonlyMap<Tier, string>): ReadonlyMap<Tier, string> {
  const reasons = new Map<Tier, string>(off);
  const say = (tier: Tier, reason: string): void => {
    if (!reasons.has(tier)) reasons.set(tier, reason);
  };
  const has = (feature: string): boolean => facts.features.includes(feature);
  if (!has("subgroups")) say("subgroups", "the adapter has no subgroups");
  else if (facts.subgroupMinSize !== facts.subgroupMaxSize)
    say("subgroups", `the size of subgroups varies, ${facts.subgroupMinSize} to ${facts.subgroupMaxSize}`);
  if (!has("shader-f16"))
    say("shader-f16", facts.vendor === "nvidia" ? "the driver hides it: see zerosearch doctor" : "the adapter has no shader-f16");
  if (!has(matrixFeature)) say("subgroup-matrix", "the adapter has no subgroup matrices");
  else if (matrixShape(facts) === null) say("subgroup-matrix", "no shape f16 x f16 -> f32");
  else if (reasons.has("shader-f16") || reasons.has("subgroups")) say("subgroup-matrix", "it needs shader-f16 and subgroups");
  return reasons;
}

const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxStorageBuffersPerShaderStage",
];

/** @throws DeviceError if the adapter gives no device. */
export async function requestDevice(adapter: GPUAdapter, facts: AdapterFacts): Promise<GPUDevice> {
  const requiredFeatures = ["shader-f16", "subgroups", "timestamp-query", matrixFeature].filter((name) => facts.features.includes(name));
  const requiredLimits: Record<string, number> = {};
  for (const name of wantedLimits) if (facts.limits[name] !== undefined) requiredLimits[name] = facts.limits[name];
  try {
    return await adapter.requestDevice({ requiredFeatures: requiredFeatures as GPUFeatureName[], requiredLimits });
  } catch (cause) {
    throw new DeviceError(
      { where: "webgpu device", what: `${facts.name} gives no device: ${cause instanceof Error ? cause.message : String(cause)}` },
      { cause },
    );
  }
}
