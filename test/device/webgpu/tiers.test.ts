/** Which tiers of kernels an adapter gets, what is said of it, and what is compiled ahead. */
import { describe, expect, it } from "vitest";
import type { Device } from "../../../src/device/device.ts";
import { capabilitiesOf, matrixChoices, matrixName, tierReasons, type AdapterFacts } from "../../../src/device/webgpu/adapter.ts";
import type { Tier } from "../../../src/device/webgpu/capabilities.ts";
import type { WebGpuDevice } from "../../../src/device/webgpu/webgpu-device.ts";
import { packBatch } from "../../../src/nn/batch.ts";
import { fineTuneStep } from "../../../src/sft/fine-tune.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { adapterHere } from "../../helpers/adapters.ts";
import { makeDevice, withDevice } from "../../helpers/device.ts";
import { randomIds, tinyConfigs, tinyDecoder } from "../../helpers/tiny-model.ts";

const here = await adapterHere();

const gpu: AdapterFacts = {
  name: "GPU",
  vendor: "nvidia",
  architecture: "",
  driver: "",
  software: false,
  features: ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"],
  limits: {
    maxStorageBufferBindingSize: 2 ** 31 - 4,
    maxBufferSize: 2 ** 31,
    maxComputeWorkgroupStorageSize: 49152,
    maxComputeInvocationsPerWorkgroup: 1024,
  },
  matrices: [
    { M: 8, N: 8, K: 8, componentType: "f16", resultComponentType: "f32" },
    { M: 16, N: 16, K: 16, componentType: "f16", resultComponentType: "f32" },
    { M: 32, N: 32, K: 32, componentType: "f16", resultComponentType: "f16" },
  ],
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
};
const tiersOf = (facts: AdapterFacts, off: readonly Tier[] = []) => {
  const { subgroupSize, f16, matrix } = capabilitiesOf(facts, new Set(off));
  return { subgroupSize, f16, matrix };
};
const none = { subgroupSize: 0, f16: false, matrix: null };
const matrix = { M: 16, N: 16, K: 16 };

describe("tiers of an adapter", () => {
  it("are all that it has, with the largest matrices that sum in f32", () => {
    expect(tiersOf(gpu)).toEqual({ subgroupSize: 32, f16: true, matrix });
    expect(tierReasons(gpu, new Map())).toEqual(new Map());
  });
  it.each([
    [["subgroup-matrix"], { subgroupSize: 32, f16: true, matrix: null }],
    [["shader-f16"], { subgroupSize: 32, f16: false, matrix: null }],
    [["subgroups"], { subgroupSize: 0, f16: true, matrix: null }],
    [["subgroups", "shader-f16", "subgroup-matrix"], none],
  ] as const)("without %j lack what builds on it", (off, left) => {
    expect(tiersOf(gpu, off)).toEqual(left);
  });
  it("take subgroups whose size varies where kernels can choose it, matrices in each size, larger shapes first", () => {
    const chosen = { ...gpu, subgroupMinSize: 8, subgroupMaxSize: 64, features: [...gpu.features, "subgroup-size-control"] };
    expect(tiersOf(chosen)).toEqual({ subgroupSize: 32, f16: true, matrix });
    expect(capabilitiesOf(chosen, new Set()).subgroupSizeControl).toBe(true);
    expect(capabilitiesOf(gpu, new Set()).subgroupSizeControl).toBe(false);
    expect(tierReasons(chosen, new Map())).toEqual(new Map());
    expect(matrixChoices(chosen).map(matrixName)).toEqual([
      ...[32, 16, 64, 8].map((size) => `16x16x16 in subgroups of ${size}`),
      ...[32, 16, 64, 8].map((size) => `8x8x8 in subgroups of ${size}`),
    ]);
  });
  it("leave out matrices that sum in f16, and shapes that the tiles cannot be cut into", () => {
    expect(matrixChoices(gpu).map(matrixName)).toEqual(["16x16x16 in subgroups of 32", "8x8x8 in subgroups of 32"]);
    const odd = { ...gpu, matrices: [{ M: 8, N: 4, K: 8, componentType: "f16", resultComponentType: "f32" }] };
    expect(matrixChoices(odd)).toEqual([]);
    expect(tierReasons(odd, new Map()).get("subgroup-matrix")).toBe("no shape f16 x f16 -> f32 that fits");
    expect(capabilitiesOf(gpu, new Set(), matrixChoices(gpu)[1]).matrix).toEqual({ M: 8, N: 8, K: 8 });
  });
  it("do not count on subgroups whose size varies, and say so", () => {
    const varying = { ...gpu, subgroupMinSize: 8 };
    expect(tiersOf(varying)).toEqual({ subgroupSize: 0, f16: true, matrix: null });
    expect(tierReasons(varying, new Map()).get("subgroups")).toBe("the size of subgroups varies, 8 to 32");
    expect(tierReasons(varying, new Map()).get("subgroup-matrix")).toMatch(/needs shader-f16 and subgroups/);
  });
  it("say why each is missing", () => {
    const bare = { ...gpu, features: [], matrices: [] };
    expect(tiersOf(bare)).toEqual(none);
    expect([...tierReasons(bare, new Map()).keys()]).toEqual(["subgroups", "shader-f16", "subgroup-matrix"]);
    expect(tierReasons(bare, new Map()).get("shader-f16")).toMatch(/zerosearch doctor/);
    expect(tierReasons(gpu, new Map([["shader-f16", "it failed"]])).get("shader-f16")).toBe("it failed");
  });
  it("stand in the description of this adapter's device, those that are off with the reason", () =>
    withDevice(
      async (device) => {
        expect(device.description).toContain(here.name);
        expect(device.description).toMatch(/no subgroup-matrix \(.+\)/);
        if (here.features.includes("shader-f16")) expect(device.description).toMatch(/, shader-f16,/);
      },
      { tiersOff: ["subgroup-matrix"] },
    ));
});

describe("compiling ahead", () => {
  const config = tinyConfigs.qwen3;
  /** A step of fine-tuning and a forward. */
  const program = async (device: Device): Promise<void> => {
    const decoder = tinyDecoder(config, device);
    const optimizer = new AdamW(decayGroups(decoder.parameters(), 0));
    const example = { ids: randomIds(30, config.vocabulary, 1), weights: Array.from({ length: 30 }, () => 1) };
    await fineTuneStep(decoder, optimizer, [example], { learningRate: 1e-3, microBatchTokens: 64 });
    decoder.forward(packBatch(device, [randomIds(70, config.vocabulary, 2)]));
  };

  it("counts up to all pipelines of a program, after which the program compiles none", async () => {
    const device = (await makeDevice({ precompile: true, guard: false })) as WebGpuDevice;
    const seen: [number, number][] = [];
    await device.prepare(program, (done, total) => seen.push([done, total]));
    expect(seen.length).toBeGreaterThan(20);
    expect(seen.map(([done]) => done)).toEqual(seen.map((_, i) => i + 1));
    expect(new Set(seen.map(([, total]) => total))).toEqual(new Set([seen.length]));
    const before = device.pipelines.count;
    expect(before).toBe(seen.length);
    await program(device);
    expect(device.pipelines.count).toBe(before);
    await device.prepare(program, () => expect.fail("something is compiled again"));
    await device.destroy();
  });

  it("is left out on a software adapter unless it is asked for", () =>
    withDevice(async (device) => {
      await device.prepare!(program);
      expect((device as WebGpuDevice).pipelines.count > 0).toBe(!here.software);
    }));
});
