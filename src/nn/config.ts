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
    }
  | {
      readonly type: "yarn";
      readonly factor: number;
      /** Waves that turn at least so often over the original positions keep their length ... */
      readonly betaFast: number;
      /** ... those that turn at most so often are stretched by `factor`. */
      readonly betaSlow: number;
      /** The borders between the two are rounded outwards to whole dimensions. */
      readonly truncate: boolean;
      readonly originalMaxPositions: number;
      /** Cosines and sines are multiplied by it, and so attention's scores by its square. */
      readonly attentionFactor: number;
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

const supported = Object.keys(defaults).join(", ");

type Raw = Readonly<Record<string, unknown>>;

function fail(where: string, what: string, expected?: string, got?: unknown, hint?: string): never {
  throw new ConfigError({ where, what, expected, got: got === undefined ? undefined : JSON.stringify(got), hint });
}

/** Beyond any published model; larger numbers are faults of the file, and would end in memory that nobody has. */
const most = { width: 2 ** 20, layers: 4096, vocabulary: 2 ** 26, positions: 2 ** 24 };

interface Range {
  /** Where the field is missing; without it, it must be there. */
  readonly fallback?: number | undefined;
  readonly integer?: boolean;
  readonly most?: number;
  /** As transformers reads null: like a missing field. */
  readonly nullable?: boolean;
}

function number(where: string, raw: Raw, key: string, { fallback, integer = false, most, nullable = false }: Range = {}): number {
  const given = nullable && raw[key] === null ? undefined : raw[key];
  const value = given === undefined ? fallback : given;
  if (
    typeof value !== "number" ||
    !Number.isFinite(value) ||
    value <= 0 ||
    (integer && !Number.isInteger(value)) ||
    (most !== undefined && value > most)
  ) {
    const kind =
      typeof value === "number" && value > (most ?? Infinity) ? `at most ${most}` : integer ? "a positive integer" : "a positive number";
    fail(where, `${key} is ${given === undefined ? "missing" : "wrong"}`, kind, given === undefined ? "nothing" : given);
  }
  return value;
}

function whole(where: string, raw: Raw, key: string, most: number, fallback?: number, nullable = false): number {
  return number(where, raw, key, { fallback, integer: true, most, nullable });
}

function flag(where: string, raw: Raw, key: string, fallback: boolean): boolean {
  const value = raw[key] === undefined ? fallback : raw[key];
  if (typeof value !== "boolean") fail(where, `${key} is wrong`, "true or false", value);
  return value;
}

function isRecord(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

interface Rope {
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/**
 * RoPE's fields as transformers 5 reads them: `rope_scaling`, where it says anything, takes the place of the whole of `rope_parameters`,
 * its theta included; what neither holds is looked for at the top of the file.
 */
function parseRope(where: string, raw: Raw, maxPositions: number): Rope {
  for (const key of ["rope_scaling", "rope_parameters"])
    if (raw[key] !== undefined && raw[key] !== null && !isRecord(raw[key])) fail(where, `${key} is wrong`, "an object or null", raw[key]);
  const [older, newer] = [raw["rope_scaling"] ?? {}, raw["rope_parameters"] ?? {}] as [Raw, Raw];
  const [name, given] = Object.keys(older).length > 0 ? ["rope_scaling", older] : ["rope_parameters", newer];
  const inside = `${where}: ${name}`;
  const layered = Object.keys(given).find((key) => isRecord(given[key]));
  if (layered !== undefined)
    fail(inside, "RoPE that differs between layers is not supported", "one set of numbers for all layers", given, `see ${layered}`);
  const rotary = given["partial_rotary_factor"] ?? raw["partial_rotary_factor"] ?? 1;
  if (rotary !== 1) fail(where, "partial_rotary_factor is not supported", "1", rotary);
  return {
    theta: given["rope_theta"] === undefined ? number(where, raw, "rope_theta", { fallback: 10000 }) : number(inside, given, "rope_theta"),
    scaling: parseScaling(inside, given, raw["original_max_position_embeddings"], maxPositions),
  };
}

/** `outside`: the original length where it stands at the top of the file, which decides then. */
function parseScaling(where: string, raw: Raw, outside: unknown, maxPositions: number): RopeScaling {
  const type = raw["rope_type"] ?? raw["type"] ?? "default";
  if (type === "default") return { type };
  if (type === "linear") return { type, factor: number(where, raw, "factor") };
  const original = "original_max_position_embeddings";
  const originalMaxPositions = (): number =>
    whole(where, outside === undefined || outside === null ? raw : { [original]: outside }, original, most.positions, maxPositions);
  if (type === "llama3")
    return {
      type,
      factor: number(where, raw, "factor"),
      lowFreqFactor: number(where, raw, "low_freq_factor"),
      highFreqFactor: number(where, raw, "high_freq_factor"),
      originalMaxPositions: originalMaxPositions(),
    };
  if (type === "yarn") return parseYarn(where, raw, originalMaxPositions(), maxPositions);
  return fail(where, "this kind of RoPE scaling is not supported", "default, linear, llama3 or yarn", type);
}

/** How much longer attention's scores become: YaRN's 3.4, with the weight that DeepSeek gives the logarithm. */
const yarnScale = (factor: number, weight = 1): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);

/** Source: Peng et al. 2023, arXiv:2309.00071; names and defaults as in transformers. 0 and null mean "not given" there. */
function parseYarn(where: string, raw: Raw, originalMaxPositions: number, maxPositions: number): RopeScaling {
  const given = (key: string): number | undefined =>
    raw[key] === undefined || raw[key] === null || raw[key] === 0 ? undefined : number(where, raw, key);
  const factor = raw["factor"] === null ? maxPositions / originalMaxPositions : number(where, raw, "factor");
  const [mscale, allDimensions] = [given("mscale"), given("mscale_all_dim")];
  const usual =
    mscale === undefined || allDimensions === undefined ? yarnScale(factor) : yarnScale(factor, mscale) / yarnScale(factor, allDimensions);
  return {
    type: "yarn",
    factor,
    betaFast: given("beta_fast") ?? 32,
    betaSlow: given("beta_slow") ?? 1,
    truncate: flag(where, raw, "truncate", true),
    originalMaxPositions,
    attentionFactor: raw["attention_factor"] === null ? usual : number(where, raw, "attention_factor", { fallback: usual }),
  };
}

/** Features the decoder lacks: named rather than ignored, since ignoring them would give wrong numbers. */
function refuseUnsupported(where: string, raw: Raw, kind: Architecture, layers: number): void {
  const { model_type } = defaults[kind];
  const type = raw["model_type"] ?? model_type;
  if (type !== model_type)
    fail(
      where,
      `model_type is not that of ${kind}`,
      JSON.stringify(model_type),
      type,
      `supported are ${supported}; a model of another kind computes something else, even where its weights have the same names`,
    );
  refuseSlidingWindow(where, raw, layers);
  const activation = raw["hidden_act"] === undefined ? "silu" : raw["hidden_act"];
  if (activation !== "silu") fail(where, "hidden_act is not supported", '"silu"', activation);
  if (raw["quantization_config"] !== undefined && raw["quantization_config"] !== null)
    fail(
      where,
      "quantised weights are not supported",
      "no quantization_config",
      raw["quantization_config"],
      "use the unquantised checkpoint of this model",
    );
}

/** As transformers decides it: `layer_types` where it is given; else the layers from `max_window_layers` on, if a window is in use. */
function refuseSlidingWindow(where: string, raw: Raw, layers: number): void {
  const layerTypes = raw["layer_types"] ?? null;
  const window = raw["sliding_window"] === undefined ? 4096 : raw["sliding_window"];
  const from = raw["max_window_layers"] === undefined ? 28 : raw["max_window_layers"];
  if (layerTypes !== null) {
    if (Array.isArray(layerTypes) && layerTypes.every((type) => type === "full_attention")) return;
  } else if (!flag(where, raw, "use_sliding_window", false) || window === null || (typeof from === "number" && from >= layers)) return;
  fail(
    where,
    "sliding-window attention is not supported",
    "use_sliding_window false, max_window_layers of at least num_hidden_layers, or layer_types full_attention only",
    layerTypes ?? { use_sliding_window: true, sliding_window: window, max_window_layers: from, num_hidden_layers: layers },
  );
}

/** Fields that `toHuggingFace` writes from the configuration. */
const known = new Set(
  (
    "architectures model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size " +
    "max_position_embeddings original_max_position_embeddings rms_norm_eps rope_theta rope_scaling rope_parameters tie_word_embeddings attention_bias mlp_bias hidden_act"
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
    fail(where, "unknown architecture", supported, architecture ?? architectures ?? "nothing", "architectures[0] decides");
  const kind = architecture as Architecture;
  const layers = whole(where, raw, "num_hidden_layers", most.layers);
  refuseUnsupported(where, raw, kind, layers);
  const width = whole(where, raw, "hidden_size", most.width);
  const heads = whole(where, raw, "num_attention_heads", most.width);
  const kvHeads = whole(where, raw, "num_key_value_heads", most.width, heads, true);
  if (heads % kvHeads !== 0) fail(where, "num_key_value_heads does not divide num_attention_heads", `a divisor of ${heads}`, kvHeads);
  const headDim = whole(where, raw, "head_dim", most.width, defaults[kind].head_dim ?? width / heads, true);
  if (headDim % 4 !== 0 || headDim > maxHeadWidth)
    fail(where, "head_dim is not supported", `a multiple of 4, at most ${maxHeadWidth}`, headDim);
  const maxPositions = whole(where, raw, "max_position_embeddings", most.positions, defaults[kind].max_position_embeddings);
  const { theta, scaling } = parseRope(where, raw, maxPositions);
  const attentionBias = flag(where, raw, "attention_bias", false);
  return {
    architecture: kind,
    width,
    mlpWidth: whole(where, raw, "intermediate_size", most.width),
    layers,
    heads,
    kvHeads,
    headDim,
    vocabulary: whole(where, raw, "vocab_size", most.vocabulary),
    maxPositions: positionsWith(scaling, maxPositions),
    normEps: number(where, raw, "rms_norm_eps", { fallback: 1e-6 }),
    ropeTheta: theta,
    ropeScaling: scaling,
    tiedEmbeddings: flag(where, raw, "tie_word_embeddings", false),
    qkvBias: kind === "Qwen2ForCausalLM" || attentionBias,
    outputBias: kind !== "Qwen2ForCausalLM" && attentionBias,
    mlpBias: kind === "LlamaForCausalLM" && flag(where, raw, "mlp_bias", false),
    qkNorm: kind === "Qwen3ForCausalLM",
    extra: Object.fromEntries(Object.entries(raw).filter(([key]) => !known.has(key))),
  };
}

/** Published models keep the original number of positions in `max_position_embeddings` and tell users to add YaRN for longer texts. */
function positionsWith(scaling: RopeScaling, maxPositions: number): number {
  if (scaling.type !== "yarn") return maxPositions;
  return Math.max(maxPositions, Math.floor(scaling.factor * scaling.originalMaxPositions));
}

/** `rope_scaling` of config.json. Of YaRN's fields, those that are not transformers' defaults. */
function scalingFields(scaling: RopeScaling): Record<string, unknown> | null {
  if (scaling.type === "default") return null;
  if (scaling.type === "linear") return { rope_type: "linear", factor: scaling.factor };
  const shared = { rope_type: scaling.type, factor: scaling.factor, original_max_position_embeddings: scaling.originalMaxPositions };
  if (scaling.type === "llama3") return { ...shared, low_freq_factor: scaling.lowFreqFactor, high_freq_factor: scaling.highFreqFactor };
  return {
    ...shared,
    ...(scaling.attentionFactor === yarnScale(scaling.factor) ? {} : { attention_factor: scaling.attentionFactor }),
    ...(scaling.betaFast === 32 ? {} : { beta_fast: scaling.betaFast }),
    ...(scaling.betaSlow === 1 ? {} : { beta_slow: scaling.betaSlow }),
    ...(scaling.truncate ? {} : { truncate: false }),
  };
}

/** The fields of config.json for this configuration; `fromHuggingFace` reads them back to the same. */
export function toHuggingFace(config: DecoderConfig): Record<string, unknown> {
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
    rope_scaling: scalingFields(config.ropeScaling),
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
