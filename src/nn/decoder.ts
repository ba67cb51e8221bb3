/** The decoder transformer: Llama, Qwen2 and Qwen3 in one. Two ways through the same kernels: packed for training, paged for sampling. */
import type { Device, Dtype } from "../device/device.ts";
import { attention } from "../ops/attention.ts";
import { attentionPaged } from "../ops/attention-paged.ts";
import { embedding } from "../ops/embedding.ts";
import { kvWrite, type PagedPlaces } from "../ops/kv-write.ts";
import { linear } from "../ops/matmul.ts";
import { rmsNorm } from "../ops/rms-norm.ts";
import { checkpoint } from "../tensor/checkpoint.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape } from "../tensor/tape.ts";
import { fromHost, Parameter, type Tensor } from "../tensor/tensor.ts";
import { ConfigError, RequestError } from "../util/errors.ts";
import { streamKey } from "../util/philox.ts";
import type { PackedBatch } from "./batch.ts";
import { DecoderBlock, linearNames, type LinearName } from "./block.ts";
import { parameterShapes, type DecoderConfig } from "./config.ts";
import { initialiseParameters, writeNormal } from "./initialise.ts";
import type { KvCache } from "./kv-cache.ts";
import { ropeTable } from "./rope-table.ts";

export interface DecoderOptions {
  /** Storage type of the weights: f32 can be trained; f16 and bf16 are for frozen models. */
  readonly dtype?: Dtype;
  /** Positions to prepare for, at most the configuration's maxPositions: the longest sequence this model will see. */
  readonly maxPositions?: number;
}

export interface ForwardOptions {
  /** Keep only each block's input for the backward pass and compute the rest again. */
  readonly recompute?: boolean;
  /** Type of the cache that sampling used; f32 unless told. */
  readonly cacheDtype?: Dtype;
  /** A LoRA adapter by name. */
  readonly adapter?: string | undefined;
}

/** Tokens for the paged forward: `ids` [N] and their places in the cache. */
export interface PagedBatch extends PagedPlaces {
  readonly ids: Tensor;
}

/** The size of a LoRA adapter, and where it sits. */
export interface AdapterShape {
  /** r */
  readonly rank: number;
  /** The pair's product is scaled by alpha / rank. */
  readonly alpha: number;
  /** The linear layers of every block that have a pair. */
  readonly targets: readonly LinearName[];
}

/** One pair of matrices of an adapter whose layers differ. */
export interface PairShape {
  readonly rank: number;
  readonly scale: number;
}

export interface AdapterOptions extends Omit<AdapterShape, "targets"> {
  /** Of the first numbers. Without it the adapter's contents are undefined until they are written (a checkpoint). */
  readonly seed?: number;
  /** All seven linear layers of a block unless told. */
  readonly targets?: readonly LinearName[];
  /** What differs from layer to layer among the targets: rank and scale, or null for a layer without a pair. */
  readonly pair?: (layer: number, target: LinearName) => PairShape | null;
  /** Whether it learns: yes unless told. */
  readonly trainable?: boolean;
}

interface Adapter {
  readonly shape: AdapterShape;
  readonly parameters: ReadonlyMap<string, Parameter>;
}

export class Decoder {
  readonly config: DecoderConfig;
  readonly device: Device;
  readonly dtype: Dtype;
  /** Positions a sequence may have here. */
  readonly maxPositions: number;
  /** @internal */
  readonly blocks: readonly DecoderBlock[];
  private readonly weights = new Map<string, Parameter>();
  private readonly adapters = new Map<string, Adapter>();
  private readonly table: Tensor;

  /** Weights are undefined until written (`initialise`, or a checkpoint). The caller disposes of it. */
  constructor(config: DecoderConfig, device: Device, options: DecoderOptions = {}) {
    this.config = config;
    this.device = device;
    this.dtype = options.dtype ?? "f32";
    this.maxPositions = Math.min(options.maxPositions ?? config.maxPositions, config.maxPositions);
    for (const { name, shape } of parameterShapes(config)) this.weights.set(name, new Parameter(device, name, shape, this.dtype));
    this.blocks = Array.from(
      { length: config.layers },
      (_, layer) => new DecoderBlock(config, (name) => this.weights.get(`model.layers.${layer}.${name}`) ?? null),
    );
    this.table = keep(fromHost(device, ropeTable(config, this.maxPositions), [this.maxPositions, config.headDim], { label: "RoPE table" }));
  }

