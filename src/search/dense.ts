/**
 * A real search engine by embeddings: passages and queries as vectors of length 1, the documents those of largest inner product. The search is exact, on
 * the device. Queries that arrive together are embedded and searched together; what is found does not depend on it.
 */
import { abortReason } from "../util/abort.ts";
import { ConfigError, RequestError } from "../util/errors.ts";
import { nextTask } from "../util/next-task.ts";
import { MOST_QUERIES, type Hit, type PassageMatrix } from "./dense/matrix.ts";
import type { Embedder } from "./dense/embedder.ts";
import type { DenseAbout } from "./dense/format.ts";
import type { Passage } from "./passages.ts";
import type { PageRequest, SearchEngine, SearchRequest, SearchResult } from "./search-engine.ts";

export interface DenseHit extends Passage {
  /** The inner product, at most 1. */
  readonly score: number;
}

/** @internal */
export interface DenseSearchParts {
  readonly embedder: Embedder;
  readonly matrix: Pick<PassageMatrix, "search" | "dispose">;
  /** The number of the passage with that id; null where there is none. */
  readonly numberOf: (id: string) => Promise<number | null>;
  /** Passages of these numbers. */
  readonly passages: (numbers: readonly number[]) => Promise<readonly Passage[]>;
  readonly size: number;
  /** Numbers of an embedding. */
  readonly width: number;
  readonly documents: number;
  readonly about: DenseAbout | null;
  /** Closes what passages come from. */
  readonly close: () => void;
}

interface Asked {
  readonly text: string;
  readonly documents: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (hits: DenseHit[]) => void;
  readonly reject: (error: Error) => void;
}

export class DenseSearch implements SearchEngine {
  readonly name = "dense";
  /** Passages that are searched. */
  readonly size: number;
  readonly documents: number;
  /** What an index file says of itself; null in memory. */
  readonly about: DenseAbout | null;
  readonly #parts: DenseSearchParts;
  #waiting: Asked[] = [];
  #running = false;
  #closed = false;
  #queries = 0;
  #batches = 0;
  #truncated = 0;

  /** @internal It takes over all of its parts, and closes them. */
  constructor(parts: DenseSearchParts) {
    this.#parts = parts;
    this.size = parts.size;
    this.documents = parts.documents;
    this.about = parts.about;
    checkDocuments(parts.documents);
  }

  /** The best passages for a text, best first; equal scores in corpus order. None for a text without a character that is seen. */
  find(text: string, documents: number = this.documents, signal?: AbortSignal): Promise<DenseHit[]> {
    return new Promise((resolve, reject) => {
      checkDocuments(documents);
      if (this.#closed) throw closed();
      if (signal?.aborted === true) throw abortReason(signal);
      const seen = readable(text);
      if (seen === "") {
        resolve([]);
        return;
      }
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((one) => one !== asked);
        reject(abortReason(signal as AbortSignal));
      };
      const ended = (): void => signal?.removeEventListener("abort", onAbort);
      const asked: Asked = {
        ...{ text: seen, documents, signal },
        resolve: (hits) => {
          ended();
          resolve(hits);
        },
        reject: (error) => {
          ended();
          reject(error);
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(asked);
      if (!this.#running) void this.#run();
    });
  }

  async search({ query, signal }: SearchRequest): Promise<SearchResult> {
    return { documents: await this.find(query, this.documents, signal), kind: "real" };
  }

  /** The passage with that id. */
  async page({ address }: PageRequest): Promise<Passage | null> {
    if (this.#closed) throw closed();
    const number = await this.#parts.numberOf(address);
    return number === null ? null : ((await this.#parts.passages([number]))[0] ?? null);
  }

  /** @internal What was asked since the last call: values of a step. */
  takeCounts(): Readonly<Record<string, number>> {
    const counts = { dense_queries: this.#queries, dense_batches: this.#batches, dense_truncated: this.#truncated };
    [this.#queries, this.#batches, this.#truncated] = [0, 0, 0];
    return { ...counts, ...this.#parts.embedder.takeCounts() };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(closed());
    // What is under way needs its parts to the end.
    while (this.#running) await nextTask();
    this.#parts.matrix.dispose();
    this.#parts.close();
    await this.#parts.embedder.close();
  }

  /** Takes what has come, as long as something comes. */
  async #run(): Promise<void> {
    this.#running = true;
    try {
      for (;;) {
        // Those that ask in this very turn are asked for together.
        await nextTask();
        const taken = this.#waiting.splice(0, MOST_QUERIES);
        if (taken.length === 0) return;
        await this.#answer(taken);
      }
    } finally {
      this.#running = false;
    }
  }

  async #answer(asked: readonly Asked[]): Promise<void> {
    try {
      const hits = await this.#find(asked);
      for (const [i, { resolve }] of asked.entries()) resolve(hits[i] as DenseHit[]);
    } catch (error) {
      const [first, ...others] = asked;
      if (!(error instanceof RequestError) || others.length === 0) for (const { reject } of asked) reject(error as Error);
      // One of them is at fault: each has its own answer.
      else for (const one of [first as Asked, ...others]) await this.#answer([one]);
    }
  }

  async #find(asked: readonly Asked[]): Promise<DenseHit[][]> {
    const { embedder, matrix, passages, width } = this.#parts;
    // One that nobody waits for any more does not stop the others.
    const signal = asked.length === 1 ? asked[0]?.signal : undefined;
    const texts = asked.map(({ text }) => text);
    const { vectors, truncated } = await embedder.embed(texts, "query", signal);
    this.#queries += asked.length;
    this.#batches++;
    this.#truncated += truncated;
    const other = vectors.find(({ length }) => length !== width);
    if (other !== undefined)
      throw new ConfigError({
        where: "dense",
        what: "embeddings of queries have another length than those of passages",
        expected: String(width),
        got: String(other.length),
      });
    const most = Math.max(...asked.map(({ documents }) => documents));
    const found = (await matrix.search(vectors, most)).map((hits, i) => hits.slice(0, asked[i]?.documents));
    const numbers = [...new Set(found.flatMap((hits) => hits.map(({ row }) => row)))];
    const texted = new Map((await passages(numbers)).map((passage, i) => [numbers[i], passage]));
    return found.map((hits) => hits.map(({ row, score }: Hit) => ({ ...(texted.get(row) as Passage), score })));
  }
}

/** Control characters as spaces: no model was trained on them. */
function readable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}]+/gu, " ").trim();
}

function closed(): RequestError {
  return new RequestError({ where: "dense", what: "the engine is closed" });
}

function checkDocuments(documents: number): void {
  if (!Number.isInteger(documents) || documents < 1)
    throw new ConfigError({ where: "dense.documents", what: "wrong number of documents", expected: "1 or more", got: String(documents) });
}
