/** Where machine code may not be made, programs say so in their first line and train to the same bits. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { start } from "../helpers/program.ts";
import { root } from "../helpers/tiny-quickstart.ts";

const folder = mkdtempSync(join(tmpdir(), "zerosearch-native-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** One step of the quickstart's witness, by a Node with these flags. */
async function step(name: string, flags: readonly string[], settings: readonly string[] = []): Promise<{ first: string; last: string }> {
  const paths = ["runs", "checkpoints"].map((what) => `output.${what}=${join(folder, name, what)}`);
  const witness = join(root, "test/witness/quickstart.json");
  const program = join(root, "bin/zerosearch.js");
  const { stdout, stderr } = await start(process.execPath, [
    ...flags,
    ...[program, "reproduce", witness, "--steps", "1"],
    ...[...settings, ...paths],
  ]);
  const lines = stdout.trim().split("\n");
  return { first: lines.find((line) => line.startsWith("device: ")) ?? `${stdout}${stderr}`, last: lines.at(-1) ?? "" };
}

describe("one step of the quickstart", () => {
  it("has the witness' bits with machine code and without", async () => {
    const { first, last } = await step("with", []);
    expect(first).toMatch(
      process.arch === "x64" ? /, (products and attention in AVX(2|-512)|no) machine code/ : /, no machine code: none for /,
    );
    expect(last).toMatch(/^the same: 1 of /);
    const off = await step("off", [], ["device.native=off"]);
    expect(off.first).toContain("WASM SIMD relaxed FMA, no machine code: device.native=off (auto: ");
    expect(off.last).toMatch(/^the same: 1 of /);
  });
});

const product = `
  const { createDevice, fromHost, matmul } = await import("zerosearch");
  const device = await createDevice({ threads: 2 });
  const values = (n) => Float32Array.from({ length: n }, (_, i) => Math.sin(i));
  const c = matmul(fromHost(device, values(37 * 300), [37, 300]), fromHost(device, values(300 * 41), [300, 41]));
  const { createHash } = await import("node:crypto");
  console.log(createHash("sha256").update(Buffer.from((await c.read()).buffer)).digest("hex"), device.detail);
  await device.destroy();
`;

describe("a product", () => {
  it.skipIf(process.arch !== "x64")("has the same bits under --no-addons and the permission model, which forbid machine code", async () => {
    const permission = Number(process.versions.node.split(".")[0]) >= 24 ? "--permission" : "--experimental-permission";
    const results: string[][] = [];
    for (const flags of [[], ["--no-addons"], [permission, "--allow-fs-read=*", "--allow-worker"]]) {
      const { stdout, stderr } = await start(process.execPath, [...flags, "--input-type=module", "--eval", product]);
      results.push((stdout === "" ? stderr : stdout).trim().split(" "));
    }
    const [[hash] = [], ...forbidden] = results;
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    for (const [bits, ...detail] of forbidden) {
      expect(detail.join(" ")).toMatch(/^no machine code: Cannot load native addon/);
      expect(bits).toBe(hash);
    }
  });
});
