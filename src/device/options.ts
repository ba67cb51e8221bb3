/** What devices may be told. Their public types: they name nothing of a device's inside. */
import type { CpuDeviceOptions } from "./cpu/options.ts";
import type { WebGpuOptions } from "./webgpu/options.ts";

/** Every device of the table by name, and the settings that it makes use of, among those that not all do. No device is loaded here. */
export const deviceUses = { cpu: ["native", "threads"], webgpu: ["adapter", "backend", "memoryGiB", "precision", "tuning"] } as const;
export type DeviceName = keyof typeof deviceUses;
export const deviceNames = Object.keys(deviceUses) as [DeviceName, ...DeviceName[]];

/** Ways to a GPU that Dawn knows. */
export type Backend = Exclude<NonNullable<DawnOptions["backend"]>, "null">;
export const backends = ["vulkan", "metal", "d3d12", "d3d11", "opengl", "opengles"] as const satisfies readonly Backend[];

export interface DawnOptions {
  /** `null` compiles and runs nothing; unset, the platform's own. */
  readonly backend?: "null" | "vulkan" | "metal" | "d3d12" | "d3d11" | "opengl" | "opengles" | undefined;
  /** Part of an adapter's name, where there are several; the first that contains it is taken. Identical GPUs cannot be told apart. */
  readonly adapter?: string | undefined;
  /**
   * Leaves Dawn's own bounds checks in every kernel, as browsers do: slower, and a kernel that goes astray reads and writes inside its
   * buffers only. Default false: the kernels check their own bounds.
   */
  readonly robust?: boolean | undefined;
  /** Lets what Dawn and the drivers that it tries say on stderr be heard; nothing of it is unless given. */
  readonly noise?: boolean | undefined;
}

/** Options of all devices; those of one are ignored by the others. */
export interface DeviceOptions extends CpuDeviceOptions, Partial<WebGpuOptions>, DawnOptions {
  /** cpu unless told. */
  readonly device?: DeviceName | undefined;
}
