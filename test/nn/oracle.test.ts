import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import { loadAdapter } from "../../src/checkpoint/peft.ts";
import type { Dtype } from "../../src/device/device.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { Decoder } from "../../src/nn/decoder.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { useDevice } from "../helpers/device.ts";

interface Expected {
  readonly ids: readonly number[];
  readonly base: readonly (readonly number[])[];
  readonly adapted: readonly (readonly number[])[];
}

const hasNumpy = spawnSync("python3", ["-c", "import numpy"]).status === 0;
if (!hasNumpy && process.env["REQUIRE_PYTHON"] === "1") throw new Error("python3 with numpy is missing, and REQUIRE_PYTHON=1 asks for it");
const script = fileURLToPath(new URL("../reference/oracle.py", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "zerosearch-oracle-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function lastLogits(decoder: Decoder, ids: readonly number[], adapter?: string): Promise<number[][]> {
  const logits = withScope(() => decoder.logits(decoder.forward(packBatch(decoder.device, [ids]), { adapter })));
  const values = await logits.readFloats();
  logits.dispose();
  const V = decoder.config.vocabulary;
  return [-3, -2, -1].map((row) => [...values.subarray((ids.length + row) * V, (ids.length + row + 1) * V)]);
}

/** Largest difference, as a share of the largest expected number. */
function distance(got: readonly (readonly number[])[], expected: readonly (readonly number[])[]): number {
  const largest = Math.max(...expected.flat().map(Math.abs));
  return Math.max(...expected.flatMap((row, r) => row.map((value, v) => Math.abs(value - got[r]![v]!)))) / largest;
}

describe.skipIf(!hasNumpy)("a folder as transformers writes it, and an adapter as PEFT does (needs python3 with numpy)", () => {
  const device = useDevice();
  it.each([
    ["llama3", "BF16", "--shards"],
    ["llama3", "F16", "--transformers5"],
    ["qwen2", "BF16", "--transformers5"],
    ["qwen2", "F32", "--shards"],
    ["qwen3", "BF16", "--shards"],
    ["qwen3", "F16", "--transformers5"],
    ["qwen2", "F32", "--shards --yarn"],
    ["qwen3", "F32", "--transformers5 --yarn"],
  ])("give the logits of a decoder written in numpy: %s in %s, %s", async (kind, dtype, layout) => {
    const place = join(folder, `${kind}-${dtype}${layout}`);
    execFileSync("python3", [script, kind, dtype, place, ...layout.split(" ")]);
    const { ids, base, adapted } = JSON.parse(readFileSync(join(place, "expected.json"), "utf8")) as Expected;
    // The file's own type and f32 hold the same numbers.
    for (const storage of new Set<Dtype>(["f32", dtype.toLowerCase() as Dtype])) {
      const decoder = await loadDecoder(join(place, "model"), device(), { dtype: storage });
      await loadAdapter(decoder, "a", join(place, "adapter"));
      expect(distance(await lastLogits(decoder, ids), base)).toBeLessThan(5e-6);
      expect(distance(await lastLogits(decoder, ids, "a"), adapted)).toBeLessThan(5e-6);
      decoder.dispose();
    }
  });
});
