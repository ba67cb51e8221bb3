/** The device that the configuration asks for. What was taken, and why, is the first line of every program. */
import type { Config } from "../config/index.ts";
import { chooseAsked, chooseAuto, type Choice } from "../device/choose.ts";
import { createDevice } from "../device/create.ts";
import type { Device } from "../device/device.ts";
import { probeAdapters } from "../device/probe.ts";
import { ZeroSearchError } from "../util/errors.ts";

export type DeviceSettings = Partial<Config["device"]>;

/**
 * Opens it and says `device: <what it is> (<why it was taken>)`. With `auto`, adapters are looked at in another process, so that a
 * broken driver cannot end this one, and a GPU that does not open is said and the CPU taken.
 * @throws DeviceError when what was asked for cannot be had.
 */
export async function openDevice(settings: DeviceSettings, say: (line: string) => void = print): Promise<Device> {
  const { kind = "auto", adapter = null } = settings;
  const { device, why } = await open(chooseAsked({ kind, adapter }) ?? chooseAuto({ adapter }, await probeAdapters()), settings);
  say(`device: ${device.description} (${[why, ...ignored(device, settings)].join("; ")})`);
  return device;
}

async function open(choice: Choice, settings: DeviceSettings): Promise<{ device: Device; why: string }> {
  const { kind, threads = 0, blas, maxShardMiB = 0, precision, memoryGiB = 0 } = settings;
  const shards = maxShardMiB === 0 ? {} : { maxShardBytes: maxShardMiB * 2 ** 20 };
  const most = memoryGiB === 0 ? {} : { maxMemoryBytes: memoryGiB * 2 ** 30 };
  const openCpu = (): Promise<Device> => createDevice({ blas, ...shards, ...(threads === 0 ? {} : { threads }) });
  const { why } = choice;
  if (choice.device === "cpu") return { device: await openCpu(), why };
  try {
    return { device: await createDevice({ device: "webgpu", adapter: choice.adapter, precision, ...shards, ...most }), why };
  } catch (error) {
    if (kind === "webgpu" || !(error instanceof ZeroSearchError)) throw error;
    const { what } = error.complaint;
    return { device: await openCpu(), why: `auto: ${choice.adapter ?? "the GPU"} does not open: ${what}; zerosearch doctor says more` };
  }
}

/** Settings that the device taken has no use for. */
function ignored(device: Device, { adapter, blas, precision, threads }: DeviceSettings): string[] {
  const without = (names: readonly (string | false)[]): string[] => {
    const given = names.filter((name) => name !== false);
    return given.length === 0 ? [] : [`without ${given.join(", ")}`];
  };
  if (device.kind === "webgpu")
    return without([blas === "openblas" && "device.blas", threads !== undefined && threads > 0 && "device.threads"]);
  return without([precision === "f16" && "device.precision=f16", typeof adapter === "string" && "device.adapter"]);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
