/** Where the engine finds what it searches: an index in memory, or a file. */
import type { Passage } from "../passages.ts";
import type { Lengths, Postings } from "./postings.ts";

export interface IndexSource {
  readonly lengths: Lengths;
  /** How many passages hold each term. */
  counts(terms: readonly string[]): Promise<number[]>;
  /** The lists of terms, empty ones where no passage holds a term. */
  lists(terms: readonly string[]): Promise<Postings[]>;
  passages(docs: readonly number[]): Promise<Passage[]>;
  /** The number of the passage with that id; null where there is none. */
  numberOf(id: string): Promise<number | null>;
  close(): void;
}

/** A term's list where no passage holds it. */
export const noPostings: Postings = { docs: new Uint32Array(0), counts: new Uint32Array(0), best: 0 };
