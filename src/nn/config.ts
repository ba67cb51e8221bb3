/**
 * The decoder's configuration, and the only file that knows Hugging Face's field names. Llama, Qwen2 and Qwen3 differ in biases,
 * in a norm per head, and in defaults.
 *
 * Source: `LlamaConfig`, `Qwen2Config`, `Qwen3Config` and `modeling_rope_utils.py` of huggingface/transformers.
 */
import { maxHeadWidth } from "../ops/check.ts";
import { ConfigError } from "../util/errors.ts";

export type Architecture = "LlamaForCausalLM" | "Qwen2ForCausalLM" | "Qwen3ForCausalLM";

export type RopeScaling =
  | { readonly type: "default" }
  | { readonly type: "linear"; readonly factor: number }
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositions: number;
    };

export interface DecoderConfig {
  readonly architecture: Architecture;
  /** C */
  readonly width: number;
  /** F */
  readonly mlpWidth: number;
  /** L */
  readonly layers: number;
  /** H */
  readonly heads: number;
  /** K */
  readonly kvHeads: number;
  /** D */
  readonly headDim: number;
  /** V */
  readonly vocabulary: number;
  /** Positions a sequence may have. */
  readonly maxPositions: number;
  readonly normEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling;
  /** The head's weight is the embedding's. */
  readonly tiedEmbeddings: boolean;
  /** Bias of the q, k and v projections. */
  readonly qkvBias: boolean;
  /** Bias of the attention's output projection. */
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** RMSNorm over each head of q and k (Qwen3). */
  readonly qkNorm: boolean;
  /** Fields of config.json that the decoder does not use (token ids, dtype, ...), kept to be written back. */
  readonly extra: Readonly<Record<string, unknown>>;
}

/** What transformers assumes where config.json is silent. */
const defaults: Record<Architecture, { head_dim: number | null; max_position_embeddings: number; model_type: string }> = {
  LlamaForCausalLM: { head_dim: null, max_position_embeddings: 2048, model_type: "llama" },
  Qwen2ForCausalLM: { head_dim: null, max_position_embeddings: 32768, model_type: "qwen2" },
  Qwen3ForCausalLM: { head_dim: 128, max_position_embeddings: 32768, model_type: "qwen3" },
};

type Raw = Readonly<Record<string, unknown>>;

function fail(where: string, what: string, expected?: string, got?: unknown, hint?: string): never {
  throw new ConfigError({ where, what, expected, got: got === undefined ? undefined : JSON.stringify(got), hint });
}

function number(where: string, raw: Raw, key: string, fallback: number | null, integer: boolean): number {
  const value = raw[key] ?? fallback;
  if (typeof value !== "number" || !Number.isFinite(value) || value <= 0 || (integer && !Number.isInteger(value))) {
    const what = `${key} is ${raw[key] === undefined ? "missing" : "wrong"}`;
    fail(where, what, integer ? "a positive integer" : "a positive number", raw[key] ?? "nothing");
  }
  return value;
}

function flag(where: string, raw: Raw, key: string, fallback: boolean): boolean {
  const value = raw[key] ?? fallback;
  if (typeof value !== "boolean") fail(where, `${key} is wrong`, "true or false", value);
  return value;
}

