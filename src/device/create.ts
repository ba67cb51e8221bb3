/** One door to all devices. */
import type { Device } from "./device.ts";
import { deviceKind, type DeviceName } from "./devices.ts";
import type { DeviceOptions as AllOptions } from "./kind.ts";

/** Options of one device are ignored by the others. */
export interface DeviceOptions extends AllOptions {
  /** cpu unless told. */
  readonly device?: DeviceName | undefined;
}

/** @throws DeviceError if there is no such device, or it cannot be had. */
export async function createDevice({ device = "cpu", ...options }: DeviceOptions = {}): Promise<Device> {
  return deviceKind(device).open(options);
}
