/** Posting lists: which passages hold a term, and how often. In memory typed arrays, on disk bytes. */

/** Of one term, passages ascending. */
export interface Postings {
  /** Numbers of passages, from 0. */
  readonly docs: Uint32Array;
  /** Occurrences in each. */
  readonly counts: Uint32Array;
  /** The largest share that one of them earns: tf / (tf + k1 (1 - b + b D / average)). */
  readonly best: number;
}

export const k1 = 1.2;
const b = 0.75;

/** How many terms passages hold, each and on average. */
export interface Lengths {
  readonly each: Uint32Array;
  readonly average: number;
}

/** What a term adds to the denominator of BM25 in a passage. */
export function lengthNorm({ each, average }: Lengths, doc: number): number {
  return k1 * (1 - b + (b * (each[doc] as number)) / average);
}

/** The largest share of a list, for `Postings.best`. */
export function bestShare(docs: Uint32Array, counts: Uint32Array, lengths: Lengths): number {
  let best = 0;
  for (let i = 0; i < docs.length; i++) {
    const count = counts[i] as number;
    best = Math.max(best, count / (count + lengthNorm(lengths, docs[i] as number)));
  }
  return best;
}

/** Bytes: for each passage twice its distance from the one before, odd where the count is 1, else followed by the count; 7 bits a byte, low first. */
export function encodeList(docs: Uint32Array, counts: Uint32Array): Uint8Array {
  const bytes = new ByteWriter(docs.length * 2 + 16);
  let last = 0;
  for (let i = 0; i < docs.length; i++) {
    const [doc, count] = [docs[i] as number, counts[i] as number];
    bytes.number((doc - last) * 2 + (count === 1 ? 1 : 0));
    if (count !== 1) bytes.number(count);
    last = doc;
  }
  return bytes.take();
}

/** Appends a list to arrays from `at` on. @returns how many passages it has. @throws RangeError where it is damaged. */
export function decodeList(bytes: Uint8Array, docs: Uint32Array, counts: Uint32Array, at = 0): number {
  const reader = new ByteReader(bytes);
  let last = 0;
  let i = at;
  for (; !reader.ended; i++) {
    if (i >= docs.length) throw new RangeError("a posting list is longer than it says");
    const word = reader.number();
    const single = word % 2 === 1;
    last += (word - (single ? 1 : 0)) / 2;
    docs[i] = last;
    counts[i] = single ? 1 : reader.number();
  }
  return i - at;
}

/** Bytes that grow. */
export class ByteWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity);
  }

  /** A whole number from 0 to 2^53 - 1. */
  number(value: number): void {
    this.#reserve(8);
    let rest = value;
    while (rest >= 128) {
      this.#bytes[this.#length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.#bytes[this.#length++] = rest;
  }

  /** Bytes after their number. */
  bytes(value: Uint8Array): void {
    this.number(value.length);
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = new Uint8Array(2 * (this.#length + more));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}

/** Reads what `ByteWriter` wrote. @throws RangeError behind the end */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get ended(): boolean {
    return this.#at >= this.#bytes.length;
  }

  number(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new RangeError("bytes end inside a number");
      if (byte < 128) return value + byte * scale;
      value += (byte - 128) * scale;
    }
  }

  bytes(): Uint8Array {
    const length = this.number();
    const part = this.#bytes.subarray(this.#at, this.#at + length);
    if (part.length < length) throw new RangeError("bytes end inside a text");
    this.#at += length;
    return part;
  }
}
