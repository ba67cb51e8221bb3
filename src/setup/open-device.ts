/** The device that the configuration asks for. */
import type { Config } from "../config/index.ts";
import { createDevice } from "../device/create.ts";
import type { Device } from "../device/device.ts";
import { DeviceError } from "../util/errors.ts";

/**
 * `auto` takes the CPU, the one device of this build.
 * @throws DeviceError when the device cannot be had.
 */
export async function openDevice({ kind, threads, blas, maxShardMiB }: Config["device"]): Promise<Device> {
  if (kind === "webgpu") {
    throw new DeviceError({
      where: "device.kind",
      what: "this build has no WebGPU device",
      expected: "auto or cpu",
      got: "webgpu",
      hint: "node train.js --device cpu",
    });
  }
  return createDevice({
    blas,
    ...(threads === 0 ? {} : { threads }),
    ...(maxShardMiB === 0 ? {} : { maxShardBytes: maxShardMiB * 2 ** 20 }),
  });
}
