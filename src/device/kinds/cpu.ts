/** The CPU in the table of devices: always there. */
import { availableParallelism, cpus } from "node:os";
import { createCpuDevice, createDryCpuDevice } from "../cpu/cpu-device.ts";
import { loadKernelsFromDist } from "../cpu/module.ts";
import { nativeFor, vectorsOf } from "../cpu/native/executable.ts";
import type { Machine, Memory } from "../gpu-memory.ts";
import { cpuRateKey, optionsOf, type DeviceKind } from "../kind.ts";
import { deviceUses } from "../options.ts";

/** What WebAssembly can address. */
const four = 2 ** 32;

function memoryOf({ memory: bytes }: Machine): Memory {
  return bytes < four ? { bytes, source: "this machine's memory" } : { bytes: four, source: "WebAssembly's addresses" };
}

export const cpu = {
  name: "cpu",
  uses: deviceUses.cpu,
  probe: () => Promise.resolve({ takes: true, why: "" }),
  open: createCpuDevice,

  dry: async (settings, machine) => {
    const { threads } = settings;
    const count = threads === 0 ? availableParallelism() : threads;
    const memory = memoryOf(machine);
    return {
      kind: "cpu",
      title: "the CPU device",
      place: "memory",
      name: `the CPU, ${count} thread${count === 1 ? "" : "s"}`,
      notes: [],
      rateKey: cpuRateKey(cpus()[0]?.model ?? "unknown processor", count, vectorsOf(nativeFor(settings.native))),
      memory,
      kept: 0,
      exact: true,
      larger: "A GPU has no such limit: --device webgpu device.memoryGiB=N --dry-run plans for one, here or not.",
      open: (observer) => createDryCpuDevice({ ...optionsOf(settings), maxMemoryBytes: memory.bytes }, observer),
    };
  },

  code: async () => Buffer.concat(await Promise.all(["zerosearch.wasm", "zerosearch.relaxed.wasm"].map(loadKernelsFromDist))),
} as const satisfies DeviceKind;
