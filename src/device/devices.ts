/** The table of devices: the rest of the house knows of a kind its name only. A new one is a name in `options.ts`, an entry here, and a folder of its own. */
import { DeviceError } from "../util/errors.ts";
import type { DeviceKind } from "./kind.ts";
import { cpu } from "./kinds/cpu.ts";
import { webgpu } from "./kinds/webgpu.ts";
import { deviceNames, type DeviceName } from "./options.ts";

export { deviceNames, type DeviceName };

const table: { readonly [N in DeviceName]: DeviceKind & { readonly name: N } } = { cpu, webgpu };

/** The first is always there; `auto` asks the others from the last on. */
export const devices: readonly [DeviceEntry, ...DeviceEntry[]] = [table.cpu, table.webgpu];

interface DeviceEntry extends DeviceKind {
  readonly name: DeviceName;
}

/** @throws DeviceError for a name that is none */
export function deviceKind(name: string): DeviceKind {
  const found = devices.find((kind) => kind.name === name);
  if (found !== undefined) return found;
  throw new DeviceError({ where: "device", what: "there is no such device", expected: deviceNames.join(" or "), got: name });
}
