/**
 * The best passages of a query by BM25, exactly: MaxScore, a window of passages at a time. Terms that cannot lift a passage into the best ones by themselves are looked up only
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
    .filter(({ doc }) => doc !== Infinity)
    .sort((one, other) => one.bound - other.bound || one.place - other.place);
  /** What the first i + 1 of them give at most. */
  const bounds: number[] = [];
  for (const { bound } of cursors) bounds.push((bounds.at(-1) ?? 0) + bound * SLACK);
  const best = new Best(most);
  const norms = new Norms(lengths);
  /** Of each place in the query; 0 where the passage does not hold the term. */
  const gains = new Float64Array(lists.length);
  const sums = new Float64Array(WINDOW);
  /** A bit for each of them that is not 0. */
  const touched = new Uint32Array(WINDOW / 32);
  /** Cursors before this one cannot lift a passage into the best by themselves. */
  let optional = 0;
  // The first passages set a threshold; until there is one, all of a window are looked at.
  for (let size = 64; ; size = Math.min(2 * size, WINDOW)) {
    while (optional < cursors.length && (bounds[optional] as number) <= best.threshold) optional++;
    let base = Infinity;
    for (let i = optional; i < cursors.length; i++) base = Math.min(base, (cursors[i] as Cursor).doc);
    if (base === Infinity) return best.sorted();
    for (let i = optional; i < cursors.length; i++) (cursors[i] as Cursor).addWindow(base, size, sums, touched, norms);
    const others = optional === 0 ? 0 : (bounds[optional - 1] as number);
    for (let word = 0; word < size / 32;) {
      const bits = touched[word] as number;
      if (bits === 0) {
        word++;
        continue;
      }
      const bit = 31 - Math.clz32(bits & -bits);
      touched[word] = bits & (bits - 1);
      const i = 32 * word + bit;
      const sum = sums[i] as number;
      sums[i] = 0;
      if (sum * SLACK + others <= best.threshold) continue;
      const doc = base + i;
      if (!isHopeful(cursors, optional, bounds, doc, sum, best.threshold, norms)) continue;
      const norm = norms.of(doc);
      for (const cursor of cursors) gains[cursor.place] = cursor.gainAt(doc, norm);
      // In the order of the query, whatever order it was found in: the same bits.
      let score = 0;
      for (const gain of gains) score += gain;
      best.offer(doc, score);
    }
  }
}

/** Looks up the terms that alone do not matter, the heaviest first, until they cannot matter any more. */
function isHopeful(
  cursors: readonly Cursor[],
  optional: number,
  bounds: readonly number[],
  doc: number,
  sum: number,
  threshold: number,
  norms: Norms,
): boolean {
  for (let i = optional - 1; i >= 0; i--) {
    if (sum * SLACK + (bounds[i] as number) <= threshold) return false;
    sum += (cursors[i] as Cursor).gainAt(doc, norms.of(doc));
  }
  return sum * SLACK > threshold;
}

/** Passages that are summed at once. */
const WINDOW = 4096;

/** `lengthNorm` by length. */
class Norms {
  readonly #each: Uint32Array;
  readonly #lengths: Lengths;
  readonly #known = new Float64Array(1024);

  constructor(lengths: Lengths) {
    this.#lengths = lengths;
    this.#each = lengths.each;
  }

  of(doc: number): number {
    const length = this.#each[doc] as number;
    if (length >= this.#known.length) return lengthNorm(this.#lengths, doc);
    const known = this.#known[length] as number;
    return known > 0 ? known : (this.#known[length] = lengthNorm(this.#lengths, doc));
  }
}

class Cursor {
  readonly place: number;
  /** What it adds to a score at most. */
  readonly bound: number;
  /** The first passage that was not summed yet; Infinity behind the end. */
  doc: number;
  readonly #docs: Uint32Array;
  readonly #counts: Uint32Array;
  readonly #weight: number;
  /** Where `doc` is. */
  #at = 0;
  /** No passage before this one is asked for by `gainAt` any more. */
  #from = 0;

  constructor({ docs, counts, best }: Postings, place: number, weight: number) {
    this.place = place;
    this.bound = weight * (k1 + 1) * best;
    this.#docs = docs;
    this.#counts = counts;
    this.#weight = weight;
    this.doc = docs.length > 0 ? (docs[0] as number) : Infinity;
  }

  /** Adds its gains in the passages from `base` on, `size` of them, and goes behind them. */
  addWindow(base: number, size: number, sums: Float64Array, touched: Uint32Array, norms: Norms): void {
    const [docs, counts, weight, end] = [this.#docs, this.#counts, this.#weight, base + size];
    let at = this.#at;
    for (; at < docs.length; at++) {
      const doc = docs[at] as number;
      if (doc >= end) break;
      const count = counts[at] as number;
      const i = doc - base;
      sums[i] = (sums[i] as number) + weight * ((count * (k1 + 1)) / (count + norms.of(doc)));
      touched[i >> 5] = (touched[i >> 5] as number) | (1 << (i & 31));
    }
    this.#at = at;
    this.doc = at < docs.length ? (docs[at] as number) : Infinity;
  }

  /** Its gain in a passage, 0 where that does not hold the term; from call to call `doc` only rises. */
  gainAt(doc: number, norm: number): number {
    const docs = this.#docs;
    let from = this.#from;
    if (from < docs.length && (docs[from] as number) < doc) {
      let step = 1;
      while (from + step < docs.length && (docs[from + step] as number) < doc) {
        from += step;
        step *= 2;
      }
      // The one at `from` is before it; the one at `high` is not.
      let high = Math.min(from + step, docs.length);
      while (high - from > 1) {
        const middle = (from + high) >>> 1;
        if ((docs[middle] as number) < doc) from = middle;
        else high = middle;
      }
      this.#from = from = high;
    }
    if (from >= docs.length || docs[from] !== doc) return 0;
    const count = this.#counts[from] as number;
    return this.#weight * ((count * (k1 + 1)) / (count + norm));
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
