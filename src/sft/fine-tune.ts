/**
 * Supervised fine-tuning: examples, packed end to end, and one update on them by the weighted mean of next-token losses over a whole batch,
 * however it is split into micro-batches.
 */
import type { Decoder } from "../nn/decoder.ts";
import { crossEntropy } from "../ops/cross-entropy.ts";
import { gatherRows } from "../ops/gather-rows.ts";
import type { AdamW } from "../optim/adamw.ts";
import { backward } from "../tensor/backward.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape, withTape } from "../tensor/tape.ts";
import { fromHost, full } from "../tensor/tensor.ts";
import { DataError } from "../util/errors.ts";

/** One example. `weights[t]` is the loss weight of predicting `ids[t]` from what stands before it; the first token's is never used. */
export interface Example {
  readonly ids: readonly number[];
  readonly weights: readonly number[];
}

export interface FineTuneSettings {
  readonly learningRate: number;
  /** Tokens in one forward and backward pass. */
  readonly microBatchTokens: number;
  readonly recompute?: boolean;
  /** The LoRA adapter that learns, by its name in the decoder, whose parameters the optimizer then has; all weights unless told. */
  readonly adapter?: string | undefined;
}

export interface FineTuneStats {
  /** Weighted mean of -log p over the batch, in nats. */
  readonly loss: number;
  /** NaN when the update was refused: weights and moments are as they were. */
  readonly gradNorm: number;
  /** It was refused because of its loss scale, which is halved now; else a refusal means that training has diverged. */
  readonly overflowed: boolean;
}

/** Cuts a batch into micro-batches of at most `tokens` tokens; an example that is longer stands alone. */
function microBatches(examples: readonly Example[], tokens: number): Example[][] {
  const batches: Example[][] = [];
  let room = 0;
  for (const example of examples) {
    if (batches.length === 0 || example.ids.length > room) {
      batches.push([]);
      room = tokens;
    }
    (batches.at(-1) as Example[]).push(example);
    room -= example.ids.length;
  }
  return batches;
}

/**
 * Forward, backward and one AdamW step over `examples`. Waits for the loss only at the end.
 * @throws DataError when no token has a weight; ConfigError for an adapter that the decoder does not have.
 */
export async function fineTuneStep(
  decoder: Decoder,
  optimizer: AdamW,
  examples: readonly Example[],
  settings: FineTuneSettings,
): Promise<FineTuneStats> {
  const packed = microBatches(examples, settings.microBatchTokens).map(packExamples);
  const { adapter, recompute = false } = settings;
  const { lossScale } = optimizer;
  const scale = lossScale / packed.reduce((sum, { weightSum }) => sum + weightSum, 0);
  const { device } = decoder;
  optimizer.zeroGrad();
  const stats = keep(full(device, [1, 2], 0, { label: "fine-tuning loss" }));
  try {
    for (const batch of packed) {
      withScope(() => {
        const vector = (values: Uint32Array | Float32Array, label: string) => fromHost(device, values, [values.length], { label });
        const inputs = {
          ids: vector(batch.ids, "ids"),
          positions: vector(batch.positions, "positions"),
          offsets: vector(batch.offsets, "offsets"),
          longest: batch.positions.reduce((most, position) => Math.max(most, position + 1), 0),
        };
        const rows = vector(batch.rows, "rows"),
          targets = vector(batch.targets, "targets"),
          weights = vector(batch.weights, "weights");
        const { tape, value: loss } = withTape(() => {
          const hidden = gatherRows(decoder.forward(inputs, { recompute, adapter }), rows);
          return crossEntropy(hidden, decoder.headWeight, targets, weights, { scale, stats });
        });
        backward(tape, loss);
        // The tape took the statistics over; they go on over all micro-batches.
        keep(stats);
      });
    }
    await optimizer.update(settings.learningRate);
    const [{ gradNorm, overflowed }, [sum = Number.NaN]] = await Promise.all([optimizer.settle(), stats.readFloats()]);
    const loss = sum / lossScale;
    return { loss, gradNorm, overflowed: overflowed && Number.isFinite(loss) };
  } finally {
    stats.dispose();
  }
}

