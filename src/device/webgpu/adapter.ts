/** From a GPU entry point (a browser's, or Dawn's) to an adapter, its capabilities and a device. */
import { DeviceError } from "../../util/errors.ts";
import type { Capabilities, MatrixShape, Tier } from "./capabilities.ts";
import { matrixFits } from "./kernels/matmul-tiles.ts";
import { defaultTuning } from "./tuning.ts";

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
const sizeFeature = "subgroup-size-control";
/** With it, shaders can ask that sums are not reordered. */
const strictFeature = "shader-module-compilation-options";

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

/** A way to compute by subgroup matrices. */
export interface MatrixChoice {
  readonly shape: MatrixShape;
  readonly subgroupSize: number;
}

export function matrixName({ shape, subgroupSize }: MatrixChoice): string {
  return `${shape.M}x${shape.N}x${shape.K} in subgroups of ${subgroupSize}`;
}

/** Sizes of subgroups that a kernel can count on, the likeliest to be fast first. */
function subgroupSizes({ features, subgroupMinSize: least, subgroupMaxSize: most }: AdapterFacts): readonly number[] {
  if (!features.includes("subgroups") || most === 0) return [];
  if (least === most) return [most];
  return features.includes(sizeFeature) ? [32, 16, 64, 8, 128, 4].filter((size) => size >= least && size <= most) : [];
}

/**
 * Every way in which the adapter says it has them and tiles can be cut, larger shapes first: which of them computes right, and fast, a device
 * finds out. Sums are f32: matrices that sum in f16 lose what training adds up, and those of f32 operands (Metal's 8x8x8) have no kernel.
 */
export function matrixChoices(facts: AdapterFacts): readonly MatrixChoice[] {
  const shapes = facts.matrices
    .filter(({ componentType, resultComponentType }) => componentType === "f16" && resultComponentType === "f32")
    .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  const each = new Map(shapes.map(({ M, N, K }) => [`${M} ${N} ${K}`, { M, N, K }]));
  return [...each.values()].flatMap(({ M, N, K }) =>
    subgroupSizes(facts)
      .map((subgroupSize) => ({ shape: { M, N, K }, subgroupSize }))
      .filter((choice) => matrixFits(capabilitiesOf(facts, new Set(), choice))),
  );
}

/**
 * What the kernels may use of an adapter.
 * @param off tiers that were switched off
 * @param choice the matrices to use: the first of `matrixChoices` unless told
 */
export function capabilitiesOf(
  facts: AdapterFacts,
  off: ReadonlySet<Tier>,
  choice: MatrixChoice | undefined = matrixChoices(facts)[0],
): Capabilities {
  const { limits } = facts;
  const has = (feature: string): boolean => facts.features.includes(feature);
  const [size = 0] = subgroupSizes(facts);
  const subgroups = !off.has("subgroups") && size > 0;
  const f16 = !off.has("shader-f16") && has("shader-f16");
  // Workgroups of matrix kernels are laid out by a fixed size of subgroups.
  const matrix = !off.has("subgroup-matrix") && f16 && subgroups && has(matrixFeature) ? (choice?.shape ?? null) : null;
  return {
    subgroupSize: subgroups ? (choice?.subgroupSize ?? size) : 0,
    subgroupSizeControl: subgroups && facts.subgroupMinSize !== facts.subgroupMaxSize,
    f16,
    matrix,
    maxBinding: Math.floor((limits["maxStorageBufferBindingSize"] ?? 0) / 16) * 16,
    maxBuffer: Math.floor((limits["maxBufferSize"] ?? 0) / 256) * 256,
    maxWorkgroupMemory: limits["maxComputeWorkgroupStorageSize"] ?? 16384,
    maxInvocations: limits["maxComputeInvocationsPerWorkgroup"] ?? 256,
    maxStorageBuffers: limits["maxStorageBuffersPerShaderStage"] ?? 8,
    software: facts.software,
    tuning: defaultTuning,
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
  else if (subgroupSizes(facts).length === 0)
    say("subgroups", `the size of subgroups varies, ${facts.subgroupMinSize} to ${facts.subgroupMaxSize}`);
  if (!has("shader-f16"))
    say("shader-f16", facts.vendor === "nvidia" ? "the driver hides it: see zerosearch doctor" : "the adapter has no shader-f16");
  if (!has(matrixFeature)) say("subgroup-matrix", "the adapter has no subgroup matrices");
  else if (reasons.has("shader-f16") || reasons.has("subgroups")) say("subgroup-matrix", "it needs shader-f16 and subgroups");
  else if (matrixChoices(facts).length === 0) say("subgroup-matrix", "no shape f16 x f16 -> f32 that fits");
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
  const requiredFeatures = ["shader-f16", "subgroups", "timestamp-query", matrixFeature, sizeFeature, strictFeature].filter((name) =>
    facts.features.includes(name),
  );
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
