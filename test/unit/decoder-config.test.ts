import { describe, expect, it } from "vitest";
import { fromHuggingFace, parameterShapes, toHuggingFace } from "../../src/nn/config.ts";
import { ropeFrequencies } from "../../src/nn/rope-table.ts";
import { ConfigError } from "../../src/util/errors.ts";
import { tinyConfigs } from "../helpers/tiny-model.ts";

describe("config.json", () => {
  const base = {
    architectures: ["LlamaForCausalLM"],
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    vocab_size: 100,
  };

  it("gets transformers' defaults where it is silent", () => {
    expect(fromHuggingFace(base)).toMatchObject({
      kvHeads: 4,
      headDim: 16,
      maxPositions: 2048,
      normEps: 1e-6,
      ropeTheta: 10000,
      tiedEmbeddings: false,
      qkvBias: false,
      qkNorm: false,
    });
    expect(fromHuggingFace({ ...base, architectures: ["Qwen2ForCausalLM"] })).toMatchObject({
      qkvBias: true,
      outputBias: false,
      maxPositions: 32768,
    });
    expect(fromHuggingFace({ ...base, architectures: ["Qwen3ForCausalLM"] })).toMatchObject({ qkNorm: true, headDim: 128 });
    expect(fromHuggingFace({ ...base, attention_bias: true, mlp_bias: true })).toMatchObject({
      qkvBias: true,
      outputBias: true,
      mlpBias: true,
    });
  });

  it("is read in the older and the newer form of RoPE's fields", () => {
    const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192, rope_type: "llama3" };
    const scaling = { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 };
    expect(fromHuggingFace({ ...base, rope_theta: 500000, rope_scaling: llama3 })).toMatchObject({
      ropeTheta: 500000,
      ropeScaling: scaling,
    });
    expect(fromHuggingFace({ ...base, rope_parameters: { rope_theta: 500000, ...llama3 } })).toMatchObject({
      ropeTheta: 500000,
      ropeScaling: scaling,
    });
    expect(fromHuggingFace({ ...base, rope_scaling: { type: "linear", factor: 2 } })).toMatchObject({
      ropeScaling: { type: "linear", factor: 2 },
    });
  });

  it("is written so that it reads back to the same, other fields kept", () => {
    for (const config of [
      ...Object.values(tinyConfigs),
      fromHuggingFace({ ...base, eos_token_id: [1, 2], rope_scaling: { rope_type: "linear", factor: 4 } }),
    ])
      expect(fromHuggingFace(toHuggingFace(config))).toEqual(config);
    expect(toHuggingFace(fromHuggingFace({ ...base, eos_token_id: 7 }))["eos_token_id"]).toBe(7);
  });

  it("gives the exact number of parameters", () => {
    // Qwen2.5-0.5B as published: 494,032,768.
    const qwen = {
      architectures: ["Qwen2ForCausalLM"],
      hidden_size: 896,
      intermediate_size: 4864,
      num_hidden_layers: 24,
      num_attention_heads: 14,
      num_key_value_heads: 2,
      vocab_size: 151936,
      tie_word_embeddings: true,
    };
    const sizes = parameterShapes(fromHuggingFace(qwen)).map(({ shape }) => shape.reduce((product, n) => product * n, 1));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(494032768);
  });

  it.each([
    [
      { ...base, architectures: ["MambaForCausalLM"] },
      /unknown architecture; expected LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, got "MambaForCausalLM"/,
    ],
    [{ ...base, architectures: undefined }, /unknown architecture/],
    [{ ...base, hidden_size: undefined }, /hidden_size is missing; expected a positive integer/],
    [{ ...base, num_hidden_layers: 1.5 }, /num_hidden_layers is wrong; expected a positive integer, got 1.5/],
    [{ ...base, num_key_value_heads: 3 }, /num_key_value_heads does not divide num_attention_heads; expected a divisor of 4, got 3/],
    [{ ...base, head_dim: 6 }, /head_dim is not supported; expected a multiple of 4, at most 128, got 6/],
    [{ ...base, hidden_act: "gelu" }, /hidden_act is not supported; expected "silu", got "gelu"/],
    [{ ...base, use_sliding_window: true, sliding_window: 4096 }, /sliding-window attention is not supported/],
    [{ ...base, layer_types: ["full_attention", "sliding_attention"] }, /sliding-window attention is not supported/],
    [
      { ...base, rope_scaling: { rope_type: "yarn", factor: 4 } },
      /RoPE scaling is not supported; expected default, linear or llama3, got "yarn"/,
    ],
    [{ ...base, quantization_config: { bits: 4 } }, /quantised weights are not supported/],
    [{ ...base, tie_word_embeddings: "yes" }, /tie_word_embeddings is wrong; expected true or false/],
    [[1], /not a model configuration/],
  ])("%# is refused with one clear error", (raw, message) => {
    expect(() => fromHuggingFace(raw, "model/config.json")).toThrow(ConfigError);
    expect(() => fromHuggingFace(raw, "model/config.json")).toThrow(message);
  });

  it("allows a sliding window that is not in use", () => {
    expect(fromHuggingFace({ ...base, use_sliding_window: false, sliding_window: 4096 }).heads).toBe(4);
  });
});

describe("RoPE frequencies", () => {
  const plain = { headDim: 128, ropeTheta: 500000, ropeScaling: { type: "default" as const } };

  it("of Llama 3.1 keep short waves, stretch long ones eightfold, and blend between", () => {
    const scaled = ropeFrequencies({
      ...plain,
      ropeScaling: { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 },
    });
    const ratios = ropeFrequencies(plain).map((frequency, d) => frequency / scaled[d]!);
    expect(ratios[0]).toBe(1);
    expect(ratios[63]).toBeCloseTo(8, 12);
    // Wave d is 2 pi 500000^(d/64) long: 2048 = 8192 / 4 at d 28.2, 8192 at d 35.0.
    expect(ratios[28]).toBe(1);
    expect(ratios[29]).toBeGreaterThan(1);
    expect(ratios[34]).toBeLessThan(8);
    expect(ratios[35]).toBeCloseTo(8, 12);
  });

  it("with linear scaling are those of positions divided by the factor", () => {
    const scaled = ropeFrequencies({ ...plain, ropeScaling: { type: "linear", factor: 4 } });
    ropeFrequencies(plain).forEach((frequency, d) => expect(scaled[d]).toBe(frequency / 4));
  });
});
