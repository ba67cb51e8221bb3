/** The trained 260 K model through files of each type, as both architectures that it was published in. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { Decoder } from "../../src/nn/decoder.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { useDevice } from "../helpers/device.ts";
import { golden, hasGolden, modelFolder } from "../helpers/golden.ts";
import { roundTo } from "../helpers/round-to.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stories-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

describe.skipIf(!hasGolden).each(["stories260K-hf", "stories260K-qwen2"])("%s (needs ../shared/data)", (name) => {
  const device = useDevice({ maxShardBytes: 65536 });
  const ids = hasGolden ? golden().greedy_ids_from_BOS_200new : [];

  /** Of the golden ids, [N, V]. */
  async function logits(decoder: Decoder): Promise<Float32Array> {
    const result = withScope(() => decoder.logits(decoder.forward(packBatch(device(), [ids.slice(0, -1)]))));
    const values = await result.readFloats();
    result.dispose();
    return values;
  }

  it("through a file of F32 in shards still says the golden greedy ids, and its files are those it came from", async () => {
    const from = modelFolder(name);
    const decoder = await loadDecoder(from, device());
    const place = join(folder, `${name}-f32`);
    await saveModelFolder(decoder, place, { from, maxShardBytes: 300_000 });
    for (const file of ["config.json", "tokenizer.json", "tokenizer_config.json"])
      expect(await readFile(join(place, file)), file).toEqual(await readFile(join(from, file)));
    const again = await loadDecoder(place, device());
    const z = await logits(again);
    const V = again.config.vocabulary;
    const greedy = ids
      .slice(0, -1)
      .map((_, t) => z.subarray(t * V, (t + 1) * V).reduce((best, x, i, row) => (x > row[best]! ? i : best), 0));
    expect(greedy).toEqual(ids.slice(1));
    expect(z).toEqual(await logits(decoder));
    again.dispose();
    decoder.dispose();
  });

  it.each(["f16", "bf16"] as const)(
    "through a file of %s has the logits of the model whose weights were rounded on the host",
    async (dtype) => {
      const from = modelFolder(name);
      const decoder = await loadDecoder(from, device());
      const place = join(folder, `${name}-${dtype}`);
      await saveModelFolder(decoder, place, { from, dtype });
      const type = { f16: "float16", bf16: "bfloat16" }[dtype];
      expect(await readFile(join(place, "config.json"), "utf8")).toBe(
        (await readFile(join(from, "config.json"), "utf8")).replace('"float32"', `"${type}"`),
      );
      for (const parameter of decoder.parameters().values()) parameter.write((await parameter.readFloats()).map((x) => roundTo(x, dtype)));
      const expected = await logits(decoder);
      decoder.dispose();
      for (const stored of ["f32", dtype] as const) {
        const again = await loadDecoder(place, device(), { dtype: stored });
        expect(await logits(again), `stored as ${stored}`).toEqual(expected);
        again.dispose();
      }
      // And back to a file of F32.
      const wide = await loadDecoder(place, device());
      await saveModelFolder(wide, `${place}-wide`, { from: place, dtype: "f32" });
      wide.dispose();
      const again = await loadDecoder(`${place}-wide`, device());
      expect(await logits(again)).toEqual(expected);
      again.dispose();
    },
  );
});
