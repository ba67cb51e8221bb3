/** What `doctor --tune` keeps of what it has measured. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { keep } from "../../src/commands/doctor/tune.ts";
import { findTuning } from "../../src/device/tunings.ts";
import type { TuningReport } from "../../src/device/webgpu/tune-report.ts";
import { cacheHome } from "../../src/device/measured.ts";

const folder = mkdtempSync(join(tmpdir(), "tune-keep-"));
afterAll(() => rmSync(folder, { recursive: true }));

const place = { adapter: "GPU", driver: "1", precision: "f16", kernels: "subgroups of 32" } as const;
const report = (more: Partial<TuningReport>): TuningReport => ({
  ...{ place, software: false, device: "GPU", products: [], faults: [], undecided: [], decided: true, left: 0 },
  tuning: { groups: 64, plain: {}, matrix: { rows16: "16x64x64" } },
  ...more,
});

describe("what is measured", () => {
  const file = join(folder, "zerosearch", "tunings.json");

  it("is kept with its date", async () => {
    expect(await keep(report({}), file)).toBeNull();
    const kept = findTuning(place, file)!;
    expect(kept).toEqual({
      measured: expect.stringMatching(/^\d{4}-\d\d-\d\d$/) as string,
      groups: 64,
      plain: {},
      matrix: { rows16: "16x64x64" },
    });
  });

  it("leaves as it was what there was no time to decide", async () => {
    const tuning = { groups: 132, plain: {}, matrix: { more: "128x64x32" } };
    expect(await keep(report({ tuning, undecided: ["groups", "rows16"] }), file)).toBeNull();
    expect(findTuning(place, file)).toMatchObject({ groups: 64, matrix: { rows16: "16x64x64", more: "128x64x32" } });
    // decided, and the rule's tile is the best
    expect(await keep(report({ tuning, undecided: ["groups"] }), file)).toBeNull();
    expect(findTuning(place, file)!.matrix).toEqual({ more: "128x64x32" });
    const bytes = readFileSync(file, "utf8");
    expect(await keep(report({ decided: false }), file)).toBe(
      "too little could be measured to choose anything; what was kept before stays",
    );
    expect(readFileSync(file, "utf8")).toBe(bytes);
  });

  it("is not kept where that cannot be written, which is said", async () => {
    const blocked = join(folder, "blocked");
    writeFileSync(blocked, "");
    expect(await keep(report({}), join(blocked, "tunings.json"))).toMatch(/tunings\.json: /);
    expect(await keep(report({ decided: false }), join(folder, "none.json"))).toBe("too little could be measured to choose anything");
  });
});

it("the cache is at home where XDG_CACHE_HOME is no absolute folder", () => {
  expect(cacheHome({}, "/home/a")).toBe("/home/a/.cache");
  expect(cacheHome({ XDG_CACHE_HOME: "" }, "/home/a")).toBe("/home/a/.cache");
  expect(cacheHome({ XDG_CACHE_HOME: "there" }, "/home/a")).toBe("/home/a/.cache");
  expect(cacheHome({ XDG_CACHE_HOME: "/cache" }, "/home/a")).toBe("/cache");
});
