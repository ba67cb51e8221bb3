/** Which device a program takes, and why; and which one a plan is made for. */
import type { Device } from "./device.ts";
import { deviceKind, devices, type DeviceName } from "./devices.ts";
import { thisMachine, type Machine } from "./gpu-memory.ts";
import type { DeviceSettings, Target } from "./kind.ts";

export interface Wish {
  readonly kind: DeviceName | "auto";
  /** Part of an adapter's name; null takes any. */
  readonly adapter: string | null;
  /** The way to a GPU; any unless told. */
  readonly backend?: DeviceSettings["backend"] | undefined;
}

export interface Choice {
  readonly device: DeviceName;
  /** Part of a name; undefined takes the first. */
  readonly adapter?: string | undefined;
  readonly why: string;
}

/** What was asked for is taken as it is, without a look at the machine; `auto` takes the first device that is worth it here. */
export async function chooseDevice({ kind, adapter, backend = "auto" }: Wish, machine: Machine = thisMachine): Promise<Choice> {
  if (kind !== "auto") {
    const { uses } = deviceKind(kind);
    const through = backend !== "auto" && uses.includes("backend") ? ` through ${backend}` : "";
    const named = adapter !== null && uses.includes("adapter");
    return named
      ? { device: kind, adapter, why: `as asked, adapter ${adapter}${through}` }
      : { device: kind, why: `as asked${through === "" ? "" : `,${through}`}` };
  }
  const whys: string[] = [];
  for (const one of [...devices].reverse()) {
    const { takes, adapter: found, why } = await one.probe({ adapter, backend }, machine);
    if (why !== "") whys.push(why);
    if (takes) return { device: one.name, adapter: found, why: `auto: ${whys.join("; ")}` };
  }
  return { device: devices[0].name, why: "auto" };
}

/** The device that these settings lead to on this machine. */
export async function findTarget(settings: DeviceSettings & Pick<Wish, "kind">, machine: Machine = thisMachine): Promise<Target> {
  if (settings.kind !== "auto") return deviceKind(settings.kind).dry(settings, machine);
  let seen: ReturnType<Machine["adapters"]> | null = null;
  const once: Machine = { ...machine, adapters: () => (seen ??= machine.adapters()) };
  const { device, adapter = settings.adapter, why } = await chooseDevice(settings, once);
  const target = await deviceKind(device).dry({ ...settings, adapter }, once);
  const instead = device === devices[0].name ? [why.replace(/; zerosearch doctor says more$/, "")] : [];
  return { ...target, notes: [...instead, ...target.notes] };
}

/** The device that a run has opened. */
export function targetOf(device: Device, settings: DeviceSettings, machine: Machine = thisMachine): Promise<Target> {
  return deviceKind(device.kind).dry(settings, machine, device);
}
