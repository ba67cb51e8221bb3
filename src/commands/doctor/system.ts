/** What the doctor looks at, so that a test can show it another machine; and the GPUs that the Linux kernel knows of, whether or not Vulkan does. */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { attempt } from "../../util/errors.ts";

export interface System {
  readonly platform: NodeJS.Platform;
  /** As Node says it: x64, arm64. */
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  exists(path: string): boolean;
  /** May this process read and write it? */
  opens(path: string): boolean;
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): readonly string[];
  /** Bytes as Latin-1; null where it cannot be read. */
  read(path: string): string | null;
}

/** The machine this runs on. */
export const thisSystem: System = {
  platform: process.platform,
  arch: process.arch,
  env: process.env,
  home: homedir(),
  exists: existsSync,
  opens: (path) =>
    attempt(() => {
      accessSync(path, constants.R_OK | constants.W_OK);
      return true;
    }, false),
  list: (folder) => attempt(() => readdirSync(folder).sort(), []),
  read: (path) => attempt(() => readFileSync(path, "latin1"), null),
};

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
