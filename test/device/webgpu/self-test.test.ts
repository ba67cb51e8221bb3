/** The self-test at start: what computes wrongly is found, switched off and said. */
import { describe, expect, it, vi } from "vitest";
import { createDevice } from "../../../src/device/create.ts";
import type { DeviceOptions } from "../../../src/device/options.ts";
import { dawn, loadWgsl } from "../../../src/device/dawn.ts";
import type { MatrixConfig } from "../../../src/device/webgpu/adapter.ts";
import type { MatrixShape } from "../../../src/device/webgpu/capabilities.ts";
import { openFastest } from "../../../src/device/webgpu/create-webgpu.ts";
import { productSeconds } from "../../../src/device/webgpu/self-test-timing.ts";
import { defaultTuning, type Tuning } from "../../../src/device/webgpu/tuning.ts";
import type { WebGpuDevice } from "../../../src/device/webgpu/webgpu-device.ts";
import { DeviceError } from "../../../src/util/errors.ts";
import { adapterHere } from "../../helpers/adapters.ts";
import { disguised } from "../../helpers/disguised-gpu.ts";

// Software adapters compile most of a kernel when it first runs.
vi.setConfig({ testTimeout: 300_000 });

const gpu = await dawn();
const facts = await adapterHere();
const hasMatrices = facts.matrices.some(
  ({ componentType, resultComponentType }) => componentType === "f16" && resultComponentType === "f32",
);
const has = (feature: string): boolean => facts.features.includes(feature);

async function open(options: DeviceOptions): Promise<WebGpuDevice> {
  return (await createDevice({ device: "webgpu", selfTest: true, tuning: false, ...options })) as WebGpuDevice;
}

describe("the self-test", () => {
  it.each(["f32", "f16"] as const)(
    "passes here in precision %s with all tiers, and leaves no memory and no work behind",
    async (precision) => {
      const device = await open({ precision });
      expect(device.description).not.toMatch(/failed/);
      expect(device.memory()).toEqual({ inUse: 0, peak: 0, reserved: 0 });
      expect(device.pipelines.count).toBeGreaterThan(10);
      await device.destroy();
    },
  );

  it("passes here without any tier", async () => {
    const device = await open({ precision: "f16", tiersOff: ["subgroups", "shader-f16", "subgroup-matrix"] });
    expect(device.description).toMatch(/no subgroup-matrix \(switched off\)/);
    await device.destroy();
  });

  it.skipIf(facts.software)("takes at most a second once everything has been compiled", async () => {
    const device = await open({ precision: "f16" });
    const { selfTest } = await import("../../../src/device/webgpu/self-test.ts");
    const start = performance.now();
    expect(await selfTest(device)).toBeNull();
    expect(performance.now() - start).toBeLessThan(1000);
    await device.destroy();
  });
});

