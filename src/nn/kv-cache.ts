/**
 * The key and value cache of one model: 64-token blocks, the same block numbers in every layer. Who owns which block is the
 * generator's business.
 */
import type { Device, Dtype } from "../device/device.ts";
import { kvCopy } from "../ops/kv-copy.ts";
import { kvBlockTokens } from "../ops/kv-write.ts";
import { keep } from "../tensor/scope.ts";
import { empty, fromHost, type Tensor } from "../tensor/tensor.ts";
import { ConfigError } from "../util/errors.ts";
import type { DecoderConfig } from "./config.ts";

export class KvCache {
  readonly device: Device;
  readonly blocks: number;
  readonly dtype: Dtype;
  /** Per layer, [blocks, K*D*64]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];

  /**
   * The caller disposes of it.
   * @throws ConfigError for no blocks or a type that cannot hold floats.
   * @throws DeviceError when memory runs out.
   */
  constructor(device: Device, config: DecoderConfig, blocks: number, dtype: Dtype = "f32") {
    if (!Number.isInteger(blocks) || blocks < 1)
      throw new ConfigError({ where: "KvCache", what: "wrong number of blocks", expected: "a positive integer", got: String(blocks) });
    if (dtype === "u32") throw new ConfigError({ where: "KvCache", what: "wrong type", expected: "f32, f16 or bf16", got: dtype });
    this.device = device;
    this.blocks = blocks;
    this.dtype = dtype;
    const width = config.kvHeads * config.headDim * kvBlockTokens;
    const make = (name: string): Tensor[] =>
      Array.from({ length: config.layers }, (_, layer) =>
        keep(empty(device, [blocks, width], { dtype, label: `${name} cache of layer ${layer}` })),
      );
    this.keys = make("key");
    this.values = make("value");
  }

  /** Bytes of all layers. */
  get bytes(): number {
    return [...this.keys, ...this.values].reduce((sum, cache) => sum + cache.storage.bytes, 0);
  }

  /** Bytes that `blocks` blocks of such a cache take. */
  static bytesFor(config: DecoderConfig, blocks: number, dtype: Dtype): number {
    return 2 * config.layers * blocks * config.kvHeads * config.headDim * kvBlockTokens * (dtype === "f32" ? 4 : 2);
  }

  /** Copies whole blocks in every layer, (from, to) each; no block is both. */
  copyBlocks(pairs: readonly (readonly [number, number])[]): void {
    if (pairs.length === 0) return;
    const table = keep(fromHost(this.device, Uint32Array.from(pairs.flat()), [pairs.length, 2], { label: "block pairs" }));
    this.keys.forEach((keys, layer) => {
      kvCopy(table, keys, this.values[layer]!);
    });
    table.dispose();
  }

  dispose(): void {
    for (const cache of [...this.keys, ...this.values]) cache.dispose();
  }
}
