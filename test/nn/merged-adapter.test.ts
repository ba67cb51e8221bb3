import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { exportModel } from "../../src/checkpoint/merge.ts";
import { loadAdapter, saveAdapter } from "../../src/checkpoint/peft.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { Decoder } from "../../src/nn/decoder.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { useDevice } from "../helpers/device.ts";
import { randomPairs, writeAdapter } from "../helpers/lora-adapter.ts";
import { randomIds, tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "merged-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** Logits of two sequences, [N, V]. */
async function logits(decoder: Decoder, adapter?: string): Promise<Float32Array> {
  const ids = [randomIds(9, 41, 1), randomIds(5, 41, 2)];
  const tensor = withScope(() => decoder.logits(decoder.forward(packBatch(decoder.device, ids), { adapter })));
  const values = await tensor.readFloats();
  tensor.dispose();
  return values;
}

/** Largest difference as a share of the largest number. */
function distance(a: Float32Array, b: Float32Array): number {
  return Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) / Math.max(...b.map(Math.abs));
}

describe("a merged model", () => {
  const device = useDevice();
  for (const [name, config] of Object.entries(tinyConfigs))
    it(`gives the logits of ${name} with the adapter beside it, and so does the adapter saved again`, async () => {
      const place = (part: string): string => join(folder, `${name}-${part}`);
      await saveModelFolder(tinyDecoder(config, new ReferenceDevice()), place("base"));
      const rankOf = (module: string): number | null => (module.endsWith("o_proj") ? null : module.endsWith("q_proj") ? 3 : 4);
      const fields = { target_modules: "all-linear", exclude_modules: ["o_proj"], rank_pattern: { q_proj: 3 }, use_rslora: true };
      await writeAdapter(place("adapter"), randomPairs(config, rankOf), fields);
      await exportModel({ base: place("base"), adapter: place("adapter"), to: place("merged") });
      const base = await loadDecoder(place("base"), device());
      await loadAdapter(base, "a", place("adapter"));
      await saveAdapter(base, "a", place("again"), { baseModel: "base" });
      await loadAdapter(base, "b", place("again"));
      const merged = await loadDecoder(place("merged"), device());
      const [plain, adapted, again, whole] = [await logits(base), await logits(base, "a"), await logits(base, "b"), await logits(merged)];
      expect(distance(whole, adapted)).toBeLessThan(5e-6);
      expect(again).toEqual(adapted);
      expect(distance(plain, adapted)).toBeGreaterThan(0.05);
      base.dispose();
      merged.dispose();
    });
});
