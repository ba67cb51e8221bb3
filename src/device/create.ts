/** One door to all devices. */
import type { Device } from "./device.ts";
import { deviceKind } from "./devices.ts";
import type { DeviceOptions } from "./options.ts";

/** @throws DeviceError if there is no such device, or it cannot be had. */
export async function createDevice(options: DeviceOptions = {}): Promise<Device> {
  return deviceKind(options.device ?? "cpu").open(options);
}
