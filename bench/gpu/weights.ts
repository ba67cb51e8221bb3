/** Random weights that are made on the device: one block of rows is uploaded and copied until a parameter is full. */
import { Decoder, fromHost, full, keep, type DecoderConfig, type Device, type Dtype, type Tensor } from "zerosearch";

/** Numbers of a block: enough that rows a matrix product meets together differ. */
const blockNumbers = 1 << 21;

/** Uniform numbers of variance `deviation`^2, by a linear congruential generator (Knuth, MMIX constants cut to 32 bits). */
export function randomNumbers(count: number, deviation: number, seed = 1): Float32Array {
  const out = new Float32Array(count);
  const scale = (deviation * Math.sqrt(12)) / 2 ** 32;
  let state = (seed * 2654435761) >>> 0;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // The high bits are the random ones.
    out[i] = ((state ^ (state >>> 16)) - 2 ** 31) * scale;
  }
  return out;
}

/** Blocks of random rows on a device, by their width. */
export class RandomRows {
  private readonly device: Device;
  private readonly blocks = new Map<string, Tensor>();

  constructor(device: Device) {
    this.device = device;
  }

  /** Fills a matrix (f32, f16 or bf16) with numbers of that deviation. */
  fill(tensor: Tensor, deviation: number): void {
    const { cols, rows } = tensor;
    const most = Math.max(1, Math.floor(blockNumbers / cols));
    const key = `${cols} ${deviation}`;
    let block = this.blocks.get(key);
    if (block === undefined || block.rows < Math.min(rows, most)) {
      block?.dispose();
      const count = Math.min(rows, most);
      block = keep(fromHost(this.device, randomNumbers(count * cols, deviation, cols), [count, cols], { label: "random rows" }));
      this.blocks.set(key, block);
    }
    for (let row = 0; row < rows; row += block.rows)
      this.device.run("copy", { fromRow: 0, toRow: row, rows: Math.min(block.rows, rows - row) }, [block.storage], [tensor.storage]);
  }

  dispose(): void {
    for (const block of this.blocks.values()) block.dispose();
    this.blocks.clear();
  }
}

export interface RandomDecoderOptions {
  readonly dtype: Dtype;
  readonly maxPositions: number;
  /** Leave the weights as they come: where nothing is computed. */
  readonly undefinedWeights?: boolean;
}

/** A decoder whose matrices are random with the deviations of first weights; norms are 1, biases 0. The caller disposes of it. */
export function randomDecoder(config: DecoderConfig, device: Device, options: RandomDecoderOptions): Decoder {
  const { dtype, maxPositions } = options;
  const decoder = new Decoder(config, device, { dtype, maxPositions });
  if (options.undefinedWeights === true) return decoder;
  const random = new RandomRows(device);
  for (const [name, parameter] of decoder.parameters()) {
    if (parameter.shape.length > 1) random.fill(parameter, name.includes("embed_tokens") ? 0.02 : 1 / Math.sqrt(parameter.cols));
    else {
      const value = full(device, parameter.shape, name.endsWith("norm.weight") ? 1 : 0);
      device.run("copy", { fromRow: 0, toRow: 0, rows: 1 }, [value.storage], [parameter.storage]);
      value.dispose();
    }
  }
  random.dispose();
  return decoder;
}

/** Ids that look random and are the same every time. */
export function someIds(count: number, vocabulary: number, seed: number): number[] {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % vocabulary;
  });
}
