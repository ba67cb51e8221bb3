import { describe, expect, it } from "vitest";
import { loadDecoder } from "../../src/checkpoint/load-model.ts";
import { packBatch } from "../../src/nn/batch.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import { logProb } from "../../src/ops/log-prob.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";
import { golden, hasGolden, modelFolder } from "../helpers/golden.ts";
import { feed } from "../helpers/paged.ts";

function argmax(values: Float32Array): number {
  return values.reduce((best, x, i) => (x > values[best]! ? i : best), 0);
}

describe.skipIf(!hasGolden).each(deviceVariants)("the trained 260 K model on $name (needs ../shared/data)", ({ options }) => {
  const cpu = useDevice(options);

  for (const folder of ["stories260K-hf", "stories260K-qwen2"]) {
    it(`${folder} gives the golden 200 greedy ids, decoding one token at a time`, async () => {
      const decoder = await loadDecoder(modelFolder(folder), cpu());
      const cache = new KvCache(cpu(), decoder.config, 4);
      const expected = golden().greedy_ids_from_BOS_200new;
      const ids = [expected[0]!];
      while (ids.length < expected.length) {
        const start = ids.length - 1;
        const logits = withScope(() => decoder.logits(feed(decoder, cache, [{ ids: [ids[start]!], start, blocks: [2, 0, 3, 1] }])));
        ids.push(argmax(await logits.readFloats()));
        logits.dispose();
      }
      expect(ids).toEqual(expected);
      cache.dispose();
      decoder.dispose();
    });

    it(`${folder} gives the golden logits, log-probabilities and entropies to 1e-4`, async () => {
      const decoder = await loadDecoder(modelFolder(folder), cpu());
      const { input_ids: ids, ...expected } = golden().teacher_forced_first64;
      const { logits, result } = withScope(() => {
        const hidden = decoder.forward(packBatch(cpu(), [ids]));
        const targets = fromHost(cpu(), Uint32Array.from([...ids.slice(1), 0]), [ids.length]);
        return { logits: decoder.logits(hidden), result: logProb(hidden, decoder.headWeight, targets) };
      });
      const V = decoder.config.vocabulary;
      const z = await logits.readFloats();
      const worst = (got: Float32Array, want: readonly number[]): number =>
        want.reduce((max, x, i) => Math.max(max, Math.abs(x - got[i]!)), 0);
      expect(worst(z.subarray(0, V), expected.logits_pos0)).toBeLessThan(1e-4);
      expect(worst(z.subarray((ids.length - 1) * V), expected.logits_last_position)).toBeLessThan(1e-4);
      expect(worst(await result.logProb.readFloats(), expected.logprob_of_next)).toBeLessThan(1e-4);
      expect(worst(await result.entropy.readFloats(), expected.entropy)).toBeLessThan(1e-4);
      for (const tensor of [logits, result.logProb, result.entropy]) tensor.dispose();
      decoder.dispose();
    });
  }
});