  /** A decoder with first weights drawn from `seed`. */
  static initialise(config: DecoderConfig, device: Device, seed: number, options?: DecoderOptions): Decoder {
    const decoder = new Decoder(config, device, options);
    initialiseParameters(config, decoder.weights, seed);
    return decoder;
  }

  /** Weights by their Hugging Face names, in the order of the forward pass; adapters apart (`adapterParameters`). */
  parameters(): ReadonlyMap<string, Parameter> {
    return this.weights;
  }

  /** [V, C]: the head's own weight, or the embedding where they are tied. */
  get headWeight(): Parameter {
    return this.weight(this.config.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  }

  /**
   * Packed forward for training: ids, positions [N], offsets [B + 1] u32 -> hidden states after the final norm, [N, C] f32.
   * Recorded if a tape runs. Its bits are those of `forwardPaged`.
   */
  forward(batch: PackedBatch, options: ForwardOptions = {}): Tensor {
    const { recompute = false, cacheDtype = "f32", adapter } = options;
    if (adapter !== undefined) this.adapter(adapter); // throws for an unknown name
    if (batch.longest > this.maxPositions)
      throw new RequestError({
        where: "Decoder.forward",
        what: "a sequence is longer than the positions this model was opened for",
        expected: `at most ${this.maxPositions} tokens`,
        got: String(batch.longest),
      });
    const { heads, kvHeads } = this.config;
    const { positions, offsets } = batch;
    const run = (block: DecoderBlock, x: Tensor): Tensor =>
      block.forward(x, positions, this.table, (q, k, v) => attention(q, k, v, offsets, { heads, kvHeads, cacheDtype }), adapter);
    // Blocks below all that learns are not recorded, and so need not be recomputed.
    const again = (block: DecoderBlock, x: Tensor): boolean => recompute && (x.requiresGrad || block.learns(adapter));
    return withScope(() => {
      let x = embedding(batch.ids, this.weight("model.embed_tokens.weight"));
      for (const block of this.blocks)
        x = step(x, (input) =>
          again(block, input) ? checkpoint((kept) => run(block, kept), [input], [positions, offsets]) : run(block, input),
        );
      return rmsNorm(x, this.weight("model.norm.weight"), this.config.normEps);
    });
  }

  /**
   * Forward against the cache, for prefill and decode: writes keys and values of the N tokens, then attends -> hidden states after
   * the final norm, [N, C]. Nothing is recorded. Rows marked inactive give undefined rows; their ids must still be below V.
   */
  forwardPaged(batch: PagedBatch, cache: KvCache, options: { readonly adapter?: string | undefined } = {}): Tensor {
    const { adapter } = options;
    if (adapter !== undefined) this.adapter(adapter); // throws for an unknown name
    const { heads, kvHeads } = this.config;
    return withoutTape(() =>
      withScope(() => {
        let x = embedding(batch.ids, this.weight("model.embed_tokens.weight"));
        this.blocks.forEach((block, layer) => {
          const [keys, values] = [cache.keys[layer]!, cache.values[layer]!];
          x = step(x, (input) =>
            block.forward(
              input,
              batch.positions,
              this.table,
              (q, k, v) => {
                kvWrite(k, v, batch, keys, values, kvHeads);
                return attentionPaged(q, batch, keys, values, { heads, kvHeads });
              },
              adapter,
            ),
          );
        });
        return rmsNorm(x, this.weight("model.norm.weight"), this.config.normEps);
      }),
    );
  }

  /** hidden [N, C] -> logits [N, V]. For sampling a few rows; a loss over many uses `logProb`. */
  logits(hidden: Tensor): Tensor {
    return linear(hidden, this.headWeight);
  }

  /**
   * Adds a LoRA adapter: a drawn from N(0, 1 / in), b zero, so that it changes nothing yet. The weights themselves stay as they are.
   * @throws ConfigError when the name is taken, the rank is no positive integer, or there are no targets.
   */
  addAdapter(name: string, options: AdapterOptions): ReadonlyMap<string, Parameter> {
    const { rank, alpha, seed, targets = linearNames, trainable = true } = options;
    const pair = options.pair ?? (() => ({ rank, scale: alpha / rank }));
    if (this.adapters.has(name)) throw new ConfigError({ where: "addAdapter", what: `this model has an adapter "${name}" already` });
    if (!Number.isInteger(rank) || rank < 1)
      throw new ConfigError({ where: "addAdapter", what: "wrong rank", expected: "a positive integer", got: String(rank) });
    if (targets.length === 0)
      throw new ConfigError({ where: "addAdapter", what: "no linear layer gets a pair", expected: linearNames.join(", "), got: "none" });
    const added = new Map<string, Parameter>();
    const key = seed === undefined ? null : streamKey(seed, "initialise");
    this.blocks.forEach((block, layer) => {
      for (const target of targets) {
        const shape = pair(layer, target);
        if (shape === null) continue;
        const place = block.linears.get(target)!;
        // The names that peft gives to the same matrices.
        const prefix = `base_model.model.model.layers.${layer}.${target}`;
        const a = new Parameter(this.device, `${prefix}.lora_A.weight`, [shape.rank, place.weight.cols]);
        const b = new Parameter(this.device, `${prefix}.lora_B.weight`, [place.weight.rows, shape.rank]);
        if (key !== null) {
          writeNormal(a, key, (1 << 20) + added.size, 1 / Math.sqrt(place.weight.cols));
          b.write(new Float32Array(b.size));
        }
        place.adapters.set(name, { a, b, scale: shape.scale });
        added.set(a.name, a).set(b.name, b);
      }
    });
    this.adapters.set(name, { shape: { rank, alpha, targets }, parameters: added });
    this.setAdapterTrainable(name, trainable);
    return added;
  }

  /** Whether an adapter learns: a frozen one gets no gradients. @throws ConfigError for an unknown name. */
  setAdapterTrainable(name: string, trainable: boolean): void {
    for (const parameter of this.adapter(name).parameters.values()) parameter.requiresGrad = trainable;
  }

  /** Frees an adapter. @throws ConfigError for an unknown name. */
  removeAdapter(name: string): void {
    for (const parameter of this.adapter(name).parameters.values()) parameter.dispose();
    for (const block of this.blocks) for (const place of block.linears.values()) place.adapters.delete(name);
    this.adapters.delete(name);
  }

  /** In the order in which they were added. */
  get adapterNames(): readonly string[] {
    return [...this.adapters.keys()];
  }

  /** @throws ConfigError for an unknown name. */
  adapterShape(name: string): AdapterShape {
    return this.adapter(name).shape;
  }

  /** The parameters of one adapter, by peft's names. @throws ConfigError for an unknown name. */
  adapterParameters(name: string): ReadonlyMap<string, Parameter> {
    return this.adapter(name).parameters;
  }

  /** Whether the weights (not the adapters) are trained: a frozen model records and keeps nothing for them. */
  setTrainable(trainable: boolean): void {
    if (trainable && this.dtype !== "f32")
      throw new ConfigError({ where: "setTrainable", what: "weights of this type cannot be trained", expected: "f32", got: this.dtype });
    for (const parameter of this.weights.values()) parameter.requiresGrad = trainable;
  }

  /** Frees weights, gradients and adapters. */
  dispose(): void {
    this.table.dispose();
    for (const parameter of this.weights.values()) parameter.dispose();
    for (const { parameters } of this.adapters.values()) for (const parameter of parameters.values()) parameter.dispose();
  }

  private weight(name: string): Parameter {
    return this.weights.get(name)!;
  }

  private adapter(name: string): Adapter {
    const adapter = this.adapters.get(name);
    if (adapter === undefined)
      throw new ConfigError({
        where: "Decoder",
        what: `no adapter "${name}"`,
        expected: this.adapterNames.join(", ") || "none: the model has no adapters",
        got: name,
      });
    return adapter;
  }
}

/** One block in a scope of its own; its input is freed unless a tape holds it. */
function step(input: Tensor, fn: (input: Tensor) => Tensor): Tensor {
  const output = withScope(() => fn(input));
  if (!input.requiresGrad && !output.requiresGrad) input.dispose();
  return output;
}
