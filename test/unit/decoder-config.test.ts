import { describe, expect, it } from "vitest";
import { fromHuggingFace, parameterShapes, toHuggingFace } from "../../src/nn/config.ts";
import { ropeFrequencies, ropeTable } from "../../src/nn/rope-table.ts";
import { ConfigError } from "../../src/util/errors.ts";
import { tinyConfigs } from "../helpers/tiny-model.ts";

const everyYarnField = {
  rope_type: "yarn",
  factor: 8,
  beta_fast: 16,
  beta_slow: 0.5,
  truncate: false,
  mscale: 0.707,
  mscale_all_dim: 1.5,
  original_max_position_embeddings: 64,
};

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

  it("with both rope_scaling and rope_parameters is read as transformers 5 reads it: the first replaces the second, theta included", () => {
    const rope_parameters = { rope_type: "default", rope_theta: 1e6 };
    const yarn = { type: "yarn", factor: 4, original_max_position_embeddings: 32768 };
    const read = (fields: object) => fromHuggingFace({ ...base, rope_parameters, max_position_embeddings: 32768, ...fields });
    expect(read({ rope_scaling: { ...yarn, rope_theta: 5e5 } })).toMatchObject({
      ropeTheta: 5e5,
      ropeScaling: { type: "yarn", factor: 4 },
    });
    expect(read({ rope_scaling: yarn, rope_theta: 7 })).toMatchObject({ ropeTheta: 7, ropeScaling: { type: "yarn" } });
    expect(read({ rope_scaling: yarn }).ropeTheta).toBe(10000);
    for (const rope_scaling of [null, {}])
      expect(read({ rope_scaling, rope_theta: 7 })).toMatchObject({ ropeTheta: 1e6, ropeScaling: { type: "default" } });
  });

  it("takes the original length of scaled RoPE from the top, else from RoPE's fields, else from max_position_embeddings", () => {
    const read = (fields: object, inside: object = {}) =>
      fromHuggingFace({ ...base, max_position_embeddings: 512, rope_scaling: { type: "yarn", factor: 4, ...inside }, ...fields })
        .ropeScaling;
    expect(read({})).toMatchObject({ originalMaxPositions: 512 });
    expect(read({}, { original_max_position_embeddings: 256 })).toMatchObject({ originalMaxPositions: 256 });
    expect(read({ original_max_position_embeddings: 64 }, { original_max_position_embeddings: 256 })).toMatchObject({
      originalMaxPositions: 64,
    });
    expect(read({}, { factor: null, original_max_position_embeddings: 256 })).toMatchObject({ factor: 2 });
  });

  it("with YaRN has factor times the original positions, whatever max_position_embeddings still says", () => {
    const yarn = { type: "yarn", factor: 4, original_max_position_embeddings: 32768 };
    expect(fromHuggingFace({ ...base, max_position_embeddings: 32768, rope_scaling: yarn }).maxPositions).toBe(131072);
    expect(fromHuggingFace({ ...base, max_position_embeddings: 200000, rope_scaling: yarn }).maxPositions).toBe(200000);
  });

  it("is written so that it reads back to the same, other fields kept", () => {
    for (const config of [
      ...Object.values(tinyConfigs),
      fromHuggingFace({ ...base, eos_token_id: [1, 2], rope_scaling: { rope_type: "linear", factor: 4 } }),
      fromHuggingFace({ ...base, rope_scaling: { rope_type: "yarn", factor: 4 } }),
      fromHuggingFace({ ...base, rope_parameters: { ...everyYarnField, rope_theta: 1e6 } }),
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
    [{ ...base, use_sliding_window: true, sliding_window: 4096, max_window_layers: 0 }, /sliding-window attention is not supported/],
    [{ ...base, layer_types: ["full_attention", "sliding_attention"] }, /sliding-window attention is not supported/],
    [
      { ...base, use_sliding_window: true, max_window_layers: 1 },
      /sliding-window.*"sliding_window":4096,"max_window_layers":1,"num_hidden_layers":2/,
    ],
    [
      { ...base, rope_scaling: { rope_type: "dynamic", factor: 4 } },
      /RoPE scaling is not supported; expected default, linear, llama3 or yarn, got "dynamic"/,
    ],
    [{ ...base, rope_scaling: { rope_type: "yarn" } }, /rope_scaling: factor is missing/],
    [{ ...base, rope_scaling: "yarn" }, /rope_scaling is wrong; expected an object or null, got "yarn"/],
    [{ ...base, rope_parameters: [1] }, /rope_parameters is wrong; expected an object or null/],
    [
      { ...base, rope_parameters: { full_attention: { rope_theta: 1e6 }, sliding_attention: { rope_theta: 1e4 } } },
      /rope_parameters: RoPE that differs between layers is not supported/,
    ],
    [{ ...base, rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary_factor is not supported; expected 1, got 0.5/],
    [{ ...base, model_type: "mistral" }, /model_type is not that of LlamaForCausalLM; expected "llama", got "mistral"/],
    [{ ...base, hidden_act: null }, /hidden_act is not supported; expected "silu", got null/],
    [{ ...base, rms_norm_eps: null }, /rms_norm_eps is wrong; expected a positive number, got null/],
    [{ ...base, tie_word_embeddings: null }, /tie_word_embeddings is wrong; expected true or false, got null/],
    [{ ...base, num_hidden_layers: 1e9 }, /num_hidden_layers is wrong; expected at most 4096, got 1000000000/],
    [{ ...base, vocab_size: 1e12 }, /vocab_size is wrong; expected at most 67108864/],
    [{ ...base, max_position_embeddings: 1e15 }, /max_position_embeddings is wrong; expected at most 16777216/],
    [{ ...base, quantization_config: { bits: 4 } }, /quantised weights are not supported/],
    [{ ...base, tie_word_embeddings: "yes" }, /tie_word_embeddings is wrong; expected true or false/],
    [[1], /not a model configuration/],
  ])("%# is refused with one clear error", (raw, message) => {
    expect(() => fromHuggingFace(raw, "model/config.json")).toThrow(ConfigError);
    expect(() => fromHuggingFace(raw, "model/config.json")).toThrow(message);
  });

  it("allows a sliding window that is not in use", () => {
    for (const unused of [
      { use_sliding_window: false, sliding_window: 4096, max_window_layers: 0 },
      // Layers slide from max_window_layers on, 28 unless told.
      { use_sliding_window: true, sliding_window: 4096, max_window_layers: 2 },
      { use_sliding_window: true, sliding_window: 4096 },
      { use_sliding_window: true, sliding_window: null, max_window_layers: 0 },
      { use_sliding_window: true, sliding_window: 4096, max_window_layers: 0, layer_types: ["full_attention", "full_attention"] },
    ])
      expect(fromHuggingFace({ ...base, ...unused }).heads).toBe(4);
  });
});

describe("RoPE frequencies", () => {
  const sizes = {
    architectures: ["LlamaForCausalLM"],
    hidden_size: 3584,
    intermediate_size: 18944,
    num_hidden_layers: 28,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    vocab_size: 152064,
  };
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

  // `_compute_yarn_parameters` of transformers 5.18, run in float64.
  it("of YaRN are those of transformers, and so is its factor on attention, with the usual numbers and with others", () => {
    const qwen = fromHuggingFace({
      ...sizes,
      architectures: ["Qwen2ForCausalLM"],
      rope_theta: 1e6,
      rope_scaling: { factor: 4, original_max_position_embeddings: 32768, type: "yarn" },
    });
    const usual = ropeFrequencies(qwen);
    expect([0, 23, 24, 30, 38, 39, 40, 63].map((d) => usual[d])).toEqual(
      [
        1.0, 0.006978305848598663, 0.005375321490790102, 0.0010643609812470017, 9.262301704129459e-5, 6.490394320837029e-5,
        4.445698525097307e-5, 3.102344401879299e-7,
      ].map((x) => expect.closeTo(x, 15)),
    );
    expect(qwen.ropeScaling).toMatchObject({ attentionFactor: expect.closeTo(1.138629436111989, 14) });
    const other = fromHuggingFace({ ...sizes, head_dim: 32, rope_parameters: { ...everyYarnField, rope_theta: 1e6 } });
    expect([...ropeFrequencies(other)]).toEqual(
      [
        1.0, 0.3159929256031587, 0.08867828266614801, 0.0185982721289263, 0.003952847075210474, 0.001666901790204155, 0.0007029266564879364,
        0.0002964217132077069, 0.000125, 5.2712062928572786e-5, 2.2228492625486534e-5, 9.373677616655698e-6, 3.952847075210474e-6,
        1.666901790204155e-6, 7.029266564879364e-7, 2.9642171320770695e-7,
      ].map((x) => expect.closeTo(x, 15)),
    );
    expect(other.ropeScaling).toMatchObject({ attentionFactor: expect.closeTo(0.8743062168703823, 14) });
    const given = fromHuggingFace({ ...sizes, rope_scaling: { type: "yarn", factor: 40, attention_factor: 1.5 } });
    expect(given.ropeScaling).toMatchObject({ attentionFactor: 1.5 });
  });

  it("are turned into cosines and sines times YaRN's factor", () => {
    const yarn = { type: "yarn", factor: 4, betaFast: 32, betaSlow: 1, truncate: true, originalMaxPositions: 64 } as const;
    const tableWith = (attentionFactor: number) => ropeTable({ ...plain, ropeScaling: { ...yarn, attentionFactor } }, 9);
    const [one, more] = [tableWith(1), tableWith(1.5)];
    one.forEach((value, i) => expect(more[i]).toBeCloseTo(1.5 * value, 6));
  });

  it("with linear scaling are those of positions divided by the factor", () => {
    const scaled = ropeFrequencies({ ...plain, ropeScaling: { type: "linear", factor: 4 } });
    ropeFrequencies(plain).forEach((frequency, d) => expect(scaled[d]).toBe(frequency / 4));
  });
});
