/** GPUs that the Linux kernel knows of, whether or not Vulkan does. */
import type { System } from "./system.ts";

export interface Hardware {
  /** NVIDIA's kernel driver: its version where it tells; null where it is not loaded. */
  readonly nvidia: { readonly version: string | null } | null;
  /** Makers of the display controllers on the PCI bus. */
  readonly makers: readonly Maker[];
  /** Device files of Mesa's drivers that this user may not open. */
  readonly closed: readonly string[];
  readonly container: boolean;
}

export type Maker = "nvidia" | "amd" | "intel";

const makers: Readonly<Record<string, Maker>> = { "0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel" };

export function findHardware(system: System): Hardware {
  const said = system.read("/proc/driver/nvidia/version");
  const loaded = said !== null || system.exists("/dev/nvidiactl") || system.exists("/dev/nvidia0");
  const version = /Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)/.exec(said ?? "")?.[1] ?? null;
  const nodes = system.list("/dev/dri").filter((name) => name.startsWith("renderD"));
  return {
    nvidia: loaded ? { version } : null,
    makers: [...new Set([...displayMakers(system), ...(loaded ? (["nvidia"] as const) : [])])],
    closed: nodes.map((name) => `/dev/dri/${name}`).filter((path) => !system.opens(path)),
    container: isContainer(system),
  };
}

/** PCI class 03: display controllers; NVIDIA's data-centre GPUs are 0302. */
function displayMakers(system: System): Maker[] {
  const folder = "/sys/bus/pci/devices";
  return system.list(folder).flatMap((device) => {
    if (system.read(`${folder}/${device}/class`)?.startsWith("0x03") !== true) return [];
    const maker = makers[system.read(`${folder}/${device}/vendor`)?.trim() ?? ""];
    return maker === undefined ? [] : [maker];
  });
}

function isContainer(system: System): boolean {
  const variables = ["container", "KUBERNETES_SERVICE_HOST", "NVIDIA_VISIBLE_DEVICES"];
  return (
    ["/.dockerenv", "/run/.containerenv"].some((file) => system.exists(file)) || variables.some((name) => system.env[name] !== undefined)
  );
}
