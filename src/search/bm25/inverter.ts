/** Turns passages into posting lists: terms are counted passage by passage, and sorted by term when the lists are taken. */
import type { Passage } from "../passages.ts";
import { piecesOf, type Tokenizer } from "./tokenizer.ts";

/** The lists of some passages in a row. */
export interface InvertedPart {
  readonly terms: readonly string[];
  /** Passages and counts of term i: from `starts[i]` to `starts[i + 1]`. */
  readonly starts: Uint32Array;
  readonly docs: Uint32Array;
  readonly counts: Uint32Array;
  /** Terms of each passage. */
  readonly lengths: Uint32Array;
}

/** Pieces that are remembered over parts; where there are more they are forgotten, so that memory does not grow with the corpus. */
const MOST_PIECES = 2 ** 20;

export class Inverter {
  readonly #tokenizer: Tokenizer;
  /** The number of the next passage. */
  #doc: number;
  /** Pieces have numbers; of each, its term, or its terms where they are not one. */
  #pieces = new Map<string, number>();
  #termsOf: (number | readonly number[])[] = [];
  #numbers = new Map<string, number>();
  #terms: string[] = [];
  /** Where the last passage of each term stands below. */
  #lastAt: number[] = [];
  #termOf = new Uint32Array(2 ** 16);
  #docs = new Uint32Array(2 ** 16);
  #counts = new Uint32Array(2 ** 16);
  #size = 0;
  #lengths: number[] = [];

  /** @param doc - the number of its first passage */
  constructor(tokenizer: Tokenizer, doc = 0) {
    this.#tokenizer = tokenizer;
    this.#doc = doc;
  }

  /** Entries of the lists so far. */
  get size(): number {
    return this.#size;
  }

  /** Passages in the order of the corpus; best some hundreds at once. */
  async add(passages: readonly Passage[]): Promise<void> {
    const unknown: string[] = [];
    const split = passages.map(({ title = "", text }) => [...this.#numbered(title, unknown), ...this.#numbered(text, unknown)]);
    for (const terms of await this.#tokenizer.terms(unknown)) {
      const numbers = terms.map((term) => this.#numberOf(term));
      this.#termsOf.push(numbers.length === 1 ? (numbers[0] as number) : numbers);
    }
    for (const pieces of split) this.#addOne(pieces);
  }

  /** The lists of all that was added since the last call. A term may have none. */
  take(): InvertedPart {
    const starts = new Uint32Array(this.#terms.length + 1);
    for (let i = 0; i < this.#size; i++) {
      const next = (this.#termOf[i] as number) + 1;
      starts[next] = (starts[next] as number) + 1;
    }
    for (let term = 0; term < this.#terms.length; term++) starts[term + 1] = (starts[term + 1] as number) + (starts[term] as number);
    const places = starts.slice();
    const docs = new Uint32Array(this.#size);
    const counts = new Uint32Array(this.#size);
    for (let i = 0; i < this.#size; i++) {
      const term = this.#termOf[i] as number;
      const place = places[term] as number;
      places[term] = place + 1;
      docs[place] = this.#docs[i] as number;
      counts[place] = this.#counts[i] as number;
    }
    const part: InvertedPart = { terms: this.#terms.slice(), starts, docs, counts, lengths: Uint32Array.from(this.#lengths) };
    [this.#size, this.#lengths] = [0, []];
    this.#lastAt.fill(-1);
    if (this.#pieces.size > MOST_PIECES) {
      [this.#terms, this.#lastAt] = [[], []];
      this.#numbers = new Map();
      this.#pieces = new Map();
      this.#termsOf = [];
    }
    return part;
  }

  /** The pieces of a text by number; those that are new join `unknown`. */
  #numbered(text: string, unknown: string[]): number[] {
    return piecesOf(text).map((piece) => {
      let number = this.#pieces.get(piece);
      if (number === undefined) {
        number = this.#pieces.size;
        this.#pieces.set(piece, number);
        unknown.push(piece);
      }
      return number;
    });
  }

  #numberOf(term: string): number {
    let number = this.#numbers.get(term);
    if (number === undefined) {
      number = this.#terms.length;
      this.#numbers.set(term, number);
      this.#terms.push(term);
      this.#lastAt.push(-1);
    }
    return number;
  }

  #addOne(pieces: readonly number[]): void {
    const first = this.#size;
    let length = 0;
    for (const piece of pieces) {
      const terms = this.#termsOf[piece];
      if (typeof terms === "number") {
        this.#count(terms, first);
        length++;
      } else
        for (const term of terms ?? []) {
          this.#count(term, first);
          length++;
        }
    }
    this.#lengths.push(length);
    this.#doc++;
  }

  #count(term: number, first: number): void {
    const last = this.#lastAt[term] as number;
    if (last >= first) {
      this.#counts[last] = (this.#counts[last] as number) + 1;
      return;
    }
    if (this.#size === this.#docs.length) this.#grow();
    const at = this.#size++;
    this.#lastAt[term] = at;
    this.#termOf[at] = term;
    this.#docs[at] = this.#doc;
    this.#counts[at] = 1;
  }

  #grow(): void {
    const larger = (old: Uint32Array): Uint32Array<ArrayBuffer> => {
      const grown = new Uint32Array(2 * old.length);
      grown.set(old);
      return grown;
    };
    this.#termOf = larger(this.#termOf);
    this.#docs = larger(this.#docs);
    this.#counts = larger(this.#counts);
  }
}
