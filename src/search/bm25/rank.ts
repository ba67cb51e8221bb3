/**
 * The best passages of a query by BM25, exactly: MaxScore. Terms that cannot lift a passage into the best ones by themselves are looked up only
 * in passages that hold others, so that lists of common words are mostly jumped over.
 *
 * Sources: Robertson & Zaragoza 2009, with the constants and the weight of terms that SQLite's FTS5 has (k1 = 1.2, b = 0.75; a term in more than half of the
 * passages weighs 1e-6); Turtle & Flood 1995, "Query evaluation: strategies and optimizations".
 */
import { k1, lengthNorm, type Lengths, type Postings } from "./postings.ts";

export interface Ranked {
  readonly doc: number;
  /** Higher is better. */
  readonly score: number;
}

/** What rounding may add to a bound. */
const SLACK = 1 + 1e-9;

/** How much a term that `count` of `size` passages hold weighs. */
export function termWeight(count: number, size: number): number {
  return Math.max(Math.log((size - count + 0.5) / (count + 0.5)), 0) || 1e-6;
}

/**
 * @param lists - of the query's terms, in the order of the query, in which a score is summed; a term that stands there twice counts twice
 * @returns at most `most`, best first; equal scores in corpus order
 */
export function rank(lists: readonly Postings[], lengths: Lengths, most: number): Ranked[] {
  const cursors = lists
    .map((list, place) => new Cursor(list, place, termWeight(list.docs.length, lengths.each.length)))
    .filter(({ ended }) => !ended)
    .sort((one, other) => one.bound - other.bound || one.place - other.place);
  /** What the first i + 1 of them give at most. */
  const bounds: number[] = [];
  for (const { bound } of cursors) bounds.push((bounds.at(-1) ?? 0) + bound * SLACK);
  const best = new Best(most);
  /** Of each place in the query; 0 where the passage does not hold the term. */
  const gains = new Float64Array(lists.length);
  let optional = 0;
  for (;;) {
    while (optional < cursors.length && (bounds[optional] as number) <= best.threshold) optional++;
    let doc = Infinity;
    for (let i = optional; i < cursors.length; i++) doc = Math.min(doc, (cursors[i] as Cursor).doc);
    if (doc === Infinity) return best.sorted();
    const norm = lengthNorm(lengths, doc);
    gains.fill(0);
    let sum = 0;
    for (let i = optional; i < cursors.length; i++) {
      const cursor = cursors[i] as Cursor;
      if (cursor.doc !== doc) continue;
      sum += gains[cursor.place] = cursor.gain(norm);
      cursor.next();
    }
    let hopeful = true;
    for (let i = optional - 1; i >= 0; i--) {
      if (sum * SLACK + (bounds[i] as number) <= best.threshold) {
        hopeful = false;
        break;
      }
      const cursor = cursors[i] as Cursor;
      cursor.seek(doc);
      if (cursor.doc === doc) sum += gains[cursor.place] = cursor.gain(norm);
    }
    if (!hopeful) continue;
    // In the order of the query, whatever order it was found in: the same bits.
    let score = 0;
    for (const gain of gains) score += gain;
    best.offer(doc, score);
  }
}

class Cursor {
  readonly place: number;
  /** What it adds to a score at most. */
  readonly bound: number;
  /** Infinity behind the end. */
  doc: number;
  readonly #docs: Uint32Array;
  readonly #counts: Uint32Array;
  readonly #weight: number;
  #at = 0;

  constructor({ docs, counts, best }: Postings, place: number, weight: number) {
    this.place = place;
    this.bound = weight * (k1 + 1) * best;
    this.#docs = docs;
    this.#counts = counts;
    this.#weight = weight;
    this.doc = docs.length > 0 ? (docs[0] as number) : Infinity;
  }

  get ended(): boolean {
    return this.doc === Infinity;
  }

  gain(norm: number): number {
    const count = this.#counts[this.#at] as number;
    return this.#weight * ((count * (k1 + 1)) / (count + norm));
  }

  next(): void {
    this.#go(this.#at + 1);
  }

  /** To the first passage at or behind `doc`. */
  seek(doc: number): void {
    if (this.doc >= doc) return;
    let [low, step] = [this.#at, 1];
    while (low + step < this.#docs.length && (this.#docs[low + step] as number) < doc) {
      low += step;
      step *= 2;
    }
    // The one at `low` is before it; the one at `high` is not.
    let high = Math.min(low + step, this.#docs.length);
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((this.#docs[middle] as number) < doc) low = middle;
      else high = middle;
    }
    this.#go(high);
  }

  #go(at: number): void {
    this.#at = at;
    this.doc = at < this.#docs.length ? (this.#docs[at] as number) : Infinity;
  }
}

/** The best so far: a heap with the worst of them on top. Passages come in corpus order, so that of equal ones the first stay. */
class Best {
  /** A passage has to score more. */
  threshold = -Infinity;
  readonly #most: number;
  readonly #heap: Ranked[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  offer(doc: number, score: number): void {
    if (score <= this.threshold) return;
    if (this.#heap.length < this.#most) {
      this.#heap.push({ doc, score });
      this.#up(this.#heap.length - 1);
    } else {
      this.#heap[0] = { doc, score };
      this.#down();
    }
    if (this.#heap.length === this.#most) this.threshold = (this.#heap[0] as Ranked).score;
  }

  sorted(): Ranked[] {
    return [...this.#heap].sort((one, other) => other.score - one.score || one.doc - other.doc);
  }

  #worse(i: number, j: number): boolean {
    const [one, other] = [this.#heap[i] as Ranked, this.#heap[j] as Ranked];
    return one.score < other.score || (one.score === other.score && one.doc > other.doc);
  }

  #up(from: number): void {
    for (let i = from; i > 0;) {
      const above = (i - 1) >> 1;
      if (!this.#worse(i, above)) return;
      this.#swap(i, above);
      i = above;
    }
  }

  #down(): void {
    for (let i = 0; ;) {
      let worst = i;
      for (const below of [2 * i + 1, 2 * i + 2]) if (below < this.#heap.length && this.#worse(below, worst)) worst = below;
      if (worst === i) return;
      this.#swap(i, worst);
      i = worst;
    }
  }

  #swap(i: number, j: number): void {
    const kept = this.#heap[i] as Ranked;
    this.#heap[i] = this.#heap[j] as Ranked;
    this.#heap[j] = kept;
  }
}
