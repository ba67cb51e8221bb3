/**
 * An allocator of byte ranges over one growing address space: sizes are rounded up to classes (eight per power of two). A freed range
 * waits in the list of its class for the next request of that class, as most come again at once; when a request finds none and no
 * other free range, what waits is joined with its free neighbours, and the smallest fitting bin gives. It knows addresses only.
 */

const ALIGNMENT = 64;
const MIN_BYTES = 64;
/** Eight for every power of two from 64 bytes up to the largest address that a number holds: a heap that is only counted has no other end. */
const BINS = (53 - 6 + 1) * 8;

/** Rounds up to the size class: at most 1/8 more than asked, a multiple of 64. */
export function sizeClass(bytes: number): number {
  const wanted = Math.max(MIN_BYTES, bytes);
  const exponent = wanted < 2 ** 32 ? 31 - Math.clz32(wanted) : Math.floor(Math.log2(wanted));
  const step = Math.max(ALIGNMENT, 2 ** exponent / 8);
  return Math.ceil(wanted / step) * step;
}

/** Bins hold ranges of at least their class and less than the next: rounded up, the first bin whose every range fits. */
function binOf(bytes: number, round: (x: number) => number): number {
  const exponent = bytes < 2 ** 32 ? 31 - Math.clz32(bytes) : Math.floor(Math.log2(bytes));
  return (exponent - 6) * 8 + round((bytes / 2 ** exponent - 1) * 8);
}

export class Heap {
  readonly #free = new Map<number, number>();
  readonly #freeEnds = new Map<number, number>();
  readonly #used = new Map<number, number>();
  /** Freed ranges not joined yet, by class: every class has a bin of its own. */
  readonly #waiting: number[][] = Array.from({ length: BINS }, () => []);
  /** Their sizes. */
  readonly #sizes = new Float64Array(BINS);
  readonly #bins: Set<number>[] = Array.from({ length: BINS }, () => new Set<number>());
  readonly #grow: (end: number) => boolean;
  #limit: number;
  #end: number;
  #inUse = 0;
  #peak = 0;

  /**
   * @param start first usable address
   * @param end   end of the memory that exists already
   * @param limit the highest end there can be
   * @param grow  makes memory exist up to an address; false if it cannot
   */
  constructor(start: number, end: number, limit: number, grow: (end: number) => boolean) {
    this.#end = start;
    this.#limit = limit;
    this.#grow = grow;
    if (end > start) {
      this.#end = end;
      this.#insert(start, end - start);
    }
  }

  /** Bytes of live ranges, in their size classes. */
  get inUse(): number {
    return this.#inUse;
  }
  get peak(): number {
    return this.#peak;
  }
  /** The highest address that has existed so far. */
  get end(): number {
    return this.#end;
  }
  /** From now on there is no highest end. */
  unlimit(): void {
    this.#limit = Number.MAX_SAFE_INTEGER - 65536;
  }
  /** Bytes of a live range, in its size class. */
  sizeOf(start: number): number {
    return this.#used.get(start) ?? 0;
  }
  resetPeak(): void {
    this.#peak = this.#inUse;
  }

  /** Address of a new range, a multiple of 64; undefined if there is no room. */
  allocate(bytes: number): number | undefined {
    const size = sizeClass(bytes);
    const start = this.#waiting[binOf(size, Math.floor)]?.pop() ?? this.#take(size) ?? this.#joinedTake(size) ?? this.#extend(size);
    if (start === undefined) return undefined;
    this.#used.set(start, size);
    this.#inUse += size;
    this.#peak = Math.max(this.#peak, this.#inUse);
    return start;
  }

  free(start: number): void {
    const size = this.#used.get(start);
    if (size === undefined) throw new Error(`Heap.free: ${start} is not the start of a live range`);
    this.#used.delete(start);
    this.#inUse -= size;
    const bin = binOf(size, Math.floor);
    this.#waiting[bin]?.push(start);
    this.#sizes[bin] = size;
  }

  #take(size: number): number | undefined {
    for (let bin = binOf(size, Math.ceil); bin < this.#bins.length; bin++) {
      const candidates = this.#bins[bin];
      if (candidates === undefined || candidates.size === 0) continue;
      const [start] = candidates;
      if (start === undefined) continue;
      const length = this.#remove(start);
      if (length > size) this.#insert(start + size, length - size);
      return start;
    }
    return undefined;
  }

  /** From what is free after joining what waits. */
  #joinedTake(size: number): number | undefined {
    let joined = false;
    for (const [bin, starts] of this.#waiting.entries()) {
      for (const start of starts) this.#insert(start, this.#sizes[bin] ?? 0);
      joined ||= starts.length > 0;
      starts.length = 0;
    }
    return joined ? this.#take(size) : undefined;
  }

  #extend(size: number): number | undefined {
    // a free range at the very end is the start of the new one
    const tail = this.#freeEnds.get(this.#end);
    const start = tail ?? this.#end;
    const least = start + size;
    if (least > this.#limit) return undefined;
    const roomy = Math.min(this.#limit, Math.max(least, this.#end + Math.min(64 << 20, Math.max(4 << 20, this.#end / 8))));
    const [most, end] = [Math.ceil(roomy / 65536) * 65536, Math.ceil(least / 65536) * 65536];
    const reached = [...(most <= this.#limit ? [most] : []), end].find((one) => this.#grow(one));
    if (reached === undefined) return undefined;
    const added = this.#end;
    this.#end = reached;
    this.#insert(added, reached - added);
    const length = this.#remove(start);
    if (length > size) this.#insert(start + size, length - size);
    return start;
  }

  #insert(from: number, size: number): void {
    let start = from,
      length = size;
    const before = this.#freeEnds.get(start);
    if (before !== undefined) length += this.#remove(before);
    start = before ?? start;
    if (this.#free.has(from + size)) length += this.#remove(from + size);
    this.#free.set(start, length);
    this.#freeEnds.set(start + length, start);
    this.#bins[binOf(length, Math.floor)]?.add(start);
  }

  #remove(start: number): number {
    const length = this.#free.get(start) ?? 0;
    this.#free.delete(start);
    this.#freeEnds.delete(start + length);
    this.#bins[binOf(length, Math.floor)]?.delete(start);
    return length;
  }
}
