/** The engine in a browser: the same src/ and the same WGSL, on Chromium's WebGPU, against the CPU device in Node. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { describe, expect, it } from "vitest";
import { withDevice } from "../helpers/device.ts";
import { serve } from "./server.ts";
import { smoke, type SmokeResult } from "./smoke.ts";

const candidates = [
  process.env["CHROMIUM"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const browserPath = candidates.find((path) => path !== undefined && existsSync(path));

/** A software GPU, and none of the services that a browser starts with. */
const flags = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function smokeInPage(executablePath: string): Promise<SmokeResult> {
  const server = await serve();
  const folder = mkdtempSync(join(tmpdir(), "zerosearch-chromium-"));
  // what points Node's Vulkan at a software GPU is not for the browser, which brings its own
  const ours = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES", "LD_LIBRARY_PATH"];
  const env = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (ours.includes(name) ? [] : [[name, value ?? ""]])),
  );
  const context = await chromium.launchPersistentContext(folder, { executablePath, headless: true, args: flags, env });
  try {
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    await page.goto(server.url);
    const failed = new Promise<never>((_, reject) => page.once("pageerror", reject));
    await Promise.race([page.waitForFunction("globalThis.run !== undefined"), failed]);
    const result = await page.evaluate<SmokeResult>("run()");
    expect(complaints).toEqual([]);
    return result;
  } finally {
    await context.close();
    await server.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

describe("in headless Chromium", () => {
  it("ops forward and backward, training steps and greedy generation are those of the CPU device in Node", async (context) => {
    if (browserPath === undefined) {
      const missing = `no Chromium was found; looked for ${candidates.filter((path) => path !== undefined).join(", ")}; CHROMIUM names another`;
      if (process.env["REQUIRE_WEBGPU"] === "1") throw new Error(`REQUIRE_WEBGPU: ${missing}`);
      context.skip(missing);
      return;
    }
    const want = await withDevice(smoke, { device: "cpu" });
    const got = await smokeInPage(browserPath);
    expect(got.description).toMatch(/^webgpu: /);
    expect(Object.keys(got.numbers)).toEqual(Object.keys(want.numbers));
    const apart = Object.entries(want.numbers).map(([name, values]) => ({ name, distance: distance(got.numbers[name]!, values) }));
    expect(apart.filter(({ distance: far }) => !(far < 1e-4))).toEqual([]);
    expect(got.ids).toEqual(want.ids);
    expect(want.ids.map((ids) => ids.length)).toEqual([20, 20, 20]);
  });
});

/** ||got - want|| / ||want||. */
function distance(got: readonly number[], want: readonly number[]): number {
  expect(got.length).toBe(want.length);
  const norm = (values: readonly number[]): number => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return norm(want.map((x, i) => got[i]! - x)) / Math.max(norm(want), 1e-30);
}
