/** Examples of supervised fine-tuning, packed end to end. */
import { DataError } from "../util/errors.ts";

/** One example. `weights[t]` is the loss weight of predicting `ids[t]` from what stands before it; the first token's is never used. */
export interface Example {
  readonly ids: readonly number[];
  readonly weights: readonly number[];
}

/** Examples as one batch: [N] ids with their positions, [B+1] offsets, and the M rows that predict a token of positive weight. */
export interface PackedExamples {
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
export function packExamples(examples: readonly Example[]): PackedExamples {
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

  /** @throws DataError when the stream ends first. */
  next(): Example[] {
    const batch: Example[] = [];
    let skipped = 0;
    for (let tokens = 0; tokens < this.#tokens;) {
      const next = this.#examples.next();
      if (next.done === true)
        throw new DataError({
          where: "fine-tuning",
          what: "the examples ended inside a batch",
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
