/** Which tiles products are cut into: by the rule, and by a tuning that was measured. */
import { describe, expect, it } from "vitest";
import { genericGpu } from "../../src/device/kinds/webgpu.ts";
import type { Capabilities } from "../../src/device/webgpu/capabilities.ts";
import {
  largeGroups,
  matrixTile,
  plainTile,
  slicesFor,
  smallGroups,
  tileNames,
  type MatrixTile,
} from "../../src/device/webgpu/kernels/matmul-tiles.ts";
import { defaultTuning, tileName, type Tuning } from "../../src/device/webgpu/tuning.ts";

const { capabilities: large } = genericGpu;
const least: Capabilities = { ...large, maxWorkgroupMemory: 16384, maxInvocations: 256 };
const tuned = (changes: Partial<Tuning>, on: Capabilities = large): Capabilities => ({ ...on, tuning: { ...defaultTuning, ...changes } });

/** Columns of the layers of models: of each, or of several that are one product. */
const columns = [[64], [896], [2048], [4864], [4864, 4864], [896, 128, 128], [11008], [151936]];
const plainRow = (on: Capabilities, M: number): string =>
  columns
    .filter((each) => each.length === 1)
    .map(([N]) => tileName(plainTile(on, M, N!)))
    .join(" ");
const inWords = (tile: MatrixTile): string => `${tileName(tile)}${tile.buffers === 2 ? "*2" : ""}`;
const matrixRow = (on: Capabilities, M: number): string => columns.map((each) => inWords(matrixTile(on, M, each))).join(" ");
const rows = (row: (M: number) => string, each: readonly number[]) => Object.fromEntries(each.map((M) => [M, row(M)]));

describe("the rule without a tuning", () => {
  it("takes these tiles for products without matrices", () => {
    const low = Array<string>(6).fill("8x64x32").join(" ");
    const middle = Array<string>(6).fill("32x64x32").join(" ");
    const half = "64x64x16 64x64x16 64x64x16 64x64x16 64x64x16 128x64x16";
    expect(rows((M) => plainRow(large, M), [1, 8, 9, 32, 33, 65, 256, 1024, 4096])).toEqual({
      ...{ 1: low, 8: low, 9: middle, 32: middle, 33: half, 65: half },
      256: "64x64x16 64x64x16 64x64x16 64x64x16 128x64x16 128x64x16",
      1024: "64x64x16 64x64x16 64x64x16 128x64x16 128x64x16 128x64x16",
      4096: "64x64x16 128x64x16 128x64x16 128x64x16 128x64x16 128x64x16",
    });
    const software = { ...large, software: true };
    expect(rows((M) => plainRow(software, M), [8, 32, 256])).toEqual({
      8: low.replaceAll("x32", "x16"),
      32: middle.replaceAll("64x32", "64x16"),
      256: "64x64x16 64x64x16 64x64x16 64x64x16 128x64x16 128x64x16",
    });
  });

  it("takes these tiles for products by matrices, where limits are wide and where they are the least", () => {
    const low = "16x32x128 16x32x128 16x32x128 16x32x128 16x64x64 16x32x128 16x64x64 16x64x64";
    const middle = "32x32x64 32x32x64 32x32x64 32x32x64 32x64x64 32x32x64 32x64x64 32x64x64";
    const high = "64x32x64 64x32x64 64x32x64 64x32x64 64x64x64 64x32x64 64x64x64 64x128x64";
    expect(rows((M) => matrixRow(large, M), [1, 16, 17, 32, 33, 64, 65, 256, 1024, 4096])).toEqual({
      ...{ 1: low, 16: low, 17: middle, 32: middle, 33: high, 64: high },
      65: "64x64x32*2 64x64x32*2 64x64x32*2 64x64x32*2 128x64x32*2 64x64x32*2 128x64x32*2 128x128x32*2",
      256: "64x64x32*2 64x64x32*2 64x64x32*2 128x64x32*2 128x128x32*2 64x64x32*2 128x128x32*2 128x128x32*2",
      1024: "64x64x32*2 64x64x32*2 128x64x32*2 128x128x32*2 128x128x32*2 128x64x32*2 128x128x32*2 128x128x32*2",
      4096: "64x64x32*2 128x128x32*2 128x128x32*2 128x128x32*2 128x128x32*2 128x128x32*2 128x128x32*2 128x128x32*2",
    });
    expect(rows((M) => matrixRow(least, M), [1, 64, 256, 1024])).toEqual({
      1: low,
      64: Array<string>(8).fill("64x32x64").join(" "),
      256: "64x64x32 64x64x32 64x64x32 128x64x32 128x64x32 64x64x32 128x64x32 128x64x32",
      1024: "64x64x32 64x64x32 128x64x32 128x64x32 128x64x32 128x64x32 128x64x32 128x64x32",
    });
  });

  it("shares K until two small workgroups, or a large one, are on each of 132 multiprocessors", () => {
    expect([smallGroups(large), largeGroups(large)]).toEqual([264, 132]);
    expect([1, 7, 200, 264, 300].map((tiles) => slicesFor(tiles, 8, smallGroups(large)))).toEqual([8, 8, 2, 1, 1]);
  });
});

describe("a tuning", () => {
  it("says for how many workgroups products are split, and from how many on tiles are large", () => {
    const small = tuned({ groups: 8 });
    expect([smallGroups(small), largeGroups(small)]).toEqual([16, 8]);
    expect(plainRow(small, 65)).toBe("64x64x16 64x64x16 128x64x16 128x64x16 128x64x16 128x64x16");
    expect(matrixRow(small, 65).split(" ").slice(0, 3)).toEqual(["64x64x32*2", "128x64x32*2", "128x128x32*2"]);
    expect(tileName(matrixTile(small, 1, [896]))).toBe("16x64x64");
  });

  it("names tiles for classes of rows, and leaves the other classes to the rule", () => {
    const named = tuned({ plain: { rows32: "16x64x32", more: "128x128x16" }, matrix: { rows64: "16x64x64", more: "64x128x64" } });
    expect([8, 9, 32, 33, 64, 65].map((M) => tileName(plainTile(named, M, 896)))).toEqual([
      ...["8x64x32", "16x64x32", "16x64x32", "64x64x16", "64x64x16", "128x128x16"],
    ]);
    expect([32, 33, 64, 65].map((M) => tileName(matrixTile(named, M, [896])))).toEqual(["32x32x64", "16x64x64", "16x64x64", "64x128x64"]);
  });

  it("is not followed where it names a tile that does not exist, that the adapter cannot hold, or that is for other rows", () => {
    const odd = {
      plain: { rows8: "7x64x32", more: "128x128x16" },
      matrix: { rows16: "constructor", rows64: "64x128x64", more: "16x32x128" },
    };
    for (const M of [1, 64, 256]) {
      expect(plainRow(tuned(odd, least), M)).toBe(plainRow(least, M));
      expect(matrixRow(tuned(odd, least), M)).toBe(matrixRow(least, M));
    }
    expect(tileNames(large, "plain", 256)).toContain("128x128x16");
    expect(tileNames(least, "plain", 256)).not.toContain("128x128x16");
  });

  it("is not followed where it is damaged", () => {
    for (const groups of [0, -1, 1.5, NaN, Infinity, 1e9, "8" as never]) expect(largeGroups(tuned({ groups }))).toBe(132);
    const without = tuned({ plain: undefined as never, matrix: { __proto__: { rows16: "16x64x64" } } as never });
    expect(plainRow(without, 8)).toBe(plainRow(large, 8));
    expect(matrixRow(without, 8)).toBe(matrixRow(large, 8));
  });
});
