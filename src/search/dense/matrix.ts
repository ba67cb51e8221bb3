/**
 * Embeddings of all passages on a device, and exact search among them: a query's inner product with each, and the largest. A query's scores do not depend
 * on those that are searched with it. Passages lie in blocks, so that the scores of a batch of queries stay small beside them.
 */
import type { Device, Dtype } from "../../device/device.ts";
import { matmul } from "../../ops/matmul.ts";
import { withScope } from "../../tensor/scope.ts";
import { withoutTape } from "../../tensor/tape.ts";
import { empty, fromHost, type Tensor } from "../../tensor/tensor.ts";
import { nextTask } from "../../util/next-task.ts";

export interface Hit {
  /** Number of the passage. */
  readonly row: number;
  readonly score: number;
}

export interface MatrixOptions {
  readonly device: Device;
  /** P */
  readonly passages: number;
  /** C */
  readonly dimensions: number;
  readonly dtype: Dtype;
  /** Passages of a block; 131,072 unless given. */
  readonly block?: number;
}

/** Queries that are multiplied at once. */
export const MOST_QUERIES = 64;
const BLOCK = 2 ** 17;

export class PassageMatrix {
  readonly #device: Device;
  readonly #block: number;
  readonly #dimensions: number;
  readonly #blocks: readonly Tensor[];

  /** Contents are undefined until they are written. The caller disposes of it. */
  constructor({ device, passages, dimensions, dtype, block = BLOCK }: MatrixOptions) {
    this.#device = device;
    this.#block = block;
    this.#dimensions = dimensions;
    const made: Tensor[] = [];
    this.#blocks = made;
    try {
      for (let from = 0; from < passages; from += block) {
        const rows = Math.min(block, passages - from);
        const tensor = empty(device, [rows, dimensions], { dtype, label: `embeddings of passages from ${from}` });
        tensor.scope?.forget(tensor);
        made.push(tensor);
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Writes whole embeddings, floats or raw 16-bit numbers of the matrix's own type, from a row on. */
  write(values: Float32Array | Uint16Array, firstRow: number): void {
    const rows = values.length / this.#dimensions;
    for (let done = 0; done < rows;) {
      const at = firstRow + done;
      const tensor = this.#blocks[Math.floor(at / this.#block)] as Tensor;
      const count = Math.min(rows - done, tensor.rows - (at % this.#block));
      tensor.write(values.subarray(done * this.#dimensions, (done + count) * this.#dimensions), at % this.#block);
      done += count;
    }
  }

  /** For each query the `most` passages of largest inner product, the largest first; of equal ones the first passage. */
  async search(queries: readonly Float32Array[], most: number): Promise<Hit[][]> {
    const found: Hit[][] = [];
    for (let from = 0; from < queries.length; from += MOST_QUERIES)
      found.push(...(await this.#search(queries.slice(from, from + MOST_QUERIES), most)));
    return found;
  }

  dispose(): void {
    for (const tensor of this.#blocks) tensor.dispose();
  }

  async #search(queries: readonly Float32Array[], most: number): Promise<Hit[][]> {
    const best = queries.map(() => new Best(most));
    const together = new Float32Array(queries.length * this.#dimensions);
    queries.forEach((query, i) => together.set(query, i * this.#dimensions));
    for (const [number, passages] of this.#blocks.entries()) {
      const scores = withoutTape(() =>
        withScope(() => {
          const asked = fromHost(this.#device, together, [queries.length, this.#dimensions], { label: "embeddings of queries" });
          return matmul(asked, passages, { transB: true });
        }),
      );
      try {
        const values = await scores.readFloats();
        best.forEach((one, i) => one.offer(values.subarray(i * passages.rows, (i + 1) * passages.rows), number * this.#block));
      } finally {
        scores.dispose();
      }
      await nextTask();
    }
    return best.map((one) => one.hits());
  }
}

/** The largest numbers so far, the largest first; of equal ones the first. */
export class Best {
  readonly #most: number;
  readonly #rows: number[] = [];
  readonly #scores: number[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** Scores of the passages from `first` on, which come after all that were offered before. What is no number is never among the best. */
  offer(scores: Float32Array, first: number): void {
    const { length } = scores;
    let least = this.#scores.length < this.#most ? -Infinity : (this.#scores.at(-1) as number);
    for (let i = 0; i < length; i++) {
      const score = scores[i] as number;
      if (!(score > least)) continue;
      let place = this.#scores.length;
      while (place > 0 && (this.#scores[place - 1] as number) < score) place--;
      this.#scores.splice(place, 0, score);
      this.#rows.splice(place, 0, first + i);
      if (this.#scores.length > this.#most) {
        this.#scores.pop();
        this.#rows.pop();
      }
      if (this.#scores.length === this.#most) least = this.#scores.at(-1) as number;
    }
  }

  hits(): Hit[] {
    return this.#rows.map((row, i) => ({ row, score: this.#scores[i] as number }));
  }
}
