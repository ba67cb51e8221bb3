/** WebGPU in Node: Dawn through the npm package `webgpu`, and the WGSL files of this package. */
import { readdir, readFile } from "node:fs/promises";
import { DeviceError } from "../util/errors.ts";
import type { DawnOptions } from "./options.ts";
import { loudly, openQuietly, type Quietly } from "./quiet.ts";

/** Dawn's own switches. Subgroup matrices are unsafe by its book; NVIDIA drivers below 615 hide f16 without the second. */
const toggles = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "use_vulkan_memory_model"];

/** What a browser does to every kernel, and ours do without: they check their own bounds, and write workgroup memory before they read it. */
const unchecked = ["disable_robustness", "disable_workgroup_init"];

/** Where they are on, they are in the kernel: a driver's own drop what goes astray, so that nobody sees it. */
const checkedByDriver = "disable-dawn-features=vulkan_use_buffer_robust_access_2";

/** Dawn corrupts memory once what `create` returned has been collected: it is kept for as long as the process runs. */
const instances = new Map<string, GPU>();

/** What Dawn is started with. It ignores in silence what it does not know: ask the adapter for its features. */
export function dawnFlags({ backend, adapter, robust = false }: DawnOptions = {}): string[] {
  const features = `enable-dawn-features=${[...toggles, ...(robust ? [] : unchecked)].join(",")}`;
  return [
    features,
    ...(robust ? [checkedByDriver] : []),
    ...(backend === undefined ? [] : [`backend=${backend}`]),
    ...(adapter === undefined ? [] : [`adapter=${adapter}`]),
  ];
}

/**
 * Starts Dawn once per set of options. What it and the drivers that it tries say on the way to a device is for `zerosearch doctor`, which
 * asks in processes of its own: here nobody hears it unless `noise` is asked for.
 * @throws DeviceError if the package has no binary for this platform, or refuses to start.
 */
export async function dawn(options: DawnOptions = {}): Promise<GPU> {
  const flags = dawnFlags(options);
  const key = flags.join("\n");
  const known = instances.get(key);
  if (known !== undefined) return known;
  try {
    const { create } = await import("webgpu");
    const quietly = options.noise === true ? loudly : await openQuietly();
    const gpu = silent(
      quietly(() => create(flags)),
      quietly,
      options.backend,
    );
    instances.set(key, gpu);
    return gpu;
  } catch (cause) {
    const [said = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw new DeviceError(
      {
        where: "webgpu device",
        what: `Dawn cannot be started on ${process.platform}-${process.arch}: ${said}`,
        hint: "Install again (npm ci), or use --device cpu. zerosearch doctor says what is missing.",
      },
      { cause },
    );
  }
}

/** Adapters and devices are asked for without noise: Dawn looks through all drivers before the call returns. */
function silent(gpu: GPU, quietly: Quietly, backend: DawnOptions["backend"]): GPU {
  const requestAdapter = gpu.requestAdapter.bind(gpu);
  gpu.requestAdapter = async (options) => {
    const adapter = await quietly(() => requestAdapter(options));
    if (adapter === null && backend !== undefined)
      throw new DeviceError({
        where: "webgpu device",
        what: `there is no adapter through ${backend}`,
        hint: "zerosearch doctor lists the adapters, each with its backend; device.backend=auto takes any.",
      });
    if (adapter === null) return null;
    const requestDevice = adapter.requestDevice.bind(adapter);
    adapter.requestDevice = (descriptor) => quietly(() => requestDevice(descriptor));
    return adapter;
  };
  return gpu;
}

/** All of kernels/wgsl/, by stem; what kernels share as `lib/<stem>`. */
export async function loadWgsl(): Promise<ReadonlyMap<string, string>> {
  // src/device/ and dist/device/ lie equally deep
  const folder = new URL("../../kernels/wgsl/", import.meta.url);
  const names = (await readdir(folder, { recursive: true }))
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => name.endsWith(".wgsl"));
  return new Map(
    await Promise.all(names.sort().map(async (name) => [name.slice(0, -5), await readFile(new URL(name, folder), "utf8")] as const)),
  );
}
