#!/usr/bin/env node
/**
 * Runs the tests: `npm test`, or `node scripts/test.js --project unit` and whatever else Vitest takes. Says first which device
 * computes; the last line is always `N passed, N failed, N skipped`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "zerosearch-test-"));
const report = join(folder, "report.json");

console.log(`Node ${process.version}; device: ${await describeDevice().catch((error) => `unavailable (${error.message})`)}`);
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const { status } = spawnSync(process.execPath, [vitest, "run", ...reporters, ...process.argv.slice(2)], { cwd: root, stdio: "inherit" });
const counts = count();
rmSync(folder, { recursive: true, force: true });
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 && status === 0 ? 0 : 1;

/** A file that cannot even be loaded, and a crash outside of tests, are a failure each. */
function count() {
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0 };
  const { testResults } = JSON.parse(readFileSync(report, "utf8"));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of testResults) {
    if (file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed")) counts.failed++;
    for (const test of file.assertionResults) counts[test.status === "passed" || test.status === "failed" ? test.status : "skipped"]++;
  }
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

async function describeDevice() {
  const door = new URL("../dist/device/create.js", import.meta.url);
  if (!existsSync(door)) return "not built yet (npm run build)";
  const { createDevice } = await import(door.href);
  const device = await createDevice();
  const { description } = device;
  await device.destroy();
  return description;
}
