/** Tunings change how products are cut, never their bits; and measuring takes no variant that does. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DeviceOptions } from "../../../src/device/options.ts";
import { tuningsFile, withTuning } from "../../../src/device/tunings.ts";
import { capabilitiesOf } from "../../../src/device/webgpu/adapter.ts";
import { matrixFits, tileNames } from "../../../src/device/webgpu/kernels/matmul-tiles.ts";
import { tuneDevice } from "../../../src/device/webgpu/tune.ts";
import { defaultTuning, rowClass, type ProductKind, type Tuning } from "../../../src/device/webgpu/tuning.ts";
import type { WebGpuDevice } from "../../../src/device/webgpu/webgpu-device.ts";
import { DeviceError } from "../../../src/util/errors.ts";
import { adapterHere } from "../../helpers/adapters.ts";
import { makeDevice } from "../../helpers/device.ts";
import { expectSameBits, randomTensor, runOn } from "../kernels/harness.ts";

const hasMatrices = matrixFits(capabilitiesOf(await adapterHere(), new Set()));
const open = async (precision: "f32" | "f16"): Promise<WebGpuDevice> => (await makeDevice({ precision })) as WebGpuDevice;

/** Two chunks of K by any kernel, and edges in every direction. */
const [N, K] = [257, 301];

describe.each([
  { kind: "plain", precision: "f32", there: !hasMatrices },
  { kind: "matrix", precision: "f16", there: hasMatrices },
] as const)("a $kind product in $precision", ({ kind, precision, there }) => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await open(precision);
  });
  afterAll(() => device.destroy());

  const product = async (M: number, [transA, transB]: readonly [0 | 1, 0 | 1], tuning: Tuning): Promise<Float32Array> => {
    device.retune(tuning);
    const a = transA === 0 ? randomTensor(1, M, K) : randomTensor(1, K, M);
    const b = transB === 0 ? randomTensor(2, K, N, "bf16") : randomTensor(2, N, K, "bf16");
    const [bias, c] = [randomTensor(3, 1, N, "f16"), randomTensor(4, M, N)];
    return (await runOn(device, "matmul", { M, N, K, transA, transB, accumulate: 1 }, [a, b, bias], [c]))[0] as Float32Array;
  };
  const named = (M: number, tile: string, groups: number): Tuning => ({
    ...{ ...defaultTuning, groups },
    [kind satisfies ProductKind]: { [rowClass(kind, M)]: tile },
  });

  /** All tiles, every other one with K shared: compiling each in both ways takes minutes in software. */
  const allTiles = async (M: number, trans: readonly [0 | 1, 0 | 1], want: Float32Array): Promise<void> => {
    const tiles = tileNames(device.capabilities, kind, M);
    expect(tiles.length).toBeGreaterThan(3);
    for (const [i, tile] of tiles.entries()) {
      const groups = i % 2 === 0 ? 264 : 1;
      expectSameBits(await product(M, trans, named(M, tile, groups)), want, `${M} rows by ${tile}, for ${groups} workgroups`);
    }
  };

  it.skipIf(!there)(
    "has the same bits by every tile for few rows, whether workgroups share K or not, in any company",
    async () => {
      const many = await product(130, [0, 1], defaultTuning);
      for (const M of [1, 8, 33, 37]) await allTiles(M, [0, 1], many.subarray(0, M * N));
    },
    300_000,
  );

  it.skipIf(!there)(
    "has the same bits by every tile for many rows, however its operands lie",
    async () => {
      await allTiles(130, [0, 1], await product(130, [0, 1], defaultTuning));
      await allTiles(130, [1, 0], await product(130, [1, 0], defaultTuning));
    },
    300_000,
  );

  it.skipIf(!there)(
    "has the same bits for any number of workgroups",
    async () => {
      const want = await product(37, [0, 1], defaultTuning);
      for (const groups of [1, 5, 8, 16, 32, 64, 264])
        expectSameBits(await product(37, [0, 1], { ...defaultTuning, groups }), want, `for ${groups} workgroups`);
    },
    300_000,
  );
});

describe("a device in Node", () => {
  const kept = process.env["XDG_CACHE_HOME"];
  const folder = mkdtempSync(join(tmpdir(), "kept-"));
  afterAll(() => {
    if (kept === undefined) delete process.env["XDG_CACHE_HOME"];
    else process.env["XDG_CACHE_HOME"] = kept;
    rmSync(folder, { recursive: true });
  });

  it("takes the tuning that is kept for it, unless told another or none, and says so", async () => {
    process.env["XDG_CACHE_HOME"] = folder;
    const tuning: Tuning = { measured: "2026-12-01", groups: 8, plain: { rows8: "16x64x16" }, matrix: {} };
    const seen = async (options: DeviceOptions) => {
      const device = (await makeDevice(options)) as WebGpuDevice;
      const { detail, place, capabilities } = device;
      await device.destroy();
      return { detail, place, groups: capabilities.tuning.groups };
    };
    const before = await seen({ tuning: undefined });
    expect(before).toMatchObject({ detail: undefined, groups: 132 });
    mkdirSync(join(folder, "zerosearch"));
    writeFileSync(tuningsFile(), withTuning(before.place, tuning));
    expect(await seen({ tuning: undefined })).toMatchObject({ detail: "tuned 2026-12-01", groups: 8 });
    expect(await seen({ tuning: false })).toMatchObject({ detail: undefined, groups: 132 });
    expect(await seen({ tuning: { ...tuning, measured: undefined, groups: 16 } })).toMatchObject({ detail: "tuned", groups: 16 });
    // another place: no row
    expect(await seen({ tuning: undefined, precision: "f16" })).toMatchObject({ detail: undefined, groups: 132 });
  });
});

describe("measuring", () => {
  const kind: ProductKind = hasMatrices ? "matrix" : "plain";
  const precision = hasMatrices ? "f16" : "f32";
  const namesTiles = ({ tuning }: { readonly tuning: Tuning }): boolean => Object.keys(tuning[kind]).length > 0;

  it("takes no variant whose bits differ from the rule's, and says which did", async () => {
    const report = await tuneDevice(
      async () => {
        const device = await open(precision);
        const read = device.read.bind(device);
        device.read = async (...what) => {
          const data = await read(...what);
          if (namesTiles(device.capabilities)) data[1]! += 1;
          return data;
        };
        return device;
      },
      { seconds: 4 },
    );
    expect(report.faults.length).toBeGreaterThan(0);
    for (const fault of report.faults) expect(fault).toMatch(/^\[\d+, \d+\].*: row 0, column 1 differs from the rule's in its bits$/);
    expect(report.tuning[kind]).toEqual({});
    expect(report.products[0]).toMatchObject({ M: 1, same: false });
  }, 120_000);

  it("goes on with another device where a variant ends one, and tells how far it is", async () => {
    let opened = 0;
    const progress: number[][] = [];
    const report = await tuneDevice(
      async () => {
        const device = await open(precision);
        opened += 1;
        const read = device.read.bind(device);
        device.read = async (...what) => {
          if (opened === 1 && namesTiles(device.capabilities)) throw new DeviceError({ where: "driver", what: "gave up" });
          return read(...what);
        };
        return device;
      },
      { seconds: 4, onProgress: (done, total) => progress.push([done, total]) },
    );
    expect(opened).toBe(2);
    expect(report.faults).toEqual([expect.stringMatching(/^\[\d+, .*: driver: gave up$/)]);
    const [done, total] = progress[progress.length - 1]!;
    expect(done).toBe(total);
  }, 120_000);
});
