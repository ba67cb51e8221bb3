#!/usr/bin/env node
/**
 * Runs the tests: `npm test`, or `node scripts/test.js --project unit` and whatever else Vitest takes. Says first which devices there
 * are; the last line is always `N passed, N failed, N skipped`.
 *
 * REQUIRE_WEBGPU=1: a missing WebGPU adapter or browser is a failure, not a skip. REQUIRE_WEBGPU_TIERS=shader-f16,subgroup-matrix: an
 * adapter without one of them too. REQUIRE_PYTHON=1: so is a missing python3 with numpy; REQUIRE_GOLDEN=1: so are missing golden outputs.
 * TEST_LAUNCHER: the command that runs Vitest instead of this Node, as words.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "zerosearch-test-"));
const report = join(folder, "report.json");
const launcher = (process.env.TEST_LAUNCHER ?? "").split(" ").filter((word) => word !== "");
const [command, ...before] = launcher.length === 0 ? [process.execPath] : launcher;

console.log(`Node ${process.version}; ${await describeDevices().catch((error) => `devices unavailable (${error.message})`)}`);
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const words = [...before, vitest, "run", ...reporters, ...process.argv.slice(2)];
const { status, signal, error } = spawnSync(command, words, { cwd: root, stdio: "inherit" });
if (error !== undefined) console.log(`Vitest could not be started: ${error.message}`);
else if (signal !== null) console.log(`Vitest was ended by ${signal}`);
else if (!existsSync(report)) console.log(`Vitest ended with code ${status} before it wrote its report`);
const counts = count();
rmSync(folder, { recursive: true, force: true });
for (const name of counts.names) console.log(`failed: ${name}`);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 && status === 0 ? 0 : 1;

/** A file that cannot even be loaded, and a crash outside of tests, are a failure each. */
function count() {
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0, names: ["the run, which left no report"] };
  const { testResults } = JSON.parse(readFileSync(report, "utf8"));
  const counts = { passed: 0, failed: 0, skipped: 0, names: [] };
  const fail = (name) => {
    counts.failed++;
    counts.names.push(name);
  };
  for (const file of testResults) {
    const path = relative(root, file.name);
    if (file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed")) fail(`${path}, outside its tests`);
    for (const test of file.assertionResults) {
      if (test.status === "failed") fail(`${path}: ${test.fullName}`);
      else counts[test.status === "passed" ? "passed" : "skipped"]++;
    }
  }
  if (status !== 0 && counts.failed === 0) fail(`Vitest, with code ${status}, outside its tests`);
  return counts;
}

/** The CPU device, and the adapters that the tests of `webgpu` can run on. */
async function describeDevices() {
  const door = (name) => new URL(`../dist/device/${name}.js`, import.meta.url);
  if (!existsSync(door("probe"))) return "devices: not built yet (npm run build)";
  const { createDevice } = await import(door("create").href);
  const { probeAdapters } = await import(door("probe").href);
  const device = await createDevice();
  const { description } = device;
  await device.destroy();
  const { adapters, failure } = await probeAdapters({ command: [command, ...before] });
  const names = adapters.map(({ fullName, driver }) => `${fullName}, ${driver}`).join(" | ");
  const without = process.env.REQUIRE_WEBGPU === "1" ? "which REQUIRE_WEBGPU=1 makes a failure" : "its tests are skipped";
  return `devices: ${description}; webgpu: ${names || `${failure ?? "no adapter"}, ${without}`}`;
}
