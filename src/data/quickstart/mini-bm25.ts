/**
 * A small BM25 index in memory (k1 1.2, b 0.75, as SQLite's FTS5), for data making only: 60,000 queries take seconds. Evaluation uses the real engine.
 */
import { normalizeWords } from "./words.ts";

/** Scores documents by the distinct words of a query, joined by OR. */
export class MiniBm25 {
  readonly #postings = new Map<string, { ids: number[]; tf: number[] }>();
  readonly #norms: Float64Array;
  readonly #scores: Float64Array;

  constructor(texts: readonly string[]) {
    const lengths = texts.map((text, id) => {
      const words = normalizeWords(text).split(" ");
      const counts = new Map<string, number>();
      for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
      for (const [word, tf] of counts) {
        const posting = this.#postings.get(word) ?? { ids: [], tf: [] };
        posting.ids.push(id);
        posting.tf.push(tf);
        this.#postings.set(word, posting);
      }
      return words.length;
    });
    const mean = lengths.reduce((sum, length) => sum + length, 0) / Math.max(1, lengths.length);
    this.#norms = Float64Array.from(lengths, (length) => 1.2 * (0.25 + (0.75 * length) / mean));
    this.#scores = new Float64Array(texts.length);
  }

  /** Ids of the best `k` documents, best first; ties go to the lower id; documents without any word of the query are left out. */
  search(query: string, k: number): number[] {
    const scores = this.#scores.fill(0);
    const count = scores.length;
    for (const word of new Set(normalizeWords(query).split(" "))) {
      const posting = this.#postings.get(word);
      if (posting === undefined) continue;
      const idf = Math.log((count - posting.ids.length + 0.5) / (posting.ids.length + 0.5));
      const weight = Math.max(idf, 1e-6);
      for (let i = 0; i < posting.ids.length; i++) {
        const id = posting.ids[i] as number;
        const tf = posting.tf[i] as number;
        scores[id] = (scores[id] as number) + (weight * tf * 2.2) / (tf + (this.#norms[id] as number));
      }
    }
    const best: number[] = [];
    let floor = 0;
    for (let id = 0; id < count; id++) {
      const score = scores[id] as number;
      if (score <= floor) continue;
      let at = best.length;
      while (at > 0 && (scores[best[at - 1] as number] as number) < score) at--;
      best.splice(at, 0, id);
      if (best.length > k) best.pop();
      if (best.length === k) floor = scores[best[k - 1] as number] as number;
    }
    return best;
  }
}
