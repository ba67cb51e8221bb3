/**
 * Embeddings by a decoder of this process: the state of the last token after the final norm, of length 1. Sequences are packed, and a sequence's state
 * does not depend on its neighbours, so that a text has the same bits in every batch.
 *
 * Source: the model card of Qwen/Qwen3-Embedding-0.6B. Its tokenizer ends every text with `<|endoftext|>`, which is the token that is taken.
 */
import { packBatch } from "../../nn/batch.ts";
import type { Decoder } from "../../nn/decoder.ts";
import { gatherRows } from "../../ops/gather-rows.ts";
import { withScope } from "../../tensor/scope.ts";
import { withoutTape } from "../../tensor/tape.ts";
import { fromHost, type Tensor } from "../../tensor/tensor.ts";
import { nextTask } from "../../util/next-task.ts";
import type { EmbeddingModel } from "../engine-kind.ts";
import { cutText, putText, unitVector, type Embedder, type EmbedderAbout, type Embeddings, type TextKind } from "./embedder.ts";

export interface DecoderEmbedderOptions {
  readonly model: EmbeddingModel;
  readonly about: EmbedderAbout;
  readonly instruction: string;
  /** Tokens of a pass, unless one text has more. */
  readonly batchTokens: number;
}

/** Of a text, so many characters a token are read: the rest would be cut anyway. */
const CHARACTERS = 64;

export class DecoderEmbedder implements Embedder {
  readonly about: EmbedderAbout;
  readonly #options: DecoderEmbedderOptions;
  readonly #most: number;

  constructor(options: DecoderEmbedderOptions) {
    this.#options = options;
    this.#most = Math.min(options.about.maxTokens, options.model.decoder.maxPositions);
    this.about = options.about;
  }

  async embed(texts: readonly string[], kind: TextKind, signal?: AbortSignal): Promise<Embeddings> {
    const { model, batchTokens, about } = this.#options;
    const sequences = texts.map((text) => this.#sequence(text, kind));
    const vectors: Float32Array[] = [];
    for (const batch of batches(sequences, batchTokens)) {
      signal?.throwIfAborted();
      const states = lastStates(
        model.decoder,
        batch.map(({ ids }) => ids),
      );
      try {
        const values = await states.readFloats();
        const { cols } = states;
        batch.forEach((_, i) => vectors.push(unitVector(values.subarray(i * cols, (i + 1) * cols), about.dimensions, model.source)));
      } finally {
        states.dispose();
      }
      await nextTask();
    }
    return {
      vectors,
      truncated: sequences.filter(({ cut }) => cut).length,
      tokens: sequences.reduce((sum, { ids }) => sum + ids.length, 0),
    };
  }

  takeCounts(): Readonly<Record<string, number>> {
    return {};
  }

  /** The model belongs to whoever opened it. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Ids as transformers makes them: what the tokenizer puts before and after a text stays when the text is cut. */
  #sequence(text: string, kind: TextKind): { readonly ids: readonly number[]; readonly cut: boolean } {
    const { model, about, instruction } = this.#options;
    const { tokenizer } = model;
    const read = cutText(text, CHARACTERS * this.#most);
    const ids = tokenizer.encodePrompt(putText(about.form, instruction, kind, read), { begin: true });
    const room = Math.max(0, this.#most - tokenizer.ending.length);
    const whole = [...ids.slice(0, room), ...tokenizer.ending];
    // Nothing that the tokenizer can spell, and no ending: a sequence has a token.
    return { ids: whole.length === 0 ? [tokenizer.eosIds[0] ?? 0] : whole, cut: ids.length > room || read.length < text.length };
  }
}

/** Neighbours of at most `most` tokens together; one that has more is alone. */
function batches<T extends { readonly ids: readonly number[] }>(sequences: readonly T[], most: number): T[][] {
  const all: T[][] = [];
  let tokens = Infinity;
  for (const sequence of sequences) {
    tokens += sequence.ids.length;
    if (tokens > most) {
      all.push([]);
      tokens = sequence.ids.length;
    }
    all.at(-1)?.push(sequence);
  }
  return all;
}

/** [B, C]: states of the last token of each sequence. The caller disposes of it. */
export function lastStates(decoder: Decoder, sequences: readonly ArrayLike<number>[]): Tensor {
  return withoutTape(() =>
    withScope(() => {
      const batch = packBatch(decoder.device, sequences);
      const hidden = decoder.forward(batch);
      let end = 0;
      const last = Uint32Array.from(sequences, ({ length }) => (end += length) - 1);
      return gatherRows(hidden, fromHost(decoder.device, last, [last.length], { label: "last tokens" }));
    }),
  );
}
