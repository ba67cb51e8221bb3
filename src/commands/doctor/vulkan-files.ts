/**
 * What Vulkan is made of on Linux: the loader, `libvulkan.so.1`, and a JSON file per driver that the loader finds in certain folders.
 * Source: the Vulkan loader's LoaderDriverInterface.md, "Driver Discovery on Linux".
 */
import { dirname, isAbsolute, join } from "node:path";
import type { System } from "./system.ts";

export interface DriverFile {
  readonly file: string;
  /** The library it names, as it names it. */
  readonly library: string;
  /** Whether the library is where the file says. */
  readonly present: boolean;
}

export interface VulkanFiles {
  /** The loader's path; null where there is none. */
  readonly loader: string | null;
  readonly drivers: readonly DriverFile[];
  /** Where driver files were looked for: folders, or the files that a variable names. */
  readonly looked: readonly string[];
  /** The variable that names driver files, so that no folder is looked at; null where none is set. */
  readonly variable: string | null;
  /** Driver files in places where the loader does not look. */
  readonly elsewhere: readonly DriverFile[];
}

const loaderName = "libvulkan.so.1";

/** Folders of containers and distributions that the loader does not know by itself. */
const otherFolders = [
  "/usr/local/nvidia/share/vulkan/icd.d",
  "/usr/lib/nvidia/share/vulkan/icd.d",
  "/opt/nvidia/share/vulkan/icd.d",
  "/run/opengl-driver/share/vulkan/icd.d",
];

export function findVulkan(system: System): VulkanFiles {
  const variable = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].find((name) => filled(system.env[name])) ?? null;
  const named = variable === null ? [] : split(system.env[variable]);
  const added = split(system.env["VK_ADD_DRIVER_FILES"]);
  const looked = [...added, ...(variable === null ? driverFolders(system) : named)];
  const drivers = looked.flatMap((place) => manifests(system, place));
  const elsewhere = [...driverFolders(system), ...otherFolders]
    .flatMap((place) => manifests(system, place))
    .filter(({ file }) => !drivers.some((driver) => driver.file === file));
  return { loader: findLibrary(system, loaderName), drivers, looked, variable, elsewhere };
}

/** Where the dynamic linker finds a library: a path, or null. */
export function findLibrary(system: System, name: string): string | null {
  const folders = [...split(system.env["LD_LIBRARY_PATH"]), ...libraryFolders(system)];
  const file = folders.map((folder) => join(folder, name)).find((path) => system.exists(path));
  if (file !== undefined) return file;
  // the cache holds paths as plain text between zeros
  const cache = system.read("/etc/ld.so.cache") ?? "";
  const cached = cache.split("\0").find((path) => path.startsWith("/") && path.endsWith(`/${name}`) && system.exists(path));
  return cached ?? null;
}

function libraryFolders({ arch }: System): string[] {
  const triplet = arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  return [
    `/usr/lib/${triplet}`,
    `/lib/${triplet}`,
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
    "/usr/local/lib",
    `/usr/local/lib/${triplet}`,
  ];
}

function driverFolders({ env, home }: System): string[] {
  const several = (name: string, otherwise: string): string[] => split(filled(env[name]) ? env[name] : otherwise);
  const configuration = [...several("XDG_CONFIG_HOME", join(home, ".config")), ...several("XDG_CONFIG_DIRS", "/etc/xdg")];
  const data = [...several("XDG_DATA_HOME", join(home, ".local/share")), ...several("XDG_DATA_DIRS", "/usr/local/share:/usr/share")];
  return [...new Set([...configuration, "/usr/local/etc", "/etc", ...data])].map((folder) => join(folder, "vulkan", "icd.d"));
}

/** The driver files in a folder, or the one file. */
function manifests(system: System, place: string): DriverFile[] {
  const files = place.endsWith(".json") ? [place] : system.list(place).map((name) => join(place, name));
  return files
    .filter((file) => file.endsWith(".json"))
    .flatMap((file) => {
      const library = libraryOf(system.read(file));
      return library === null ? [] : [{ file, library, present: isPresent(system, file, library) }];
    });
}

function libraryOf(text: string | null): string | null {
  try {
    const { ICD } = JSON.parse(text ?? "") as { ICD?: { library_path?: unknown } };
    return typeof ICD?.library_path === "string" ? ICD.library_path : null;
  } catch {
    return null;
  }
}

function isPresent(system: System, file: string, library: string): boolean {
  if (isAbsolute(library)) return system.exists(library);
  return library.includes("/") ? system.exists(join(dirname(file), library)) : findLibrary(system, library) !== null;
}

function filled(value: string | undefined): boolean {
  return value !== undefined && value !== "";
}

function split(value: string | undefined): string[] {
  return (value ?? "").split(":").filter((part) => part !== "");
}
