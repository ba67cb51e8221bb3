/** Cosines and sines for RoPE. Source: Su et al. 2021, arXiv:2104.09864; scaling as in transformers' `modeling_rope_utils.py`. */
import type { DecoderConfig } from "./config.ts";

/** Angles per position, [D / 2], in float64. */
export function ropeFrequencies(config: Pick<DecoderConfig, "headDim" | "ropeTheta" | "ropeScaling">): Float64Array {
  const { headDim, ropeTheta, ropeScaling: scaling } = config;
  const frequencies = new Float64Array(headDim / 2);
  for (let d = 0; d < frequencies.length; d++) {
    const frequency = ropeTheta ** ((-2 * d) / headDim);
    if (scaling.type === "default") frequencies[d] = frequency;
    else if (scaling.type === "linear") frequencies[d] = frequency / scaling.factor;
    else {
      // Llama 3: long waves are stretched by `factor`, short ones left alone, those between blended.
      const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
      const blend = Math.min(1, Math.max(0, (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor)));
      frequencies[d] = ((1 - blend) * frequency) / scaling.factor + blend * frequency;
    }
  }
  return frequencies;
}

/** [positions, D] f32: D/2 cosines, then D/2 sines. */
export function ropeTable(config: Pick<DecoderConfig, "headDim" | "ropeTheta" | "ropeScaling">, positions: number): Float32Array {
  const frequencies = ropeFrequencies(config);
  const half = frequencies.length;
  const table = new Float32Array(positions * 2 * half);
  for (let p = 0; p < positions; p++) {
    for (let d = 0; d < half; d++) {
      const angle = p * frequencies[d]!;
      table[p * 2 * half + d] = Math.cos(angle);
      table[p * 2 * half + half + d] = Math.sin(angle);
    }
  }
  return table;
}
