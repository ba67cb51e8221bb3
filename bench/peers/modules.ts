/** Peers that are no dependencies: loaded from BENCH_PEER_MODULES (a folder with node_modules) or from here, if a user installed them. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Null where the package is not installed. */
export async function peerModule<T>(name: string): Promise<T | null> {
  const folder = process.env["BENCH_PEER_MODULES"] ?? process.cwd();
  let path: string;
  try {
    path = createRequire(join(folder, "package.json")).resolve(name);
  } catch {
    return null;
  }
  return (await import(pathToFileURL(path).href)) as T;
}

/** Libraries for browsers look for a GPU here. One GPU of Dawn's own for them, kept for ever. */
export async function browserGlobals(backend: string | null, adapter: string | null): Promise<GPU> {
  const known = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (known !== undefined) return known;
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  const flags = ["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,use_vulkan_memory_model"];
  if (backend !== null) flags.push(`backend=${backend}`);
  if (adapter !== null) flags.push(`adapter=${adapter}`);
  const gpu = create(flags);
  Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: "Node.js" }, configurable: true });
  return gpu;
}
