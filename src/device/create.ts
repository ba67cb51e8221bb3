/** One door to all devices. */
import { DeviceError } from "../util/errors.ts";
import { createCpuDevice, type CpuDeviceOptions } from "./cpu/cpu-device.ts";
import type { Device } from "./device.ts";

export interface DeviceOptions extends CpuDeviceOptions {
  readonly device?: "cpu" | undefined;
}

/** @throws DeviceError if there is no such device, or it cannot be had. */
export async function createDevice(options: DeviceOptions = {}): Promise<Device> {
  const { device = "cpu", ...rest } = options;
  if (device === "cpu") return createCpuDevice(rest);
  throw new DeviceError({ where: "createDevice", what: "there is no such device", expected: "cpu", got: String(device) });
}
