/** The door to the WebGPU device for whoever brings a `GPU`. */
import type { Device } from "../device.ts";
import { openFastest } from "./create-webgpu.ts";
import type { WebGpuOptions } from "./options.ts";

/** @throws DeviceError if there is no adapter, it gives no device, or kernels that need no tier do not compute what they should. */
export function createWebGpuDevice(options: WebGpuOptions): Promise<Device> {
  return openFastest(options);
}
