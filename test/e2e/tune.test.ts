/** `zerosearch doctor --tune` on the adapter that is here: measured, kept, read by the next start. Skipped where there is none. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { probeAdapters } from "../../src/device/probe.ts";
import { start } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

const { adapters } = await probeAdapters();
const folder = mkdtempSync(join(tmpdir(), "tune-"));
const file = join(folder, "zerosearch", "tunings.json");
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function doctor(words: readonly string[], cache = folder) {
  return start(process.execPath, [join(root, "bin", "zerosearch.js"), "doctor", ...words, "--quick"], { env: { XDG_CACHE_HOME: cache } });
}
/** What the device says of itself that is opened next. */
async function check(): Promise<string> {
  const { code, stdout } = await doctor(["--check", "webgpu"]);
  expect(code).toBe(0);
  return stdout;
}

// A second is too little on software adapters, which compile for minutes; hardware may choose something in it.
describe.skipIf(adapters[0]?.software !== true && process.env["REQUIRE_WEBGPU"] !== "1")("zerosearch doctor --tune", () => {
  const version = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }).version;
  const valid = { measured: "2026-11-01", groups: 64, plain: { rows8: "8x64x16" }, matrix: {} };
  let place: object;

  it("prints what it measured, and keeps nothing where there was no time to choose", async () => {
    expect(await check()).not.toContain("tuned");
    const { code, stdout } = await doctor(["--tune", "--precision", "f32", "--seconds", "5"]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^f32: the device is opened and tests itself/m);
    expect(stdout).toMatch(/^tuning f32 (\d+)\/\1 /m);
    expect(stdout).toMatch(/^product +rule +ms +tuned +ms +faster +bits$/m);
    expect(stdout).toMatch(/^\[1, \d+\] x \[\d+, \d+\] .* same, \d+ variants?$/m);
    expect(stdout).toMatch(/^too little was measured to decide: groups, rows8, /m);
    expect(stdout).toMatch(/^not kept: f32: too little could be measured to choose anything$/m);
    if (adapters[0]?.software === true) expect(stdout).toContain("This is a software adapter");
    expect(existsSync(file)).toBe(false);
  });

  it("leaves what was kept, which the next start reads, until the version changes", async () => {
    const { code, stdout } = await doctor(["--tune", "--precision", "f32", "--seconds", "1", "--json"]);
    expect(code).toBe(1);
    const report = JSON.parse(stdout) as { reports: { kept: boolean; place: object }[] };
    expect(report.reports).toMatchObject([{ kept: false, faults: [] }]);
    place = report.reports[0]!.place;
    mkdirSync(join(folder, "zerosearch"));
    const write = (row: object): void => writeFileSync(file, JSON.stringify({ tunings: [{ ...place, version, tuning: valid, ...row }] }));
    write({});
    const bytes = readFileSync(file, "utf8");
    expect(await check()).toMatch(/, tuned 2026-11-01; /);
    expect((await doctor(["--tune", "--precision", "f32", "--seconds", "1"])).stdout).toContain("what was kept before stays");
    expect(readFileSync(file, "utf8")).toBe(bytes);
    write({ version: `${version}-other` });
    expect(await check()).not.toContain("tuned");
    // What says nothing, or only what does not exist, is not followed, and not said.
    for (const tuning of [
      { ...valid, plain: { rows8: "none", rowsX: "8x64x16" }, groups: 132 },
      { ...valid, groups: 1e9 },
      { ...valid, measured: "\u001b[31m" },
    ]) {
      write({ tuning });
      expect(await check()).not.toContain("tuned");
    }
  });
});

describe("zerosearch doctor --tune, asked wrongly", () => {
  it.each([
    [["--precision", "f64"], /--precision: wrong value; expected f32 or f16, got f64/],
    [["--seconds", "0"], /--seconds: wrong value; expected a number above 0, got 0/],
    [["--check", "webgpu"], /--tune: does not go with --check/],
    [["--robust"], /--robust: goes with --check only/],
    [["--adapter", "no such GPU"], /no adapter was found/],
  ] as const)("says what is wrong with %j", async (words, message) => {
    const { code, stderr } = await doctor(["--tune", ...words]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});
