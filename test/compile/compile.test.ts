/** Every pipeline that hosts ask for compiles, for every tier: on Dawn's null backend, which has all features and computes nothing. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dawn, loadWgsl } from "../../src/device/dawn.ts";
import type { KernelName } from "../../src/device/kernels.ts";
import { factsOf, requestDevice } from "../../src/device/webgpu/adapter.ts";
import type { Dispatch } from "../../src/device/webgpu/kernel.ts";
import { tileNames } from "../../src/device/webgpu/kernels/matmul-tiles.ts";
import { collect } from "../../src/device/webgpu/prepare.ts";
import { Pipelines, specialisationKey, type Specialisation } from "../../src/device/webgpu/pipelines.ts";
import { storagesOf, timedProducts } from "../../src/device/webgpu/tune-products.ts";
import { defaultTuning, rowClass } from "../../src/device/webgpu/tuning.ts";
import { dispatchFaults, withIncluded } from "./check-dispatch.ts";
import { kernelNames, representativeCalls } from "./representative-calls.ts";
import { targets, type CompileTarget } from "./tiers.ts";

const sources = await loadWgsl();
const used = new Set<string>();
/** Keys of pipelines that were made, and of those whose WGSL alone was compiled. */
const compiled = { pipelines: new Set<string>(), modules: new Set<string>() };
let device: GPUDevice;
let pipelines: Pipelines;

beforeAll(async () => {
  const adapter = (await (await dawn({ backend: "null" })).requestAdapter())!;
  device = await requestDevice(adapter, factsOf(adapter));
  pipelines = new Pipelines(device, sources, () => undefined);
});
afterAll(() => {
  device.destroy();
});

/** Everything that hosts ask for on such an adapter, and what is wrong with its dispatches. */
async function dryRun(
  { capabilities }: CompileTarget,
  precision: "f32" | "f16",
  split: { readonly maxShardBytes?: number; readonly mostColumns?: number } = {},
) {
  const faults = new Set<string>();
  const onDispatch = (dispatch: Dispatch): void => {
    used.add(dispatch.kernel);
    for (const fault of dispatchFaults(dispatch, sources, capabilities.maxStorageBuffers))
      faults.add(`${specialisationKey(dispatch)}: ${fault}`);
  };
  let called: ReadonlySet<KernelName> = new Set();
  const options = { capabilities, precision, maxShardBytes: split.maxShardBytes, fuse: true, onDispatch };
  const specialisations = await collect(options, async (dry) => {
    called = await representativeCalls(dry, split.mostColumns);
  });
  return { called, faults, specialisations };
}

/** Complaints of the compiler. What has compiled for another tier is not compiled again. */
async function compile(specialisations: ReadonlyMap<string, Specialisation>, whole: boolean): Promise<string[]> {
  const complaints: string[] = [];
  for (const [key, one] of specialisations) {
    if (compiled.pipelines.has(key) || (!whole && compiled.modules.has(key))) continue;
    try {
      // Attention by matrices has workgroups that are smaller than this backend's subgroups.
      if (whole && !/^attention.*_matrix$/.test(one.kernel)) await pipelines.prepare(one);
      else await pipelines.check(one);
      compiled[whole ? "pipelines" : "modules"].add(key);
    } catch (error) {
      complaints.push((error as Error).message);
    }
  }
  return complaints;
}

describe.each(targets)("on an adapter with $name", (target) => {
  it.each(["f32", "f16"] as const)("compiles every pipeline of precision %s, and every dispatch fits its kernel", async (precision) => {
    const { called, faults, specialisations } = await dryRun(target, precision);
    expect(
      kernelNames.filter((name) => !called.has(name)),
      "kernels that representativeCalls leaves out",
    ).toEqual([]);
    expect([...faults]).toEqual([]);
    expect(specialisations.size).toBeGreaterThan(50);
    expect(await compile(specialisations, target.pipelines)).toEqual([]);
  });
});

describe("where tensors are split", () => {
  it.each(["f32", "f16"] as const)("compiles nothing else, precision %s, and every dispatch fits its kernel", async (precision) => {
    const { faults, specialisations } = await dryRun(targets[0]!, precision, { maxShardBytes: 2 ** 14, mostColumns: 200 });
    expect([...faults]).toEqual([]);
    expect(await compile(specialisations, true)).toEqual([]);
  });
});

describe.each(["no tier", "a large GPU"])("on an adapter with %s", (name) => {
  it.each(["plain", "matrix"] as const)("compiles every tile that a tuning may name for %s products", async (kind) => {
    const { capabilities } = targets.find((target) => target.name === name)!;
    const precision = kind === "plain" ? "f32" : "f16";
    const tiles = new Set<string>();
    const all = new Map<string, Specialisation>();
    const faults = new Set<string>();
    const wanted = kind === "plain" || capabilities.matrix !== null ? timedProducts(1) : [];
    for (const product of wanted)
      for (const tile of tileNames(capabilities, kind, product.M))
        for (const groups of [1, 264]) {
          const tuning = { ...defaultTuning, groups, [kind]: { [rowClass(kind, product.M)]: tile } };
          const onDispatch = (dispatch: Dispatch): void => {
            for (const fault of dispatchFaults(dispatch, sources, capabilities.maxStorageBuffers)) faults.add(`${tile}: ${fault}`);
          };
          const options = { capabilities: { ...capabilities, tuning }, precision, onDispatch } as const;
          const found = await collect(options, (dry) => {
            storagesOf(dry, product).run();
          });
          for (const [key, one] of found) all.set(key, one);
          tiles.add(tile);
        }
    // of the plain ones, one takes more memory and invocations than every adapter has
    expect(tiles.size).toBe(kind === "plain" ? (name === "no tier" ? 6 : 7) : wanted.length > 0 ? 10 : 0);
    expect([...faults]).toEqual([]);
    expect(await compile(all, false)).toEqual([]);
  });
});

describe("kernels/wgsl/", () => {
  it("has no file that nothing uses", () => {
    const all = new Set([...used].flatMap((stem) => withIncluded(stem, sources)));
    expect([...sources.keys()].filter((stem) => !all.has(stem))).toEqual([]);
  });
  it("is quoted where a kernel does not compile", async () => {
    const broken = new Pipelines(device, new Map([["fill", sources.get("fill")!.replace("p.units", "p.unitz")]]), () => undefined);
    const complaint = /kernels\/wgsl\/fill\.wgsl:\d+: does not compile: .*unitz.*\n.*p\.unitz/s;
    await expect(broken.prepare({ kernel: "fill" })).rejects.toThrow(complaint);
    await expect(broken.check({ kernel: "fill" })).rejects.toThrow(complaint);
  });
});
