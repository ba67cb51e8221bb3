/** `zerosearch doctor --tune` on the adapter that is here: measured, kept, read by the next start. Skipped where there is none. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

interface Table {
  readonly tunings: readonly { readonly version: string; readonly tuning: object }[];
}

function doctor(words: readonly string[], cache = folder) {
  return start(process.execPath, [join(root, "bin", "zerosearch.js"), "doctor", ...words, "--quick"], { env: { XDG_CACHE_HOME: cache } });
}
/** What the device says of itself that is opened next. */
async function check(): Promise<string> {
  const { code, stdout } = await doctor(["--check", "webgpu"]);
  expect(code).toBe(0);
  return stdout;
}

describe.skipIf(adapters.length === 0 && process.env["REQUIRE_WEBGPU"] !== "1")("zerosearch doctor --tune", () => {
  it("prints a table, and keeps what it measured for the next start, until the version changes", async () => {
    expect(await check()).not.toContain("tuned");
    const { code, stdout } = await doctor(["--tune", "--precision", "f32", "--seconds", "2"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^tuning f32 (\d+)\/\1 /m);
    expect(stdout).toMatch(/^product +rule +ms +tuned +ms +faster +bits$/m);
    expect(stdout).toMatch(/^\[1, \d+\] x \[\d+, \d+\] .* same, \d+ variants?$/m);
    expect(stdout).toContain(`kept in ${file}`);
    if (adapters[0]?.software === true) expect(stdout).toContain("This is a software adapter");

    const { tunings } = JSON.parse(readFileSync(file, "utf8")) as Table;
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(tunings).toEqual([expect.objectContaining({ version, precision: "f32" })]);
    expect(await check()).toMatch(/, tuned \d{4}-\d\d-\d\d; /);

    const other = tunings.map((row) => ({ ...row, version: `${version}-other` }));
    writeFileSync(file, JSON.stringify({ tunings: other }));
    expect(await check()).not.toContain("tuned");
  });

  it("computes by the rule where the table names what does not exist", async () => {
    const { tunings } = JSON.parse(readFileSync(file, "utf8")) as Table;
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const odd = { groups: 3, plain: { rows8: "none", rows64: "1x1x1", more: "" }, matrix: { more: "9" } };
    writeFileSync(file, JSON.stringify({ tunings: tunings.map((row) => ({ ...row, version, tuning: odd })) }));
    expect(await check()).toMatch(/ok: .*, tuned; .* GFLOP/);
  });

  it("prints what it measured where it cannot be kept, with exit code 1", async () => {
    const { code, stdout } = await doctor(["--tune", "--precision", "f32", "--seconds", "15", "--json"], file);
    expect(code).toBe(1);
    const report = JSON.parse(stdout) as { reports: { kept: boolean; products: object[] }[]; problems: string[] };
    expect(report.problems).toEqual([expect.stringMatching(/^f32: .*tunings\.json: /)]);
    expect(report.reports).toMatchObject([{ kept: false, faults: [] }]);
    expect(report.reports[0]!.products.length).toBeGreaterThan(0);
  });
});

describe("zerosearch doctor --tune, asked wrongly", () => {
  it.each([
    [["--precision", "f64"], /--precision: wrong value; expected f32 or f16, got f64/],
    [["--seconds", "0"], /--seconds: wrong value; expected a number above 0, got 0/],
    [["--check", "webgpu"], /--tune: does not go with --check/],
    [["--adapter", "no such GPU"], /no adapter was found/],
  ] as const)("says what is wrong with %j", async (words, message) => {
    const { code, stderr } = await doctor(["--tune", ...words]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});
