/** Compiles what models need of a device's kernels before they are used, with progress. */
import type { Device, Dtype, ModelShapes } from "../device/device.ts";
import { Progress } from "../log/progress.ts";
import type { Model } from "./open-model.ts";

export interface Prepared {
  /** Named beside the progress. */
  readonly name: string;
  readonly model: Model;
  readonly trains: ModelShapes["trains"];
}

/** Returns at once on devices that have nothing to compile. @throws DeviceError when a kernel does not compile. */
export async function prepareDevice(device: Device, models: readonly Prepared[], cache: Dtype): Promise<void> {
  if (device.prepare === undefined) return;
  for (const { name, model, trains } of models) {
    const { config, dtype } = model.decoder;
    let progress: Progress | null = null;
    await device.prepare({ ...config, weights: dtype, cache, trains, loraRank: 0 }, (done, total) => {
      progress ??= new Progress({ label: `compiling kernels for the ${name}`, total, unit: "kernels", plainInterval: 2000 });
      progress.update(done);
    });
    // Assigned in the callback, which the compiler does not see.
    (progress as Progress | null)?.finish();
  }
}
