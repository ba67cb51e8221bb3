/** From what a machine has to what it lacks, with the command that mends it. */
import type { FoundAdapter, Probe } from "../../device/probe.ts";
import { findLibrary, type VulkanFiles } from "./vulkan-files.ts";
import type { Hardware, System } from "./system.ts";

export interface Finding {
  /** `broken` makes the exit code 1: something that must work does not. `missing`: a GPU is not used. `note`: good to know. */
  readonly level: "broken" | "missing" | "note";
  readonly what: string;
  /** A command, or what to do. */
  readonly mend: string | null;
}

/** From this NVIDIA driver on, Dawn gives f16 without being forced. */
const nvidiaWithF16 = [615, 71];
const nvidiaLibrary = "libGLX_nvidia.so.0";

export interface Seen {
  readonly system: System;
  readonly hardware: Hardware;
  /** Null where the system brings its own API: macOS, Windows. */
  readonly vulkan: VulkanFiles | null;
  readonly probe: Probe;
}

export function findingsOf(seen: Seen): Finding[] {
  const { vulkan, probe } = seen;
  return [
    ...(probe.failure === null ? [] : [probeFailed(probe.failure)]),
    ...(vulkan === null ? [] : vulkanFindings(seen, vulkan)),
    ...probe.unusable.map(({ fullName, why }) => finding("missing", `${fullName} cannot be used: ${why}`, "Update its driver.")),
    ...probe.adapters.flatMap(adapterFindings),
  ];
}

function finding(level: Finding["level"], what: string, mend: string | null): Finding {
  return { level, what, mend };
}

function probeFailed(failure: string): Finding {
  const crashed = /crashed|had not ended/.test(failure);
  return finding(
    "missing",
    failure,
    crashed
      ? "Update the GPU's driver, or leave it out: VK_DRIVER_FILES=<the driver files of the others>; --device cpu never looks at GPUs."
      : "npm ci (installs the package webgpu again); --device cpu works without it.",
  );
}