function isRecord(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseScaling(where: string, raw: unknown): RopeScaling {
  if (raw === undefined || raw === null) return { type: "default" };
  if (!isRecord(raw)) fail(where, "rope_scaling is wrong", "an object or null", raw);
  const type = raw["rope_type"] ?? raw["type"] ?? "default";
  if (type === "default") return { type };
  if (type === "linear") return { type, factor: number(where, raw, "factor", null, false) };
  if (type === "llama3")
    return {
      type,
      factor: number(where, raw, "factor", null, false),
      lowFreqFactor: number(where, raw, "low_freq_factor", null, false),
      highFreqFactor: number(where, raw, "high_freq_factor", null, false),
      originalMaxPositions: number(where, raw, "original_max_position_embeddings", null, true),
    };
  return fail(where, "this kind of RoPE scaling is not supported", "default, linear or llama3", type);
}

/** Features the decoder lacks: named rather than ignored, since ignoring them would give wrong numbers. */
function refuseUnsupported(where: string, raw: Raw): void {
  const layerTypes = raw["layer_types"];
  const sliding = raw["use_sliding_window"] === true && typeof raw["sliding_window"] === "number";
  if (sliding || (Array.isArray(layerTypes) && layerTypes.some((type) => type !== "full_attention")))
    fail(
      where,
      "sliding-window attention is not supported",
      "use_sliding_window false and layer_types full_attention only",
      layerTypes ?? { use_sliding_window: true, sliding_window: raw["sliding_window"] },
    );
  const activation = raw["hidden_act"] ?? "silu";
  if (activation !== "silu") fail(where, "hidden_act is not supported", '"silu"', activation);
  if (raw["quantization_config"] !== undefined && raw["quantization_config"] !== null)
    fail(
      where,
      "quantised weights are not supported",
      "no quantization_config",
      raw["quantization_config"],
      "use the unquantised checkpoint of this model",
    );
  const rotary = raw["partial_rotary_factor"] ?? 1;
  if (rotary !== 1) fail(where, "partial_rotary_factor is not supported", "1", rotary);
}

/** Fields that `toHuggingFace` writes from the configuration. */
const known = new Set(
  (
    "architectures model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size " +
    "max_position_embeddings rms_norm_eps rope_theta rope_scaling rope_parameters tie_word_embeddings attention_bias mlp_bias hidden_act"
  ).split(" "),
);

/**
 * The configuration in a parsed config.json. `where` names the file in errors.
 * @throws ConfigError for a missing or wrong field, an unknown architecture, or a feature the decoder lacks.
 */
export function fromHuggingFace(raw: unknown, where = "config.json"): DecoderConfig {
  if (!isRecord(raw)) fail(where, "not a model configuration", "an object", raw);
  const architectures: unknown = raw["architectures"];
  const architecture: unknown = Array.isArray(architectures) ? architectures[0] : undefined;
  if (typeof architecture !== "string" || !Object.hasOwn(defaults, architecture))
    fail(
      where,
      "unknown architecture",
      Object.keys(defaults).join(", "),
      architecture ?? architectures ?? "nothing",
      "architectures[0] decides",
    );
  const kind = architecture as Architecture;
  refuseUnsupported(where, raw);
  const width = number(where, raw, "hidden_size", null, true);
  const heads = number(where, raw, "num_attention_heads", null, true);
  const kvHeads = number(where, raw, "num_key_value_heads", heads, true);
  if (heads % kvHeads !== 0) fail(where, "num_key_value_heads does not divide num_attention_heads", `a divisor of ${heads}`, kvHeads);
  const headDim = number(where, raw, "head_dim", defaults[kind].head_dim ?? width / heads, true);
  if (headDim % 4 !== 0 || headDim > maxHeadWidth)
    fail(where, "head_dim is not supported", `a multiple of 4, at most ${maxHeadWidth}`, headDim);
  // transformers 5 moved both RoPE fields into `rope_parameters`.
  const rope = isRecord(raw["rope_parameters"]) ? raw["rope_parameters"] : null;
  const attentionBias = flag(where, raw, "attention_bias", false);
  return {
    architecture: kind,
    width,
    mlpWidth: number(where, raw, "intermediate_size", null, true),
    layers: number(where, raw, "num_hidden_layers", null, true),
    heads,
    kvHeads,
    headDim,
    vocabulary: number(where, raw, "vocab_size", null, true),
    maxPositions: number(where, raw, "max_position_embeddings", defaults[kind].max_position_embeddings, true),
    normEps: number(where, raw, "rms_norm_eps", 1e-6, false),
    ropeTheta: number(where, rope !== null && rope["rope_theta"] !== undefined ? rope : raw, "rope_theta", 10000, false),
    ropeScaling: parseScaling(where, rope ?? raw["rope_scaling"]),
    tiedEmbeddings: flag(where, raw, "tie_word_embeddings", false),
    qkvBias: kind === "Qwen2ForCausalLM" || attentionBias,
    outputBias: kind !== "Qwen2ForCausalLM" && attentionBias,
    mlpBias: kind === "LlamaForCausalLM" && flag(where, raw, "mlp_bias", false),
    qkNorm: kind === "Qwen3ForCausalLM",
    extra: Object.fromEntries(Object.entries(raw).filter(([key]) => !known.has(key))),
  };
}

/** The fields of config.json for this configuration; `fromHuggingFace` reads them back to the same. */
export function toHuggingFace(config: DecoderConfig): Record<string, unknown> {
  const { ropeScaling } = config;
  const scaling =
    ropeScaling.type === "default"
      ? null
      : ropeScaling.type === "linear"
        ? { rope_type: "linear", factor: ropeScaling.factor }
        : {
            rope_type: "llama3",
            factor: ropeScaling.factor,
            low_freq_factor: ropeScaling.lowFreqFactor,
            high_freq_factor: ropeScaling.highFreqFactor,
            original_max_position_embeddings: ropeScaling.originalMaxPositions,
          };
  return {
    architectures: [config.architecture],
    model_type: defaults[config.architecture].model_type,
    hidden_size: config.width,
    intermediate_size: config.mlpWidth,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabulary,
    max_position_embeddings: config.maxPositions,
    rms_norm_eps: config.normEps,
    rope_theta: config.ropeTheta,
    rope_scaling: scaling,
    tie_word_embeddings: config.tiedEmbeddings,
    ...(config.architecture === "Qwen2ForCausalLM" ? {} : { attention_bias: config.qkvBias }),
    ...(config.architecture === "LlamaForCausalLM" ? { mlp_bias: config.mlpBias } : {}),
    hidden_act: "silu",
    ...config.extra,
  };
}

export interface ParameterShape {
  /** As in Hugging Face checkpoints. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: "embedding" | "matrix" | "outputMatrix" | "bias" | "norm";
}

/** Every parameter in the order of the forward pass. A tied head has none of its own. */
export function parameterShapes(config: DecoderConfig): ParameterShape[] {
  const { width: C, mlpWidth: F, heads: H, kvHeads: K, headDim: D, vocabulary: V } = config;
  const all: ParameterShape[] = [{ name: "model.embed_tokens.weight", shape: [V, C], kind: "embedding" }];
  const linear = (name: string, out: number, into: number, bias: boolean, kind: "matrix" | "outputMatrix" = "matrix"): void => {
    all.push({ name: `${name}.weight`, shape: [out, into], kind });
    if (bias) all.push({ name: `${name}.bias`, shape: [out], kind: "bias" });
  };
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    all.push({ name: `${prefix}.input_layernorm.weight`, shape: [C], kind: "norm" });
    linear(`${prefix}.self_attn.q_proj`, H * D, C, config.qkvBias);
    linear(`${prefix}.self_attn.k_proj`, K * D, C, config.qkvBias);
    linear(`${prefix}.self_attn.v_proj`, K * D, C, config.qkvBias);
    linear(`${prefix}.self_attn.o_proj`, C, H * D, config.outputBias, "outputMatrix");
    if (config.qkNorm)
      for (const part of ["q_norm", "k_norm"]) all.push({ name: `${prefix}.self_attn.${part}.weight`, shape: [D], kind: "norm" });
    all.push({ name: `${prefix}.post_attention_layernorm.weight`, shape: [C], kind: "norm" });
    linear(`${prefix}.mlp.gate_proj`, F, C, config.mlpBias);
    linear(`${prefix}.mlp.up_proj`, F, C, config.mlpBias);
    linear(`${prefix}.mlp.down_proj`, C, F, config.mlpBias, "outputMatrix");
  }
  all.push({ name: "model.norm.weight", shape: [C], kind: "norm" });
  if (!config.tiedEmbeddings) all.push({ name: "lm_head.weight", shape: [V, C], kind: "matrix" });
  return all;
}
