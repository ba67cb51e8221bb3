/** Measuring tiles on the device that options open. */
import { openFastest } from "./create-webgpu.ts";
import type { WebGpuOptions } from "./options.ts";
import { tuneDevice } from "./tune.ts";
import type { TuneOptions, TuningReport } from "./tune-report.ts";

/**
 * Measures which tiles of matrix products are fast on this device, which must have nothing else to do. The report's `tuning` is an option of
 * `createWebGpuDevice`. All tiles give the same bits: it is compared.
 * @throws DeviceError where the device cannot be opened, or products fail on it as they are computed untuned.
 */
export function tuneWebGpuDevice(options: WebGpuOptions, how: TuneOptions): Promise<TuningReport> {
  return tuneDevice(() => openFastest({ ...options, tuning: false }), how);
}
