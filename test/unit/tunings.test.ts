/** The table of tunings that users have measured, and which variant is taken. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { genericGpu } from "../../src/device/kinds/webgpu.ts";
import { findTuning, tuningsOf, withTuning } from "../../src/device/tunings.ts";
import { clearWinner } from "../../src/device/webgpu/tune-choice.ts";
import { planOf, timedProducts } from "../../src/device/webgpu/tune-products.ts";
import { defaultTuning, type Tuning, type TuningPlace } from "../../src/device/webgpu/tuning.ts";

const folder = mkdtempSync(join(tmpdir(), "tunings-"));
const file = join(folder, "tunings.json");
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const place: TuningPlace = { adapter: "nvidia-h200", driver: "NVIDIA: 580.82.07", precision: "f16", kernels: "subgroups of 32" };
const tuning: Tuning = { measured: "2026-12-01", groups: 64, plain: {}, matrix: { rows16: "16x64x64" } };
const save = (at: TuningPlace, what: Tuning, version?: string): void => writeFileSync(file, withTuning(at, what, file, version));

describe("the table of tunings", () => {
  beforeEach(() => {
    rmSync(file, { force: true });
  });

  it("gives back what was measured, for the very adapter, driver, precision and tiers, and the version that measured it", () => {
    save(place, tuning);
    expect(findTuning(place, file)).toEqual(tuning);
    expect(findTuning({ ...place, adapter: "nvidia-h100" }, file)).toBeNull();
    expect(findTuning({ ...place, driver: "NVIDIA: 615.71" }, file)).toBeNull();
    expect(findTuning({ ...place, precision: "f32" }, file)).toBeNull();
    expect(findTuning({ ...place, kernels: "subgroups of 32, shader-f16" }, file)).toBeNull();
    expect(findTuning(place, file, "0.0.0-other")).toBeNull();
  });

  it("has one row for a place, keeps those of others, and drops those of other versions", () => {
    save(place, tuning, "0.0.0-old");
    save({ ...place, precision: "f32" }, { ...tuning, groups: 8 });
    save(place, { ...tuning, groups: 16 });
    save(place, { ...tuning, groups: 32 });
    expect(tuningsOf({ name: place.adapter, driver: place.driver }, file).map((row) => [row.precision, row.tuning.groups])).toEqual([
      ["f32", 8],
      ["f16", 32],
    ]);
    expect(findTuning(place, file, "0.0.0-old")).toBeNull();
    expect(tuningsOf({ name: place.adapter, driver: "another" }, file)).toEqual([]);
  });

  it("is empty where its file is missing, damaged or not a table, and passes over rows that are none", () => {
    expect(findTuning(place, file)).toBeNull();
    for (const text of ["", '{"tunings": [', "null", "7", '{"tunings": {}}']) {
      writeFileSync(file, text);
      expect(findTuning(place, file), text).toBeNull();
    }
    save(place, tuning);
    const { tunings } = JSON.parse(readFileSync(file, "utf8")) as { tunings: object[] };
    const odd = [
      null,
      { ...tunings[0], tuning: { groups: "many" } },
      { ...place, version: 3 },
      { ...tunings[0], tuning: { ...tuning, groups: 0 } },
    ];
    writeFileSync(file, JSON.stringify({ tunings: [...odd, ...tunings] }));
    expect(findTuning(place, file)).toEqual(tuning);
  });
});

describe("a variant is taken", () => {
  const one = (groups: number, ...times: number[]) => ({ tuning: { ...defaultTuning, groups }, times });
  const winner = (base: readonly number[], ...candidates: ReturnType<typeof one>[]) => clearWinner(base, candidates)?.tuning.groups ?? null;

  it("where it is at least 5 % faster on the products that it changes, and then the fastest over all", () => {
    expect(winner([1, 1, 1], one(8, 0.96, 0.96, 0.96))).toBeNull();
    expect(winner([1, 1, 1], one(8, 1, 1, 1))).toBeNull();
    // that it changes one product only does not count against it
    expect(winner([1, 1, 1], one(8, 1, 1, 0.9))).toBe(8);
    expect(winner([1, 1, 1], one(8, 1, 1, 0.8), one(16, 0.9, 0.85, 0.9))).toBe(16);
  });

  it("where it is nowhere clearly slower, and nothing about it is wrong", () => {
    expect(winner([1, 1], one(8, 0.5, 1.04))).toBe(8);
    expect(winner([1, 1], one(8, 0.5, 1.06))).toBeNull();
    expect(winner([1, 1], one(8, 0.5, Infinity), one(16, 0.9, 0.9))).toBe(16);
  });
});

describe("the products that are timed", () => {
  it("reach every class of rows, whatever they are shrunk by", () => {
    for (const shrink of [1, 2, 4, 8, 16]) {
      const rows = new Set(timedProducts(shrink).map(({ M }) => M));
      for (const M of [1, 8, 32, 64]) expect(rows).toContain(M);
      expect([...rows].filter((M) => M > 64).length).toBeGreaterThanOrEqual(2);
    }
    expect(
      timedProducts(1)
        .filter(({ M }) => M === 1)
        .map(({ N, K }) => [N, K]),
    ).toEqual([
      ...[
        [4864, 896],
        [896, 4864],
        [896, 896],
      ],
      ...[
        [11008, 2048],
        [2048, 11008],
        [2048, 2048],
      ],
    ]);
  });

  it("are one plan where a tuning changes nothing about them, and others where it does", () => {
    const { capabilities } = genericGpu;
    const product = timedProducts(1).find(({ M, K }) => M === 8 && K === 4864)!;
    const plan = (groups: number) => planOf({ ...capabilities, tuning: { ...defaultTuning, groups } }, "f32", product);
    // 14 tiles and 19 chunks of K: for 264 workgroups all chunks are shared out, for 16 two slices
    expect([132, 264, 8].map((groups) => plan(groups).text)).toEqual(["8x64x32, K in 19", "8x64x32, K in 19", "8x64x32, K in 2"]);
    expect(plan(264).key).toBe(plan(132).key);
    expect(plan(8).key).not.toBe(plan(132).key);
  });
});