describe("a kernel that computes wrongly", () => {
  const cases = [
    {
      kernel: "matmul",
      change: (text: string) => text.replace(/fma\(/g, "fma(1.001 * "),
      said: /sample and log_prob, f32: |matmul with f32 weights: /,
    },
    {
      kernel: "rms_norm",
      change: (text: string) => text.replace(/\bsqrt\(|inverseSqrt\(/g, (call) => `${call}1.001 * `),
      said: /rms_norm: y: element/,
    },
  ];
  it.each(cases)("is found: $kernel", async ({ kernel, change, said }) => {
    const sources = new Map(await loadWgsl());
    const before = sources.get(kernel)!;
    sources.set(kernel, change(before));
    expect(sources.get(kernel)).not.toBe(before);
    const opening = open({ sources });
    await expect(opening).rejects.toThrow(DeviceError);
    await expect(opening).rejects.toThrow(said);
    await expect(opening).rejects.toThrow(/its self-test failed/);
  });

  it("is found where it does not compile, with its line", async () => {
    const sources = new Map(await loadWgsl());
    sources.set("rms_norm", sources.get("rms_norm")!.replace("fn main(", "fn main(wrong "));
    await expect(open({ sources })).rejects.toThrow(/self-test failed: rms_norm: kernels\/wgsl\/rms_norm\.wgsl:\d+: does not compile/);
  });
});

describe("kernels whose sums have other bits in another batch", () => {
  it("are used, and it is said, where nothing else is wrong", async () => {
    const sources = new Map(await loadWgsl());
    const text = sources.get("matmul")!;
    // What a compiler may do that orders sums otherwise: of numbers on a coarse grid the last bit is 0 in any order.
    const store = "= sum_${i}; }";
    expect(text).toContain(store);
    const odd = "= select(sum_${i}, bitcast<vec4<f32>>(bitcast<vec4<u32>>(sum_${i}) & vec4<u32>(0xfffffffeu)), BM == 8u); }";
    sources.set("matmul", text.replace(store, odd));
    const device = await open({ sources });
    expect(device.description).toMatch(
      /bits differ between kernels or batches \(its self-test failed: matmul of one row and of many, f32: .* differ in their bits\)/,
    );
    await device.destroy();
  });
});

describe("a tuning", () => {
  const tile = facts.software ? "16x64x16" : "16x64x32";
  const tuning: Tuning = { measured: "2026-12-01", groups: 64, plain: { rows8: tile }, matrix: {} };

  it("is used where the self-test of products passes with it", async () => {
    const device = await open({ tuning });
    expect(device.detail).toBe("tuned 2026-12-01");
    expect(device.capabilities.tuning).toEqual(tuning);
    expect(device.memory()).toEqual({ inUse: 0, peak: 0, reserved: 0 });
    await device.destroy();
  });

  it("is not used, and that is said, where its tiles compute wrongly", async () => {
    const sources = new Map(await loadWgsl());
    const before = sources.get("matmul")!;
    sources.set("matmul", before.replace("fma(vec4<f32>(aq.w)", "fma(select(1.0, 1.01, BM == 16u) * vec4<f32>(aq.w)"));
    expect(sources.get("matmul")).not.toBe(before);
    const device = await open({ sources, tuning });
    expect(device.detail).toMatch(/^not tuned 2026-12-01 \(its self-test failed: matmul/);
    expect(device.capabilities.tuning).toEqual(defaultTuning);
    await device.destroy();
  });
});

describe("a tier that fails", () => {
  const matrix: MatrixConfig = { M: 16, N: 16, K: 16, componentType: "f16", resultComponentType: "f32" };

  it.skipIf(hasMatrices || !has("shader-f16") || !has("subgroups"))(
    "is switched off and said where its pipelines do not compile, and the rest computes",
    async () => {
      let devices = 0;
      const claims = { features: ["chromium-experimental-subgroup-matrix"], matrices: [matrix], onDevice: () => devices++ };
      const device = await open({ precision: "f16", gpu: disguised(gpu, claims) });
      expect(device.description).toMatch(
        /no subgroup-matrix \(its self-test failed: .*: kernels\/wgsl\/matmul_matrix\.wgsl.*does not compile/,
      );
      expect(device.description).toMatch(/shader-f16/);
      expect(device.capabilities).toMatchObject({ matrix: null, f16: true });
      expect(devices).toBe(3); // the first, the one that finds the culprit, the one that is used
      const x = device.allocate(1, 2, "f32", "activation", "x");
      device.run("fill", { value: 3 }, [], [x]);
      expect(await device.read(x)).toEqual(Float32Array.of(3, 3));
      await device.destroy();
    },
  );

  it.skipIf(!hasMatrices)("is switched off and said where products without it are faster, and kept where they are not", async () => {
    const options = { gpu, sources: await loadWgsl(), precision: "f16" } as const;
    const asked: (MatrixShape | null)[] = [];
    const open = (slow: number): Promise<WebGpuDevice> =>
      openFastest(options, ({ capabilities: { matrix } }) => {
        asked.push(matrix);
        return Promise.resolve(matrix === null ? 0.001 : slow);
      });
    const loser = await open(1);
    expect(loser.description).toMatch(/no subgroup-matrix \(slower than without: a product takes 1000 ms instead of 1\.00 ms\)/);
    expect(loser.capabilities.matrix).toBeNull();
    await loser.destroy();
    expect(asked).toHaveLength(2); // each once
    const winner = await open(0.0005);
    expect(winner.description).not.toMatch(/no subgroup-matrix/);
    expect(winner.capabilities.matrix).not.toBeNull();
    await winner.destroy();
  });

  it.skipIf(!hasMatrices)("is timed by a product that takes a while", async () => {
    const device = await open({ precision: "f16" });
    expect(await productSeconds(device)).toBeGreaterThan(1e-6);
    await device.destroy();
  });

  it.skipIf(!hasMatrices)("is switched off and said where its results are wrong", async () => {
    const change = (code: string): string =>
      code.includes("enable chromium_experimental_subgroup_matrix")
        ? code.replace(/\bf16\(/g, "f16(1.01 * ").replace(/\bpack2x16float\(/g, "pack2x16float(1.01 * ")
        : code;
    const device = await open({ precision: "f16", gpu: disguised(gpu, { change }) });
    expect(device.description).toMatch(/no subgroup-matrix \(its self-test failed: (attention|matmul|sample)[^:]*: (?!kernels)/);
    expect(device.capabilities.matrix).toBeNull();
    expect(device.capabilities.f16).toBe(true);
    await device.destroy();
  });
});
