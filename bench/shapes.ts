/** The models of the benches, by shape; their FLOPs and bytes by formula. */
import { fromHuggingFace, type DecoderConfig } from "zerosearch";

export interface ModelShape {
  readonly name: string;
  readonly config: DecoderConfig;
}

interface Sizes {
  readonly C: number;
  readonly F: number;
  readonly L: number;
  readonly H: number;
  readonly K: number;
  readonly D: number;
  readonly V: number;
}

/** Source: config.json of Qwen/Qwen2.5-0.5B, -1.5B and -3B. All tie the head to the embedding. */
const full: Readonly<Record<string, Sizes>> = {
  "0.5B": { C: 896, F: 4864, L: 24, H: 14, K: 2, D: 64, V: 151936 },
  "1.5B": { C: 1536, F: 8960, L: 28, H: 12, K: 2, D: 128, V: 151936 },
  "3B": { C: 2048, F: 11008, L: 36, H: 16, K: 2, D: 128, V: 151936 },
};

/** The same kinds of layer, small enough for a GPU that is software: what they show is that everything runs. */
const reduced: Readonly<Record<string, Sizes>> = {
  "0.5B": { C: 128, F: 352, L: 2, H: 4, K: 2, D: 64, V: 1000 },
  "1.5B": { C: 192, F: 512, L: 2, H: 3, K: 1, D: 128, V: 1000 },
  "3B": { C: 256, F: 640, L: 2, H: 4, K: 2, D: 128, V: 1000 },
};

export const modelNames = Object.keys(full);

export function modelShape(name: string, sizes: "small" | "full", maxPositions: number): ModelShape {
  const found = (sizes === "full" ? full : reduced)[name];
  if (found === undefined) throw new Error(`bench: no model shape ${name}; expected ${modelNames.join(", ")}`);
  const { C, F, L, H, K, D, V } = found;
  const config = fromHuggingFace(
    {
      architectures: ["Qwen2ForCausalLM"],
      model_type: "qwen2",
      vocab_size: V,
      hidden_size: C,
      intermediate_size: F,
      num_hidden_layers: L,
      num_attention_heads: H,
      num_key_value_heads: K,
      head_dim: D,
      max_position_embeddings: maxPositions,
      rms_norm_eps: 1e-6,
      rope_theta: 1e6,
      hidden_act: "silu",
      tie_word_embeddings: true,
    },
    `bench ${name}`,
  );
  return { name: sizes === "full" ? name : `${name}-reduced`, config };
}

/** The numbers of weights that a token is multiplied with: all matrices, the tied head once. */
export function productWeights({
  width: C,
  mlpWidth: F,
  layers: L,
  heads: H,
  kvHeads: K,
  headDim: D,
  vocabulary: V,
}: DecoderConfig): number {
  return L * (2 * C * H * D + 2 * C * K * D + 3 * C * F) + C * V;
}

/** All parameters: the matrices, norms and biases. */
export function parameters(config: DecoderConfig): number {
  const { width: C, layers: L, heads: H, kvHeads: K, headDim: D } = config;
  return productWeights(config) + L * (2 * C + (H + 2 * K) * D) + C;
}

/** Work of something by formula, so that a reader can check it. */
export interface Work {
  readonly flops?: number;
  readonly flopsFormula?: string;
  /** Bytes that must move between the GPU's memory and its processors, at least. */
  readonly bytes?: number;
  readonly bytesFormula?: string;
}

/** Forward over sequences of T tokens each: every pair of query and key that the causal mask leaves is 2 products of D in every head. */
function attentionForward({ layers: L, heads: H, headDim: D }: DecoderConfig, sequences: number, T: number): number {
  return 2 * L * sequences * T * T * H * D;
}

/** Prefill of `sequences` prompts of T tokens. No logits are needed but those of the last tokens. */
export function prefillWork(config: DecoderConfig, sequences: number, T: number): Work {
  const P = productWeights(config) - config.width * config.vocabulary;
  return {
    flops: 2 * P * sequences * T + attentionForward(config, sequences, T),
    flopsFormula: `2 P B T + 2 L B T^2 H D, P = ${P} weights of the layers, head left out`,
  };
}

/** A training step over `sequences` of T tokens, loss on every token. What recomputation does again is not counted. */
export function trainWork(config: DecoderConfig, sequences: number, T: number): Work {
  const P = productWeights(config);
  return {
    flops: 6 * P * sequences * T + 3 * attentionForward(config, sequences, T),
    flopsFormula: `6 P B T + 6 L B T^2 H D, P = ${P} weights in products with the head; recomputation not counted`,
  };
}

/** One decode step of `batch` sequences with `context` tokens in the cache each. */
export function decodeWork(config: DecoderConfig, batch: number, context: number, weightBytes: number, cacheBytes: number): Work {
  const { layers: L, heads: H, kvHeads: K, headDim: D } = config;
  const P = productWeights(config);
  return {
    flops: 2 * P * batch + 4 * L * batch * context * H * D,
    flopsFormula: `2 P B + 4 L B T H D, P = ${P}, T = ${context}`,
    bytes: P * weightBytes + 2 * L * batch * context * K * D * cacheBytes,
    bytesFormula: `${weightBytes} P + ${2 * cacheBytes} L B T K D: weights and cache read once, P = ${P}, T = ${context}`,
  };
}

/**
 * Bytes that a training step needs: f32 masters, gradients and two moments, rounded copies of the weights, activations (a seventh more,
 * since buffers come in size classes), and the scratch memory of the head. Within 3 % of what the device counts at full size.
 */
export function trainingMemory(config: DecoderConfig, tokens: number, precision: "f32" | "f16", recompute: boolean): number {
  const { width: C, mlpWidth: F, layers: L, heads: H, kvHeads: K, headDim: D, vocabulary: V } = config;
  const all = parameters(config);
  const layer = 4 * tokens * (6 * C + 3 * H * D + 3 * K * D + 3 * F);
  const kept = recompute ? 4 * tokens * C * L + layer : layer * L;
  return 16 * all + (precision === "f16" ? 4 * all : 0) + 1.15 * (kept + layer) + Math.min(5e9, 4 * tokens * V);
}
