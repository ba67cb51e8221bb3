/**
 * The decoder of Llama, Qwen2 and Qwen3 in float64, one sequence at a time, in plain loops: written from the papers and from
 * transformers' modelling files, not from `src/nn`. Gradients come from central differences of its loss.
 */
import type { DecoderConfig } from "../../src/nn/config.ts";

export type Weights = ReadonlyMap<string, Float64Array>;

type Rows = Float64Array[];

function linear(weights: Weights, name: string, x: Rows): Rows {
  const weight = weights.get(`${name}.weight`)!;
  const bias = weights.get(`${name}.bias`);
  const width = x[0]!.length;
  return x.map((row) =>
    Float64Array.from({ length: weight.length / width }, (_, o) =>
      row.reduce((sum, value, i) => sum + value * weight[o * width + i]!, bias?.[o] ?? 0),
    ),
  );
}

function norm(weight: Float64Array, x: Float64Array, eps: number): Float64Array {
  const rms = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + eps);
  return x.map((value, i) => (value / rms) * weight[i]!);
}

function frequency(config: DecoderConfig, d: number): number {
  const plain = config.ropeTheta ** (-(2 * d) / config.headDim);
  const scaling = config.ropeScaling;
  if (scaling.type === "default") return plain;
  if (scaling.type === "linear") return plain / scaling.factor;
  if (scaling.type === "yarn") throw new Error("the numpy decoder (oracle.py) is the reference for YaRN");
  const wavelength = (2 * Math.PI) / plain;
  if (wavelength < scaling.originalMaxPositions / scaling.highFreqFactor) return plain;
  if (wavelength > scaling.originalMaxPositions / scaling.lowFreqFactor) return plain / scaling.factor;
  const smooth = (scaling.originalMaxPositions / wavelength - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor);
  return ((1 - smooth) * plain) / scaling.factor + smooth * plain;
}

/** x as heads of D: normed if there is a weight, then turned by the position. */
function prepareHeads(config: DecoderConfig, x: Rows, weight: Float64Array | undefined): Rows[] {
  const D = config.headDim;
  return x.map((row, position) =>
    Array.from({ length: row.length / D }, (_, h) => {
      const plain = row.slice(h * D, (h + 1) * D);
      const head = weight === undefined ? plain : norm(weight, plain, config.normEps);
      return head.map((value, d) => {
        const angle = position * frequency(config, d % (D / 2));
        return d < D / 2
          ? value * Math.cos(angle) - head[d + D / 2]! * Math.sin(angle)
          : value * Math.cos(angle) + head[d - D / 2]! * Math.sin(angle);
      });
    }),
  );
}

function attend(config: DecoderConfig, q: Rows[], k: Rows[], v: Rows): Rows {
  const D = config.headDim;
  return q.map((heads, n) => {
    const out = new Float64Array(config.heads * D);
    heads.forEach((query, h) => {
      const group = Math.floor(h / (config.heads / config.kvHeads));
      const scores = k.slice(0, n + 1).map((keys) => keys[group]!.reduce((sum, value, d) => sum + value * query[d]!, 0) / Math.sqrt(D));
      const max = Math.max(...scores);
      const total = scores.reduce((sum, score) => sum + Math.exp(score - max), 0);
      scores.forEach((score, t) => {
        for (let d = 0; d < D; d++) out[h * D + d]! += (Math.exp(score - max) / total) * v[t]![group * D + d]!;
      });
    });
    return out;
  });
}

const plus = (a: Rows, b: Rows): Rows => a.map((row, n) => row.map((value, i) => value + b[n]![i]!));

/** Logits [T][V] of one sequence. */
export function referenceLogits(config: DecoderConfig, weights: Weights, ids: readonly number[]): Rows {
  const C = config.width;
  const table = weights.get("model.embed_tokens.weight")!;
  let x: Rows = ids.map((id) => table.slice(id * C, (id + 1) * C));
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    const a = x.map((row) => norm(weights.get(`${prefix}.input_layernorm.weight`)!, row, config.normEps));
    const q = prepareHeads(config, linear(weights, `${prefix}.self_attn.q_proj`, a), weights.get(`${prefix}.self_attn.q_norm.weight`));
    const k = prepareHeads(config, linear(weights, `${prefix}.self_attn.k_proj`, a), weights.get(`${prefix}.self_attn.k_norm.weight`));
    const v = linear(weights, `${prefix}.self_attn.v_proj`, a);
    x = plus(x, linear(weights, `${prefix}.self_attn.o_proj`, attend(config, q, k, v)));
    const b = x.map((row) => norm(weights.get(`${prefix}.post_attention_layernorm.weight`)!, row, config.normEps));
    const gate = linear(weights, `${prefix}.mlp.gate_proj`, b);
    const up = linear(weights, `${prefix}.mlp.up_proj`, b);
    x = plus(
      x,
      linear(
        weights,
        `${prefix}.mlp.down_proj`,
        gate.map((row, n) => row.map((value, i) => (value / (1 + Math.exp(-value))) * up[n]![i]!)),
      ),
    );
  }
  const final = x.map((row) => norm(weights.get("model.norm.weight")!, row, config.normEps));
  const head = new Map([["head.weight", config.tiedEmbeddings ? table : weights.get("lm_head.weight")!]]);
  return linear(head, "head", final);
}

/** log softmax(z)[target]. */
export function logSoftmaxAt(z: Float64Array, target: number): number {
  const max = z.reduce((a, b) => Math.max(a, b), -Infinity);
  return z[target]! - max - Math.log(z.reduce((sum, value) => sum + Math.exp(value - max), 0));
}

/** Summed negative log-likelihood of every next token of every sequence. */
export function referenceLoss(config: DecoderConfig, weights: Weights, sequences: readonly (readonly number[])[]): number {
  let loss = 0;
  for (const ids of sequences) {
    const logits = referenceLogits(config, weights, ids);
    for (let t = 0; t + 1 < ids.length; t++) loss -= logSoftmaxAt(logits[t]!, ids[t + 1]!);
  }
  return loss;
}
