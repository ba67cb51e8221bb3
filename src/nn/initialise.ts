/** First weights, as a pure function of the seed: number i of a parameter is drawn from Philox by the parameter's index and i. */
import { philox, streamKey, type Words2 } from "../util/philox.ts";
import type { Parameter } from "../tensor/tensor.ts";
import { parameterShapes, type DecoderConfig } from "./config.ts";

/** Two normals from two words (Box & Muller 1958); the first word is moved off 0. */
function normals(a: number, b: number): [number, number] {
  const radius = Math.sqrt(-2 * Math.log((a + 1) * 2 ** -32));
  const angle = 2 * Math.PI * b * 2 ** -32;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

/** `count` numbers of N(0, deviation^2), those from `first` (a multiple of 4) on, of stream `index`. */
export function normalNumbers(key: Words2, index: number, first: number, count: number, deviation: number): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 4) {
    const block = (first + i) / 4;
    const words = philox(key, [block >>> 0, Math.floor(block / 2 ** 32), index, 0]);
    const four = [...normals(words[0], words[1]), ...normals(words[2], words[3])];
    for (let j = 0; j < 4 && i + j < count; j++) out[i + j] = four[j]! * deviation;
  }
  return out;
}

/** Writes `parameter` with numbers of N(0, deviation^2), in pieces of bounded size. */
export function writeNormal(parameter: Parameter, key: Words2, index: number, deviation: number): void {
  // A multiple of 4 rows keeps every piece on a multiple of 4 numbers.
  const rowsAtOnce = Math.max(4, Math.floor((1 << 20) / parameter.cols / 4) * 4);
  for (let row = 0; row < parameter.rows; row += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, parameter.rows - row);
    parameter.write(normalNumbers(key, index, row * parameter.cols, rows * parameter.cols, deviation), row);
  }
}

/**
 * Matrices N(0, 1 / in), those that write to the residual stream times 1 / sqrt(2 L) (Radford et al. 2019, GPT-2), embedding
 * N(0, 0.02^2), norms 1, biases 0.
 */
export function initialiseParameters(config: DecoderConfig, parameters: ReadonlyMap<string, Parameter>, seed: number): void {
  const key = streamKey(seed, "initialise");
  parameterShapes(config).forEach(({ name, shape, kind }, index) => {
    const parameter = parameters.get(name)!;
    if (kind === "norm") parameter.write(new Float32Array(parameter.size).fill(1));
    else if (kind === "bias") parameter.write(new Float32Array(parameter.size));
    else if (kind === "embedding") writeNormal(parameter, key, index, 0.02);
    else writeNormal(parameter, key, index, (kind === "outputMatrix" ? 1 / Math.sqrt(2 * config.layers) : 1) / Math.sqrt(shape[1]!));
  });
}
