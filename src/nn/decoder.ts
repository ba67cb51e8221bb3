/** The decoder transformer: Llama, Qwen2 and Qwen3 in one. Two ways through the same kernels: packed for training, paged for sampling. */
import type { Device, Dtype } from "../device/device.ts";
import { attention } from "../ops/attention.ts";
import { attentionPaged, type PagedPlaces } from "../ops/attention-paged.ts";
import { embedding } from "../ops/embedding.ts";
import { kvWrite } from "../ops/kv-write.ts";
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
  readonly kvDtype?: Dtype;
  /** A LoRA adapter by name. */
  readonly adapter?: string | undefined;
}

/** Tokens for the paged forward: `ids` [N] and their places in the cache. */
export interface PagedBatch extends PagedPlaces {
  readonly ids: Tensor;
}

export interface AdapterOptions {
  /** r */
  readonly rank: number;
  /** The pair's product is scaled by alpha / rank. */
  readonly alpha: number;
  readonly seed: number;
  /** All seven linear layers of a block unless told. */
  readonly targets?: readonly LinearName[];
}

export class Decoder {
  readonly config: DecoderConfig;
  readonly device: Device;
  readonly dtype: Dtype;
  /** Positions a sequence may have here. */
  readonly maxPositions: number;
  readonly blocks: readonly DecoderBlock[];
  private readonly weights = new Map<string, Parameter>();
  private readonly adapters = new Map<string, Map<string, Parameter>>();
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
    const { recompute = false, kvDtype = "f32", adapter } = options;
    this.checkAdapter(adapter);
    if (batch.longest > this.maxPositions)
      throw new RequestError({
        where: "Decoder.forward",
        what: "a sequence is longer than the positions this model was opened for",
        expected: `at most ${this.maxPositions} tokens`,
        got: String(batch.longest),
      });
    const { heads, kvHeads } = this.config;
    const run = (block: DecoderBlock, x: Tensor): Tensor =>
      block.forward(x, batch.positions, this.table, (q, k, v) => attention(q, k, v, batch.offsets, { heads, kvHeads, kvDtype }), adapter);
    return withScope(() => {
      let x = embedding(batch.ids, this.weight("model.embed_tokens.weight"));
      for (const block of this.blocks)
        x = step(x, (input) => (recompute ? checkpoint((again) => run(block, again), [input]) : run(block, input)));
      return rmsNorm(x, this.weight("model.norm.weight"), this.config.normEps);
    });
  }

  /**
   * Forward against the cache, for prefill and decode: writes keys and values of the N tokens, then attends -> hidden states after
   * the final norm, [N, C]. Nothing is recorded. Rows marked inactive give undefined rows; their ids must still be below V.
   */
  forwardPaged(batch: PagedBatch, cache: KvCache, options: { readonly adapter?: string | undefined } = {}): Tensor {
    const { adapter } = options;
    this.checkAdapter(adapter);
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
   * Adds a LoRA adapter: a drawn from N(0, 1 / in), b zero, so that it changes nothing yet. Trainable; the weights themselves stay as they are.
   * @throws ConfigError when the name is taken, or the rank is no positive integer.
   */
  addAdapter(name: string, options: AdapterOptions): ReadonlyMap<string, Parameter> {
    const { rank, alpha, seed, targets = linearNames } = options;
    if (this.adapters.has(name)) throw new ConfigError({ where: "addAdapter", what: `this model has an adapter "${name}" already` });
    if (!Number.isInteger(rank) || rank < 1)
      throw new ConfigError({ where: "addAdapter", what: "wrong rank", expected: "a positive integer", got: String(rank) });
    const added = new Map<string, Parameter>();
    const key = streamKey(seed, "initialise");
    this.blocks.forEach((block, layer) => {
      for (const target of targets) {
        const place = block.linears.get(target)!;
        // The names that peft gives to the same matrices.
        const prefix = `base_model.model.model.layers.${layer}.${target}`;
        const a = new Parameter(this.device, `${prefix}.lora_A.weight`, [rank, place.weight.cols]);
        const b = new Parameter(this.device, `${prefix}.lora_B.weight`, [place.weight.rows, rank]);
        writeNormal(a, key, (1 << 20) + added.size, 1 / Math.sqrt(place.weight.cols));
        b.write(new Float32Array(b.size));
        place.adapters.set(name, { a, b, scale: alpha / rank });
        added.set(a.name, a).set(b.name, b);
      }
    });
    this.adapters.set(name, added);
    return added;
  }

  /** The parameters of one adapter, by peft's names. @throws ConfigError for an unknown name. */
  adapterParameters(name: string): ReadonlyMap<string, Parameter> {
    this.checkAdapter(name);
    return this.adapters.get(name)!;
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
    for (const adapter of this.adapters.values()) for (const parameter of adapter.values()) parameter.dispose();
  }

  private weight(name: string): Parameter {
    return this.weights.get(name)!;
  }

  private checkAdapter(name: string | undefined): void {
    if (name !== undefined && !this.adapters.has(name))
      throw new ConfigError({
        where: "Decoder",
        what: `no adapter "${name}"`,
        expected: [...this.adapters.keys()].join(", ") || "none: the model has no adapters",
        got: name,
      });
  }
}

/** One block in a scope of its own; its input is freed unless a tape holds it. */
function step(input: Tensor, fn: (input: Tensor) => Tensor): Tensor {
  const output = withScope(() => fn(input));
  if (!input.requiresGrad && !output.requiresGrad) input.dispose();
  return output;
}