/** Weighted mean of -log p of next tokens over `examples`, in nats: nothing learns. @throws DataError when no token has a weight. */
export async function meanLoss(
  decoder: Decoder,
  examples: readonly Example[],
  { microBatchTokens, adapter }: Pick<FineTuneSettings, "microBatchTokens" | "adapter">,
): Promise<number> {
  let sum = 0;
  let weight = 0;
  for (const batch of microBatches(examples, microBatchTokens)) {
    const { ids, positions, offsets, rows, targets, weights, weightSum } = packExamples(batch);
    const stats = keep(full(decoder.device, [1, 2], 0, { label: "held-out loss" }));
    try {
      withScope(() => {
        const vector = (values: Uint32Array | Float32Array, label: string) => fromHost(decoder.device, values, [values.length], { label });
        const longest = positions.reduce((most, position) => Math.max(most, position + 1), 0);
        const inputs = {
          ids: vector(ids, "ids"),
          positions: vector(positions, "positions"),
          offsets: vector(offsets, "offsets"),
          longest,
        };
        withoutTape(() => {
          const hidden = gatherRows(decoder.forward(inputs, { adapter }), vector(rows, "rows"));
          crossEntropy(hidden, decoder.headWeight, vector(targets, "targets"), vector(weights, "weights"), { stats });
        });
      });
      const [loss = Number.NaN] = await stats.readFloats();
      sum += loss;
      weight += weightSum;
    } finally {
      stats.dispose();
    }
  }
  return sum / weight;
}

/** Examples as one batch: [N] ids with their positions, [B+1] offsets, and the M rows that predict a token of positive weight. */
interface PackedExamples {
  readonly ids: Uint32Array;
  readonly positions: Uint32Array;
  readonly offsets: Uint32Array;
  /** [M] rows of the hidden states. */
  readonly rows: Uint32Array;
  /** [M] the token each of them predicts. */
  readonly targets: Uint32Array;
  /** [M] */
  readonly weights: Float32Array;
  readonly weightSum: number;
}

/** @throws DataError for an example without a token to learn, or with unequal lengths. */
function packExamples(examples: readonly Example[]): PackedExamples {
  const N = examples.reduce((sum, { ids }) => sum + ids.length, 0);
  const ids = new Uint32Array(N),
    positions = new Uint32Array(N),
    offsets = new Uint32Array(examples.length + 1);
  const rows: number[] = [],
    targets: number[] = [],
    weights: number[] = [];
  let at = 0,
    weightSum = 0;
  examples.forEach((example, e) => {
    if (example.ids.length !== example.weights.length) {
      throw new DataError({
        where: `example ${e}`,
        what: "ids and weights differ in length",
        expected: String(example.ids.length),
        got: String(example.weights.length),
      });
    }
    example.ids.forEach((id, t) => {
      ids[at + t] = id;
      positions[at + t] = t;
      const weight = example.weights[t] as number;
      if (t === 0 || weight === 0) return;
      rows.push(at + t - 1);
      targets.push(id);
      weights.push(weight);
      weightSum += weight;
    });
    at += example.ids.length;
    offsets[e + 1] = at;
  });
  if (rows.length === 0)
    throw new DataError({ where: "packed examples", what: "no token has a weight", expected: "at least one", got: "none" });
  return {
    ids,
    positions,
    offsets,
    rows: Uint32Array.from(rows),
    targets: Uint32Array.from(targets),
    weights: Float32Array.from(weights),
    weightSum,
  };
}

/**
 * Cuts a stream of examples into optimiser batches of at least `tokens` tokens each. Examples longer than `maxTokens` are left out
 * and counted.
 */
export class BatchStream {
  readonly #examples: Iterator<Example>;
  readonly #tokens: number;
  readonly #maxTokens: number;
  /** Examples left out as too long. */
  tooLong = 0;

  constructor(examples: Iterator<Example>, tokens: number, maxTokens: number) {
    this.#examples = examples;
    this.#tokens = tokens;
    this.#maxTokens = maxTokens;
  }

  /** The next batch; of a stream that ends, the last one may be smaller. @throws DataError when nothing is left. */
  next(): Example[] {
    const batch: Example[] = [];
    let skipped = 0;
    for (let tokens = 0; tokens < this.#tokens;) {
      const next = this.#examples.next();
      if (next.done === true && batch.length > 0) return batch;
      if (next.done === true)
        throw new DataError({
          where: "fine-tuning",
          what: "the examples have ended",
          hint: "give more examples, or fewer updates",
        });
      const { value } = next;
      if (value.ids.length > this.#maxTokens) {
        this.tooLong++;
        if (++skipped === 1000) {
          throw new DataError({
            where: "fine-tuning",
            what: "a thousand examples in a row are too long",
            expected: `at most ${this.#maxTokens} tokens`,
            got: String(value.ids.length),
          });
        }
        continue;
      }
      batch.push(value);
      tokens += value.ids.length;
    }
    return batch;
  }
}
