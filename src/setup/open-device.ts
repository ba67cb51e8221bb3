/** The device that the configuration asks for. What was taken, and why, is the first line of every program. */
import { chooseDevice, type Wish } from "../device/choose.ts";
import { createDevice } from "../device/create.ts";
import { wholeDescription, type Device } from "../device/device.ts";
import { deviceKind, devices, type DeviceName } from "../device/devices.ts";
import { optionsOf, type DeviceKind, type DeviceSettings } from "../device/kind.ts";
import { ZeroSearchError } from "../util/errors.ts";

/** Settings of a device, as far as they are told. */
type Asked = Partial<DeviceSettings & Wish>;

/**
 * Opens it and says `device: <what it is> (<why it was taken>)`. With `auto`, adapters are looked at in another process, so that a
 * broken driver cannot end this one, and a GPU that does not open is said and the CPU taken.
 * @throws DeviceError when what was asked for cannot be had.
 */
export async function openDevice(settings: Asked, say: (line: string) => void = print): Promise<Device> {
  const { device, why } = await open(settings);
  say(`device: ${wholeDescription(device)} (${[why, ...ignored(deviceKind(device.kind), settings)].join("; ")})`);
  return device;
}

async function open(settings: Asked): Promise<{ device: Device; why: string }> {
  const { kind = "auto", adapter: asked = null, backend, memoryGiB = 0 } = settings;
  const { device: taken, adapter, why } = await chooseDevice({ kind, adapter: asked, backend });
  const openKind = (device: DeviceName): Promise<Device> => {
    const limited = memoryGiB !== 0 && deviceKind(device).uses.includes("memoryGiB");
    return createDevice({ ...optionsOf(settings), adapter, device, ...(limited ? { maxMemoryBytes: memoryGiB * 2 ** 30 } : {}) });
  };
  const always = devices[0].name;
  try {
    return { device: await openKind(taken), why };
  } catch (error) {
    if (kind !== "auto" || taken === always || !(error instanceof ZeroSearchError)) throw error;
    const { what } = error.complaint;
    return { device: await openKind(always), why: `auto: ${adapter ?? taken} does not open: ${what}; zerosearch doctor says more` };
  }
}

/** Settings that the device taken has no use for. */
function ignored({ uses }: DeviceKind, { adapter = null, backend = "auto", native, precision, threads = 0, tuning }: Asked): string[] {
  const given = {
    adapter: adapter !== null && "device.adapter",
    backend: backend !== "auto" && "device.backend",
    native: native === "off" && "device.native",
    precision: precision === "f16" && "device.precision=f16",
    threads: threads > 0 && "device.threads",
    tuning: tuning === "off" && "device.tuning",
  };
  const names = Object.entries(given).flatMap(([key, text]) => (text === false || (uses as readonly string[]).includes(key) ? [] : [text]));
  return names.length === 0 ? [] : [`without ${names.join(", ")}`];
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
