import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packBatch } from "../../src/nn/batch.ts";
import type { DecoderConfig } from "../../src/nn/config.ts";
import type { Decoder } from "../../src/nn/decoder.ts";
import { KvCache } from "../../src/nn/kv-cache.ts";
import { gatherRows } from "../../src/ops/gather-rows.ts";
import { logProb } from "../../src/ops/log-prob.ts";
import { sample } from "../../src/ops/sample.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { fromHost } from "../../src/tensor/tensor.ts";
import { deviceVariants, useDevice } from "../helpers/device.ts";
import { feed, hiddenInPieces } from "../helpers/paged.ts";
import { randomIds, tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";

const models = Object.entries(tinyConfigs).flatMap(([name, config]) =>
  (["f32", "f16"] as const).map((cacheDtype) => ({ name, config, cacheDtype })),
);

describe.each(deviceVariants)("one engine, on $name", ({ options }) => {
  const cpu = useDevice(options);

  describe.each(models)(
    "$name with a $cacheDtype cache",
    ({ config, cacheDtype }: { config: DecoderConfig; cacheDtype: "f32" | "f16" }) => {
      const ids = randomIds(135, config.vocabulary, 5);
      const blocks = [4, 0, 2];
      let decoder: Decoder;
      let cache: KvCache;
      let oneByOne: Float32Array;

      beforeAll(async () => {
        decoder = tinyDecoder(config, cpu());
        cache = new KvCache(cpu(), config, 6, cacheDtype);
        oneByOne = await hiddenInPieces(
          decoder,
          cache,
          ids,
          ids.map(() => 1),
          blocks,
        );
      });
      afterAll(() => {
        cache.dispose();
        decoder.dispose();
      });

      it("gives hidden states in the packed training forward with the bits of decoding token by token", async () => {
        const hidden = withScope(() => decoder.forward(packBatch(cpu(), [ids]), { cacheDtype }));
        expect(await hidden.readFloats()).toEqual(oneByOne);
        hidden.dispose();
      });

      it.each([[[135]], [[1]], [[63]], [[64]], [[65]], [[7, 57, 1, 63]], [[100, 1, 1, 33]]])(
        "gives the same bits however the prefill is split: %j",
        async (lengths) => {
          expect(await hiddenInPieces(decoder, cache, ids, lengths, blocks)).toEqual(oneByOne);
        },
      );

      it("gives a sequence the same bits whatever else is in the batch and wherever it stands, packed and paged", async () => {
        const C = config.width;
        const others = [randomIds(70, config.vocabulary, 6), randomIds(1, config.vocabulary, 7)];
        const packed = withScope(() => decoder.forward(packBatch(cpu(), [others[0]!, ids, others[1]!]), { cacheDtype }));
        expect((await packed.readFloats()).subarray(70 * C, 205 * C)).toEqual(oneByOne);
        packed.dispose();
        const wide = new KvCache(cpu(), config, 8, cacheDtype);
        const start = 100;
        const first = feed(decoder, wide, [
          { ids: others[0]!, start: 0, blocks: [1, 7] },
          { ids: ids.slice(0, start), start: 0, blocks: [5, 3, 0] },
        ]);
        const second = feed(decoder, wide, [
          { ids: ids.slice(start), start, blocks: [5, 3, 0] },
          { ids: others[1]!, start: 0, blocks: [6] },
          { ids: [3, 4], start: 70, blocks: [1, 7] },
        ]);
        expect((await first.readFloats()).subarray(70 * C)).toEqual(oneByOne.subarray(0, start * C));
        expect((await second.readFloats()).subarray(0, 35 * C)).toEqual(oneByOne.subarray(start * C));
        first.dispose();
        second.dispose();
        wide.dispose();
      });

      it("records at sampling the log-probability that training recomputes, bit for bit, at temperature 0.8", async () => {
        const temperature = 0.8;
        const R = 5;
        const prompts = Array.from({ length: R }, (_, r) => randomIds(3 + 17 * r, config.vocabulary, 20 + r));
        const paged = new KvCache(cpu(), config, R * 2, cacheDtype);
        const pieces = prompts.map((prompt, r) => ({ ids: prompt, start: 0, blocks: [2 * r, 2 * r + 1] }));
        const sampled = withScope(() => {
          const hidden = feed(decoder, paged, pieces);
          const last = prompts.reduce<number[]>((all, prompt) => [...all, (all.at(-1) ?? -1) + prompt.length], []);
          const rows = fromHost(cpu(), Uint32Array.from(last), [R]);
          const settings = fromHost(
            cpu(),
            prompts.flatMap(() => [temperature, 0, 1, 0]),
            [R, 4],
          );
          const keys = fromHost(cpu(), Uint32Array.from(prompts.flatMap((_, r) => [11, 12, 1, r, 0])), [R, 5]);
          const positions = fromHost(cpu(), Uint32Array.from(prompts.map((prompt) => prompt.length)), [R]);
          return sample(decoder.logits(gatherRows(hidden, rows)), settings, keys, positions);
        });
        const chosen = [...((await sampled.ids.read()) as Uint32Array)];
        const recomputed = withScope(() => {
          const sequences = prompts.map((prompt, r) => [...prompt, chosen[r]!]).reverse();
          const targets = sequences.flatMap((sequence) => [...sequence.slice(1), 0]);
          const hidden = decoder.forward(packBatch(cpu(), sequences), { cacheDtype });
          return logProb(hidden, decoder.headWeight, fromHost(cpu(), Uint32Array.from(targets), [targets.length]), temperature).logProb;
        });
        const all = await recomputed.readFloats();
        const last: number[] = [];
        let end = 0;
        for (const prompt of [...prompts].reverse()) {
          end += prompt.length + 1;
          last.unshift(all[end - 2]!);
        }
        expect([...(await sampled.logProb.readFloats())]).toEqual(last);
        for (const tensor of [sampled.ids, sampled.logProb, recomputed]) tensor.dispose();
        paged.dispose();
      });

      it("leaves inactive rows out: the others keep their bits", async () => {
        const start = 66;
        const fresh = new KvCache(cpu(), config, 6, cacheDtype);
        feed(decoder, fresh, [{ ids: ids.slice(0, start), start: 0, blocks }]).dispose();
        const hidden = feed(decoder, fresh, [
          { ids: [1], start: 0xffffffff, blocks: [5] },
          { ids: [ids[start]!], start, blocks },
          { ids: [2], start: 0xffffffff, blocks: [4] },
        ]);
        const C = config.width;
        expect((await hidden.readFloats()).subarray(C, 2 * C)).toEqual(oneByOne.subarray(start * C, (start + 1) * C));
        hidden.dispose();
        fresh.dispose();
      });

      it("continues from copied blocks with the same bits", async () => {
        const fresh = new KvCache(cpu(), config, 6, cacheDtype);
        feed(decoder, fresh, [{ ids: ids.slice(0, 70), start: 0, blocks: [0, 1] }]).dispose();
        fresh.copyBlocks([[1, 5]]);
        feed(decoder, fresh, [{ ids: [1, 2, 3], start: 70, blocks: [0, 1] }]).dispose();
        const hidden = feed(decoder, fresh, [{ ids: ids.slice(70), start: 70, blocks: [0, 5, 3] }]);
        expect(await hidden.readFloats()).toEqual(oneByOne.subarray(70 * config.width));
        hidden.dispose();
        fresh.dispose();
      });
    },
  );
});
