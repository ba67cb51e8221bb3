/** Compiling ahead: many pipelines at once, while the program goes on. */
import type { DeviceProgram } from "../device.ts";
import { DryWebGpuDevice, type DryWebGpuOptions } from "./dry-device.ts";
import type { Pipelines, Specialisation } from "./pipelines.ts";

/** Compilations under way at a time: as many as an adapter's compiler has threads, about. */
const together = 8;

/** The pipelines that `program` would use, by key, in the order of first use: where calls are fused, those of both ways. */
export async function collect(options: DryWebGpuOptions, program: DeviceProgram): Promise<ReadonlyMap<string, Specialisation>> {
  const all = new Map<string, Specialisation>();
  for (const fuse of options.fuse === true ? [false, true] : [false]) {
    const device = new DryWebGpuDevice({ ...options, fuse });
    await program(device);
    for (const [key, one] of device.specialisations) all.set(key, one);
  }
  return all;
}

/**
 * Compiles what is not there yet. `onProgress` is told how many are done.
 * @throws DeviceError that quotes the line of the first that does not compile.
 */
export async function prepareAll(
  pipelines: Pick<Pipelines, "has" | "prepare">,
  specialisations: Iterable<Specialisation>,
  onProgress?: (done: number, total: number) => void,
): Promise<void> {
  const waiting = [...specialisations].filter((one) => !pipelines.has(one)).reverse();
  const total = waiting.length;
  let done = 0;
  const work = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      try {
        await pipelines.prepare(next);
      } catch (error) {
        waiting.length = 0;
        throw error;
      }
      done += 1;
      onProgress?.(done, total);
    }
  };
  await Promise.all(Array.from({ length: together }, work));
}
