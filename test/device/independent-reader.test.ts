/** What we export is read by a program that shares no line with ours: python3 with numpy, in read_checkpoint.py. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { useDevice } from "../helpers/device.ts";
import { tinyConfigs, tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { roundTo } from "../helpers/round-to.ts";

const script = fileURLToPath(new URL("read_checkpoint.py", import.meta.url));
const hasReader = spawnSync("python3", ["-c", "import numpy"]).status === 0;
if (!hasReader && process.env["REQUIRE_PYTHON"] === "1") throw new Error("python3 with numpy is missing, and REQUIRE_PYTHON=1 asks for it");

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "independent-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

describe.skipIf(!hasReader)("an independent reader (needs python3 with numpy)", () => {
  const device = useDevice({ maxShardBytes: 256 });

  it.each(Object.entries(tinyConfigs))("finds in an exported %s model the decoder's tensors, bit for bit", async (name, config) => {
    const decoder = tinyDecoder(config, device());
    const expected: unknown[] = [];
    for (const dtype of ["f32", "f16", "bf16"] as const)
      for (const maxShardBytes of [5e9, 9000]) {
        const place = join(folder, `${name}-${dtype}-${maxShardBytes}`);
        await saveModelFolder(decoder, place, { dtype, maxShardBytes });
        for (const [tensor, values] of tinyWeights(config)) {
          const rounded = values.map((x) => roundTo(x, dtype));
          const hash = createHash("sha256").update(new Uint8Array(rounded.buffer)).digest("hex");
          expected.push([place, tensor, dtype.toUpperCase(), decoder.parameters().get(tensor)!.shape, hash]);
        }
      }
    decoder.dispose();
    const places = new Set(expected.map((line) => (line as string[])[0]!));
    const { stdout, stderr } = spawnSync("python3", [script, ...places], { encoding: "utf8" });
    expect(stderr).toBe("");
    const lines = stdout.trim().split("\n");
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(expected);
  });
});
