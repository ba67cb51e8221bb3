/**
 * A WebGPU device for benches: the one that users get, with the GPUDevice under it in reach, on any tier; or a hollow one, on which
 * everything is recorded and submitted as ever, but buffers hold next to nothing and kernels do nothing: what remains is the host's time.
 */
import { dawn } from "#inside/device/dawn.js";
import type { DawnOptions } from "#inside/device/options.js";
import { createDevice, type Device, type DeviceOptions } from "zerosearch";
import type { Counts } from "../bench.js";

/** What the WebGPU device shows besides `Device`. */
export interface GpuDevice extends Device {
  readonly counts: Counts;
  readonly capabilities: {
    readonly subgroupSize: number;
    readonly f16: boolean;
    readonly matrix: { readonly M: number; readonly N: number; readonly K: number } | null;
    readonly maxBinding: number;
    readonly software: boolean;
  };
}

export interface AdapterInfo {
  readonly name: string;
  readonly driver: string;
  readonly software: boolean;
  readonly f16: boolean;
  readonly subgroupMatrices: readonly string[];
}

export interface OpenGpu {
  readonly device: GpuDevice;
  readonly raw: GPUDevice;
  readonly adapter: AdapterInfo;
}

export interface GpuOptions {
  readonly precision: "f32" | "f16";
  readonly tiersOff?: DeviceOptions["tiersOff"];
  readonly backend?: DawnOptions["backend"] | null;
  readonly adapter?: string | null | undefined;
  /** `as`: what the hollow adapter says it is; unset, what it is. */
  readonly hollow?: { readonly as?: "nvidia" };
}

function entry(backend: GpuOptions["backend"], adapter: GpuOptions["adapter"]): Promise<GPU> {
  return dawn({ backend: backend ?? undefined, adapter: adapter ?? undefined });
}

function infoOf(adapter: GPUAdapter): AdapterInfo {
  const info = adapter.info as GPUAdapterInfo & {
    readonly isFallbackAdapter?: boolean;
    readonly subgroupMatrixConfigs?: Iterable<{
      readonly M: number;
      readonly N: number;
      readonly K: number;
      readonly componentType: string;
      readonly resultComponentType: string;
    }>;
  };
  return {
    name: info.device.replace(/-+$/, "") || info.description || info.vendor || "unnamed adapter",
    driver: info.description,
    software: info.isFallbackAdapter || info.architecture === "software" || /swiftshader|llvmpipe|null-backend/i.test(info.device),
    f16: adapter.features.has("shader-f16"),
    subgroupMatrices: Array.from(
      info.subgroupMatrixConfigs ?? [],
      ({ M, N, K, componentType, resultComponentType }) => `${M}x${N}x${K} ${componentType} -> ${resultComponentType}`,
    ),
  };
}

/** The adapter that `openGpu` would take; null without any. */
export async function findAdapter(options: Pick<GpuOptions, "backend" | "adapter" | "hollow">): Promise<AdapterInfo | null> {
  const adapter = await (await entry(options.backend, options.adapter)).requestAdapter({ powerPreference: "high-performance" });
  if (adapter !== null && options.hollow?.as === "nvidia") pretend(adapter);
  return adapter === null ? null : infoOf(adapter);
}

