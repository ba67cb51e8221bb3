/**
 * Cosines and sines for RoPE.
 *
 * Source: Su et al. 2021, arXiv:2104.09864; YaRN: Peng et al. 2023, arXiv:2309.00071; all scaling as in transformers' `modeling_rope_utils.py`.
 */
import type { DecoderConfig, RopeScaling } from "./config.ts";

/** Angles per position, [D / 2], in float64. */
export function ropeFrequencies(config: Pick<DecoderConfig, "headDim" | "ropeTheta" | "ropeScaling">): Float64Array {
  const { headDim, ropeTheta, ropeScaling: scaling } = config;
  const frequencies = new Float64Array(headDim / 2);
  for (let d = 0; d < frequencies.length; d++) {
    const frequency = ropeTheta ** ((-2 * d) / headDim);
    if (scaling.type === "default") frequencies[d] = frequency;
    else if (scaling.type === "linear") frequencies[d] = frequency / scaling.factor;
    else if (scaling.type === "yarn") {
      // Short waves are left alone, long ones stretched by `factor`; between them the share falls with the dimension.
      const [low, high] = yarnBorders(config.headDim, ropeTheta, scaling);
      const stretched = Math.min(1, Math.max(0, (d - low) / (high - low)));
      frequencies[d] = (stretched * frequency) / scaling.factor + (1 - stretched) * frequency;
    } else {
      // Llama 3: long waves are stretched by `factor`, short ones left alone, those between blended.
      const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
      const blend = Math.min(1, Math.max(0, (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor)));
      frequencies[d] = ((1 - blend) * frequency) / scaling.factor + blend * frequency;
    }
  }
  return frequencies;
}

/** The dimensions, of D / 2, up to which a wave keeps its length and from which on it is stretched whole. */
function yarnBorders(headDim: number, theta: number, scaling: Extract<RopeScaling, { type: "yarn" }>): readonly [number, number] {
  // Wave d turns P theta^(-2d/D) / 2 pi times over P positions: this is d where it turns so often.
  const dimension = (turns: number): number =>
    (headDim * Math.log(scaling.originalMaxPositions / (2 * Math.PI * turns))) / (2 * Math.log(theta));
  const [from, to] = [dimension(scaling.betaFast), dimension(scaling.betaSlow)];
  const low = Math.max(0, scaling.truncate ? Math.floor(from) : from);
  const high = Math.min(headDim - 1, scaling.truncate ? Math.ceil(to) : to);
  return [low, high === low ? high + 0.001 : high];
}

/** [positions, D] f32: D/2 cosines, then D/2 sines; with YaRN times its attention factor. */
export function ropeTable(config: Pick<DecoderConfig, "headDim" | "ropeTheta" | "ropeScaling">, positions: number): Float32Array {
  const frequencies = ropeFrequencies(config);
  const half = frequencies.length;
  const scale = config.ropeScaling.type === "yarn" ? config.ropeScaling.attentionFactor : 1;
  const table = new Float32Array(positions * 2 * half);
  for (let p = 0; p < positions; p++) {
    for (let d = 0; d < half; d++) {
      const angle = p * frequencies[d]!;
      table[p * 2 * half + d] = scale * Math.cos(angle);
      table[p * 2 * half + half + d] = scale * Math.sin(angle);
    }
  }
  return table;
}
