/** How long a device takes for a matrix product: what decides between tiers that all compute right. */
import type { Device, Storage } from "../device.ts";
import { arrayTypes } from "../host-rows.ts";
import type { Capabilities } from "./capabilities.ts";
import { collect } from "./prepare.ts";
import type { WebGpuDevice } from "./webgpu-device.ts";

/** 8.6 GFLOP: a tenth of a millisecond on the fastest GPUs, tens of them on those inside of processors. */
const [M, N, K] = [1024, 1024, 4096];
/** Products of one measurement; the best of several counts. */
const products = 4;
const measurements = 3;

/** Storages of the product, and what asks for it. */
function productOn(device: Device, precision: "f32" | "f16"): { readonly storages: readonly Storage[]; readonly run: () => void } {
  const x = device.allocate(M, K, "f32", "activation", "timed a");
  const weight = device.allocate(N, K, precision, "parameter", "timed b");
  const y = device.allocate(M, N, "f32", "activation", "timed product");
  const run = (): void => {
    device.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [x, weight, null], [y]);
  };
  return { storages: [x, weight, y], run };
}

/** Names the pipelines that are timed with these capabilities: where they are the same, so is the time. */
export async function timedPipelines(capabilities: Capabilities, precision: "f32" | "f16"): Promise<string> {
  const pipelines = await collect({ capabilities, precision }, (device) => {
    productOn(device, precision).run();
  });
  return [...pipelines.keys()].sort().join("\n");
}

/** Seconds of one product in the device's precision. */
export async function productSeconds(device: WebGpuDevice): Promise<number> {
  const { storages, run } = productOn(device, device.precision);
  // zeros: what lies in new memory may be slow numbers
  for (const storage of storages) device.write(storage, new arrayTypes[storage.dtype](storage.rows * storage.cols));
  run();
  await device.synchronize();
  let best = Infinity;
  for (let i = 0; i < measurements; i++) {
    const start = performance.now();
    for (let n = 0; n < products; n++) run();
    await device.synchronize();
    best = Math.min(best, (performance.now() - start) / 1000 / products);
  }
  for (const storage of storages) device.release(storage);
  return best;
}
