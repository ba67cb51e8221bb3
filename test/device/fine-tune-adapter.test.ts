import { describe, expect, it } from "vitest";
import { AdamW, decayGroups } from "../../src/optim/adamw.ts";
import { fineTuneStep } from "../../src/sft/fine-tune.ts";
import { ConfigError } from "../../src/util/errors.ts";
import { useDevice } from "../helpers/device.ts";
import { randomIds, tinyConfigs, tinyDecoder } from "../helpers/tiny-model.ts";

const config = tinyConfigs.qwen2;
const examples = [7, 12].map((length) => {
  const ids = randomIds(length, config.vocabulary, length);
  return { ids, weights: ids.map((_, t) => (t < 3 ? 0 : 1)) };
});
const settings = { learningRate: 2e-2, microBatchTokens: 16 };

describe("fine-tuning a LoRA adapter", () => {
  const device = useDevice();

  it.each(["f32", "bf16"] as const)("teaches it, and neither frozen weights of %s nor another adapter", async (dtype) => {
    const decoder = tinyDecoder(config, device(), { dtype });
    decoder.setTrainable(false);
    const learns = decoder.addAdapter("learns", { rank: 4, alpha: 8, seed: 1 });
    const other = decoder.addAdapter("other", { rank: 2, alpha: 4, seed: 2, trainable: false });
    const contents = (): Promise<Float32Array[]> =>
      Promise.all([...decoder.parameters().values(), ...other.values()].map((parameter) => parameter.readFloats()));
    const before = await contents();
    const optimizer = new AdamW(decayGroups(learns, 0), {});
    try {
      const losses: number[] = [];
      for (let step = 0; step < 40; step++) {
        const { loss, gradNorm } = await fineTuneStep(decoder, optimizer, examples, {
          ...settings,
          adapter: "learns",
          recompute: step % 2 === 1,
        });
        expect(gradNorm).toBeGreaterThan(0);
        losses.push(loss);
      }
      expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]!);
      expect(await contents()).toEqual(before);
      await expect(fineTuneStep(decoder, optimizer, examples, { ...settings, adapter: "missing" })).rejects.toThrow(ConfigError);
    } finally {
      optimizer.dispose();
      decoder.dispose();
    }
  });
});