function vulkanFindings(seen: Seen, vulkan: VulkanFiles): Finding[] {
  const { hardware, probe } = seen;
  const unloaded = probe.messages.find((line) => /Couldn't load Vulkan/i.test(line));
  if (vulkan.loader === null || unloaded !== undefined) return [noLoader(hardware, unloaded)];
  const dangling = vulkan.drivers
    .filter(({ present }) => !present)
    .map(({ file, library }) => finding("missing", `${file} names ${library}, which is not there`, mendLibrary(library, hardware)));
  const closed = hardware.closed.length === 0 || probe.adapters.some(({ software }) => !software) ? [] : [closedNodes(hardware.closed)];
  const makers = hardware.makers.filter((maker) => !probe.adapters.some((adapter) => !adapter.software && adapter.vendor === maker));
  const unseen = makers.map((maker) => (maker === "nvidia" ? nvidiaUnseen(seen, vulkan) : mesaUnseen(maker, vulkan, probe)));
  const none = hardware.makers.length === 0 && probe.adapters.length === 0 ? [noGpu(vulkan, probe)] : [];
  return [...dangling, ...closed, ...unseen, ...none];
}

function noLoader({ makers }: Hardware, said: string | undefined): Finding {
  const drivers = makers.some((maker) => maker !== "nvidia") ? " mesa-vulkan-drivers" : "";
  const what = `there is no Vulkan loader, libvulkan.so.1${said === undefined ? "" : ` (${said.replace(/^Warning: /, "")})`}`;
  return finding(
    makers.length === 0 ? "note" : "missing",
    makers.length === 0 ? `${what}, nor a GPU that would need it` : what,
    `apt-get install libvulkan1${drivers} (Debian, Ubuntu), or dnf install vulkan-loader${drivers} (Fedora)`,
  );
}

function closedNodes(nodes: readonly string[]): Finding {
  return finding("missing", `${nodes.join(", ")}: this user may not open it`, "sudo usermod -aG render $USER, then log in again");
}

function whereLooked({ looked, variable, drivers }: VulkanFiles): string {
  if (variable !== null) return `${variable} names ${looked.join(", ")}`;
  return drivers.length === 0 ? `looked in ${looked.join(", ")}` : `there are ${drivers.map(({ file }) => file).join(", ")}`;
}

/** There is an NVIDIA GPU, and Vulkan does not know it. */
function nvidiaUnseen({ system, hardware, probe }: Seen, vulkan: VulkanFiles): Finding {
  if (hardware.nvidia === null)
    return finding("missing", "there is an NVIDIA GPU, but its driver is not loaded", "Install NVIDIA's driver and start again.");
  const { version } = hardware.nvidia;
  const driver = `NVIDIA's driver${version === null ? "" : ` ${version}`} is loaded`;
  const own = (one: { file: string; library: string }): boolean => /nvidia/i.test(one.file) || /nvidia/i.test(one.library);
  const known = vulkan.drivers.find((one) => own(one) && one.present);
  if (known !== undefined)
    return finding(
      "missing",
      `${driver} and ${known.file} names it, but it shows no adapter`,
      `Compare the versions of the kernel's driver (cat /proc/driver/nvidia/version) and of its libraries (ls /usr/lib/*/libGLX_nvidia.so.*): they must be the same.${dawnSays(probe)}`,
    );
  const what = `${driver}, but no Vulkan driver file names it (nvidia_icd.json; ${whereLooked(vulkan)})`;
  const elsewhere = vulkan.elsewhere.find((one) => own(one) && one.present);
  if (elsewhere !== undefined) return finding("missing", what, `export VK_DRIVER_FILES=${elsewhere.file}`);
  if (findLibrary(system, nvidiaLibrary) !== null) {
    const text = `{"file_format_version":"1.0.0","ICD":{"library_path":"${nvidiaLibrary}","api_version":"1.3.0"}}`;
    return finding("missing", what, `mkdir -p /etc/vulkan/icd.d && echo '${text}' >/etc/vulkan/icd.d/nvidia_icd.json`);
  }
  return finding("missing", `${what}, and ${nvidiaLibrary} is missing`, mendLibrary(nvidiaLibrary, hardware));
}

/** How a driver's library comes onto the machine. */
function mendLibrary(library: string, { nvidia, container }: Hardware): string {
  if (!/nvidia/i.test(library)) return "apt-get install --reinstall mesa-vulkan-drivers, or remove the driver file";
  if (container)
    return "Start the container with the graphics part of the driver: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics ... (NVIDIA Container Toolkit)";
  const major = nvidia?.version?.split(".")[0] ?? "<version of the driver>";
  return `apt-get install libnvidia-gl-${major} (Ubuntu; headless driver packages leave it out)`;
}

function dawnSays({ messages }: Probe): string {
  const lines = messages.map((line) => line.replace(/^Warning: /, ""));
  return lines.length === 0 ? "" : `; Dawn says: ${lines.join("; ")}`;
}

function mesaUnseen(maker: string, vulkan: VulkanFiles, probe: Probe): Finding {
  const title = maker === "amd" ? "an AMD GPU" : "an Intel GPU";
  return finding(
    maker === "amd" ? "missing" : "note",
    `there is ${title}, but Vulkan shows no adapter for it (${whereLooked(vulkan)})${dawnSays(probe)}`,
    "apt-get install mesa-vulkan-drivers (Debian, Ubuntu), or dnf install mesa-vulkan-drivers (Fedora); in a container also --device /dev/dri",
  );
}

function noGpu(vulkan: VulkanFiles, probe: Probe): Finding {
  return finding(
    "note",
    `no GPU is seen on this machine, and no driver shows an adapter (${whereLooked(vulkan)})${dawnSays(probe)}`,
    "For tests without a GPU: apt-get install mesa-vulkan-drivers (llvmpipe, from Mesa 25 on), then --device webgpu",
  );
}

function adapterFindings(adapter: FoundAdapter): Finding[] {
  const { fullName, count, vendor, driver, features, software } = adapter;
  const f16 = features.includes("shader-f16");
  const version = vendor === "nvidia" ? (/\d{3}\.\d+/.exec(driver)?.[0] ?? null) : null;
  const found: Finding[] = [];
  if (count > 1)
    found.push(
      finding(
        "note",
        `${count} adapters are named ${fullName} and cannot be told apart: the first is used`,
        "One process, and one container, for each GPU.",
      ),
    );
  if (version !== null && isBefore(version, nvidiaWithF16)) {
    const old = `driver ${version} is older than ${nvidiaWithF16.join(".")}`;
    if (f16)
      found.push(finding("note", `${fullName}: ${old}: f16 is switched on by force and checked by the self-test at every start`, null));
    else
      found.push(finding("missing", `${fullName}: ${old} and hides f16`, `Install NVIDIA's driver ${nvidiaWithF16.join(".")} or later.`));
  } else if (!f16 && !software) found.push(finding("note", `${fullName} has no f16: matrix products run in f32`, "Update its driver."));
  return found;
}

function isBefore(version: string, [major = 0, minor = 0]: readonly number[]): boolean {
  const [a = 0, b = 0] = version.split(".").map(Number);
  return a < major || (a === major && b < minor);
}
