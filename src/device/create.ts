/** One door to all devices. */
import { DeviceError } from "../util/errors.ts";
import { createCpuDevice, type CpuDeviceOptions } from "./cpu/cpu-device.ts";
import { dawn, loadWgsl, type DawnOptions } from "./dawn.ts";
import type { Device } from "./device.ts";
import { createWebGpuDevice, type WebGpuOptions } from "./webgpu/create-webgpu.ts";

/** Options of one device are ignored by the others. */
export interface DeviceOptions extends CpuDeviceOptions, Partial<WebGpuOptions>, DawnOptions {
  /** cpu unless told. */
  readonly device?: "cpu" | "webgpu" | undefined;
}

/** @throws DeviceError if there is no such device, or it cannot be had. */
export async function createDevice(options: DeviceOptions = {}): Promise<Device> {
  const { device = "cpu" } = options;
  if (device === "cpu") return createCpuDevice(options);
  if (device === "webgpu") {
    const { gpu = await dawn(options), sources = await loadWgsl() } = options;
    return createWebGpuDevice({ ...options, gpu, sources });
  }
  throw new DeviceError({ where: "createDevice", what: "there is no such device", expected: "cpu or webgpu", got: String(device) });
}
