/** Small random models, one per architecture, with odd sizes where the architecture allows them. */
import type { Device } from "../../src/device/device.ts";
import { fromHuggingFace, parameterShapes, type DecoderConfig } from "../../src/nn/config.ts";
import { Decoder, type DecoderOptions } from "../../src/nn/decoder.ts";
import { randomValues } from "./check-op.ts";

const base = {
  hidden_size: 24,
  intermediate_size: 37,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 41,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
};

export const tinyConfigs: Readonly<Record<"llama" | "qwen2" | "qwen3", DecoderConfig>> = {
  llama: fromHuggingFace({
    ...base,
    architectures: ["LlamaForCausalLM"],
    head_dim: 12,
    attention_bias: true,
    mlp_bias: true,
    rope_scaling: { rope_type: "linear", factor: 2 },
  }),
  qwen2: fromHuggingFace({
    ...base,
    architectures: ["Qwen2ForCausalLM"],
    num_attention_heads: 6,
    num_key_value_heads: 3,
    tie_word_embeddings: true,
  }),
  qwen3: fromHuggingFace({ ...base, architectures: ["Qwen3ForCausalLM"], head_dim: 8, tie_word_embeddings: true, rope_theta: 1000 }),
};

/** Every parameter random, norms around 1 and biases too, so that no term of the model is idle. */
export function tinyDecoder(config: DecoderConfig, device: Device, options?: DecoderOptions): Decoder {
  const decoder = new Decoder(config, device, options);
  for (const [name, values] of tinyWeights(config)) decoder.parameters().get(name)!.write(values);
  return decoder;
}

/** The weights of `tinyDecoder` by name. */
export function tinyWeights(config: DecoderConfig): Map<string, Float32Array> {
  return new Map(
    parameterShapes(config).map(({ name, shape, kind }, index) => {
      const values = randomValues(
        shape.reduce((a, b) => a * b, 1),
        1000 + index,
      );
      const scale = kind === "norm" || kind === "bias" ? 0.3 : 1 / Math.sqrt(shape[1]!);
      return [name, values.map((x) => (kind === "norm" ? 1 : 0) + scale * x)];
    }),
  );
}

/** Ids below `vocabulary`, the same for the same arguments. */
export function randomIds(count: number, vocabulary: number, seed: number): number[] {
  return Array.from(randomValues(count, seed), (x) => Math.floor(((x + 1) / 2) * vocabulary));
}
