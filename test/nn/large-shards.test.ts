import { describe, expect, it } from "vitest";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { AdamW, decayGroups } from "../../src/optim/adamw.ts";
import { fineTuneStep } from "../../src/sft/fine-tune.ts";
import { withDevice } from "../helpers/device.ts";

const raw = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 4096,
  hidden_size: 128,
  intermediate_size: 352,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
};

describe("a largest shard of 1 MiB", () => {
  it("splits a 2 MiB embedding, and two training steps end in the same bits", async () => {
    const train = (maxShardBytes: number): Promise<{ shards: number; bits: Float32Array }> =>
      withDevice(
        async (device) => {
          const decoder = Decoder.initialise(fromHuggingFace(raw, "test"), device, 3);
          const optimizer = new AdamW(decayGroups(decoder.parameters(), 0.01));
          const ids = Array.from({ length: 60 }, (_, i) => (i * 1543) % 4096);
          const examples = [{ ids, weights: ids.map(() => 1) }];
          for (let step = 0; step < 2; step++)
            await fineTuneStep(decoder, optimizer, examples, { learningRate: 1e-3, microBatchTokens: 64 });
          const bits = await decoder.headWeight.readFloats();
          const { shards } = decoder.headWeight.storage;
          optimizer.dispose();
          decoder.dispose();
          return { shards, bits };
        },
        { maxShardBytes },
      );
    const split = await train(1 << 20);
    const whole = await train(1 << 30);
    expect([split.shards, whole.shards]).toEqual([2, 1]);
    expect(split.bits).toEqual(whole.bits);
  });
});
