/**
 * Vitest's runner for the project `webgpu`. Where there is no adapter its tests are skipped, all of them and before anything is opened.
 * With REQUIRE_WEBGPU=1 that is a failure of each file, and so is an adapter without a tier of REQUIRE_WEBGPU_TIERS (names of tiers,
 * with commas between them).
 */
import { TestRunner, type RunnerTestFile, type RunnerTestSuite } from "vitest";
import { dawn } from "../../src/device/dawn.ts";
import { capabilitiesOf, factsOf, tierReasons } from "../../src/device/webgpu/adapter.ts";
import { tiers, type Tier } from "../../src/device/webgpu/capabilities.ts";

/** What this process lacks; null where nothing is missing. */
const lacking: Promise<string | null> = whatIsMissing();

async function whatIsMissing(): Promise<string | null> {
  const adapter = await (await dawn()).requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) return "Dawn finds no WebGPU adapter (zerosearch doctor says why)";
  const facts = factsOf(adapter);
  const { subgroupSize, f16, matrix } = capabilitiesOf(facts, new Set());
  const has: Readonly<Record<Tier, boolean>> = { subgroups: subgroupSize > 0, "shader-f16": f16, "subgroup-matrix": matrix !== null };
  const asked = (process.env["REQUIRE_WEBGPU_TIERS"] ?? "").split(",").filter((name) => name !== "");
  for (const name of asked) {
    const tier = tiers.find((one) => one === name);
    if (tier === undefined) return `REQUIRE_WEBGPU_TIERS: there is no tier ${name}; expected ${tiers.join(", ")}`;
    if (!has[tier]) return `${facts.name} has no ${tier}: ${tierReasons(facts, new Map()).get(tier) ?? "unknown why"}`;
  }
  return null;
}

const required = process.env["REQUIRE_WEBGPU"] === "1" || process.env["REQUIRE_WEBGPU_TIERS"] !== undefined;

export default class WebGpuRunner extends TestRunner {
  override async importFile(path: string, source: "collect" | "setup"): Promise<unknown> {
    const missing = await lacking;
    if (missing !== null && required && source === "collect") throw new Error(`REQUIRE_WEBGPU: ${missing}`);
    return super.importFile(path, source);
  }

  async onCollected(files: RunnerTestFile[]): Promise<void> {
    if ((await lacking) !== null) files.forEach(skip);
  }
}

function skip(suite: RunnerTestSuite): void {
  if (suite.mode === "run") suite.mode = "skip";
  for (const task of suite.tasks) {
    if (task.type === "suite") skip(task);
    else if (task.mode === "run") task.mode = "skip";
  }
}