/** @throws DeviceError, as `createDevice` does. */
export async function openGpu({ precision, tiersOff, backend, adapter, hollow }: GpuOptions): Promise<OpenGpu> {
  const gpu = await entry(backend, adapter);
  let raw: GPUDevice | null = null;
  let facts: AdapterInfo | null = null;
  const seen = {
    requestAdapter: async (options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> => {
      const found = await gpu.requestAdapter(options);
      if (found === null) return null;
      const request = found.requestDevice;
      if (hollow?.as === "nvidia") pretend(found);
      facts = infoOf(found);
      // What is pretended cannot be asked for.
      found.requestDevice = async (descriptor?: GPUDeviceDescriptor) => {
        raw = await request.call(found, hollow?.as === undefined ? descriptor : {});
        if (hollow !== undefined) hollowOut(raw);
        return raw;
      };
      return found;
    },
  } as unknown as GPU;
  // What computes nothing fails every test of itself, and software takes minutes to compile what only tests use.
  const known = await findAdapter({ backend, adapter });
  const quiet = hollow !== undefined || known?.software === true ? { selfTest: false, precompile: false } : {};
  const device = await createDevice({ device: "webgpu", gpu: seen, precision, tiersOff, ...quiet });
  return { device: device as GpuDevice, raw: raw!, adapter: facts! };
}

/** An NVIDIA GPU of today, as far as the choice of kernels goes. */
function pretend(adapter: GPUAdapter): void {
  const matrices = [{ M: 16, N: 16, K: 16, componentType: "f16", resultComponentType: "f32" }];
  const override = (name: keyof GPUAdapter, value: unknown): unknown => Object.defineProperty(adapter, name, { value });
  override("info", {
    vendor: "nvidia",
    architecture: "hopper",
    device: "hollow NVIDIA H200",
    description: "nothing is computed",
    subgroupMinSize: 32,
    subgroupMaxSize: 32,
    subgroupMatrixConfigs: matrices,
  });
  override("features", new Set(["shader-f16", "subgroups", "timestamp-query", "chromium-experimental-subgroup-matrix"]));
  override("limits", {
    maxBufferSize: 2 ** 31,
    maxStorageBufferBindingSize: 2 ** 31 - 4,
    maxComputeWorkgroupStorageSize: 48 * 1024,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxComputeWorkgroupSizeX: 1024,
    maxStorageBuffersPerShaderStage: 16,
  });
}

const hollowBytes = 4096;
/** Storage buffers of a kernel that every adapter has. */
const leastBuffers = 8;
const uniformUse = 64;
const storageUse = 128;

/** Kernels do nothing, storage buffers have 4 KiB whatever was asked, and copies and writes touch no more. */
function hollowOut(device: GPUDevice): void {
  const { createBuffer, createBindGroup, createBindGroupLayout, createShaderModule, createCommandEncoder, queue } = device;
  const small = new WeakSet<GPUBuffer>();
  device.createBuffer = (descriptor) => {
    const shrinks = (descriptor.usage & storageUse) !== 0 && (descriptor.usage & uniformUse) === 0 && descriptor.size > hollowBytes;
    const buffer = createBuffer.call(device, shrinks ? { ...descriptor, size: hollowBytes } : descriptor);
    if (shrinks) small.add(buffer);
    return buffer;
  };
  // Dawn's null backend has eight storage buffers a kernel: what is beyond is not bound.
  const bound = new WeakMap<GPUBindGroupLayout, ReadonlySet<number>>();
  device.createBindGroupLayout = (descriptor) => {
    const all = Array.from(descriptor.entries);
    const storages = all.filter(({ buffer }) => buffer !== undefined && buffer.type !== "uniform");
    const entries = all.filter((one) => !storages.slice(leastBuffers).includes(one));
    const layout = createBindGroupLayout.call(device, { ...descriptor, entries });
    bound.set(layout, new Set(entries.map(({ binding }) => binding)));
    return layout;
  };
  device.createBindGroup = (descriptor) =>
    createBindGroup.call(device, {
      ...descriptor,
      entries: Array.from(descriptor.entries)
        .filter(({ binding }) => bound.get(descriptor.layout)?.has(binding) ?? true)
        .map((one) => {
          const resource = one.resource as GPUBufferBinding;
          return small.has(resource.buffer) ? { binding: one.binding, resource: { buffer: resource.buffer } } : one;
        }),
    });
  device.createShaderModule = (descriptor) => {
    const names = [...descriptor.code.matchAll(/@compute[^{]*?\bfn\s+(\w+)\s*\(/g)].map(([, name]) => name ?? "main");
    const code = names.map((name) => `@compute @workgroup_size(1) fn ${name}() {}`).join("\n");
    return createShaderModule.call(device, { ...descriptor, code });
  };
  const { writeBuffer } = queue;
  Object.defineProperty(device, "queue", { value: queue });
  queue.writeBuffer = (buffer: GPUBuffer, at: number, data: GPUAllowSharedBufferSource, from?: number, size?: number) => {
    if (!small.has(buffer)) writeBuffer.call(queue, buffer, at, data, from, size);
    else {
      const bytes = ArrayBuffer.isView(data)
        ? new Uint8Array(data.buffer, data.byteOffset, Math.min(data.byteLength, hollowBytes))
        : new Uint8Array(data, 0, Math.min(data.byteLength, hollowBytes));
      writeBuffer.call(queue, buffer, 0, bytes);
    }
  };
  device.createCommandEncoder = (descriptor) => {
    const encoder = createCommandEncoder.call(device, descriptor);
    const copy = encoder.copyBufferToBuffer as (a: GPUBuffer, aAt: number, b: GPUBuffer, bAt: number, bytes: number) => undefined;
    encoder.copyBufferToBuffer = ((a: GPUBuffer, aAt: number, b: GPUBuffer, bAt: number, bytes: number) => {
      const end = Math.min(small.has(a) ? hollowBytes : Infinity, small.has(b) ? hollowBytes : Infinity, bytes);
      copy.call(encoder, a, small.has(a) ? 0 : aAt, b, small.has(b) ? 0 : bAt, end);
    }) as GPUCommandEncoder["copyBufferToBuffer"];
    return encoder;
  };
}
