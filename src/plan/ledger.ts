/** The books of a device that only counts: bytes by what they are for, and how they stood when they were most. */
import type { MemoryObserver, MemoryUse } from "../device/device.ts";

/** How much is held for each purpose; only those above 0. */
export type Bytes = ReadonlyMap<string, number>;

/** The books when a phase needed most. */
export interface Peak {
  readonly total: number;
  readonly parts: Bytes;
}

interface Entry {
  readonly bytes: number;
  readonly part: string;
}

export class Ledger implements MemoryObserver {
  /** Says what a piece of memory is for: one of the lines of the table. */
  classify: (use: MemoryUse) => string = () => "other";
  readonly #entries = new Map<number, Entry>();
  readonly #parts = new Map<string, number>();
  readonly #peaks = new Map<string, Peak>();
  #total = 0;
  #phase = "";

  /** What follows belongs to a phase, which may come again. */
  begin(phase: string): void {
    this.#phase = phase;
    this.#note();
  }

  taken(id: number, bytes: number, use: MemoryUse): void {
    this.given(id); // a piece that changes its use
    const part = this.classify(use);
    this.#entries.set(id, { bytes, part });
    this.#add(part, bytes);
    this.#note();
  }

  given(id: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    this.#add(entry.part, -entry.bytes);
  }

  /** By phase, in the order in which they began. */
  get phases(): ReadonlyMap<string, Peak> {
    return this.#peaks;
  }

  /** The most of all phases. */
  get peak(): Peak {
    return [...this.#peaks.values()].reduce<Peak>((most, peak) => (peak.total > most.total ? peak : most), { total: 0, parts: new Map() });
  }

  #add(part: string, bytes: number): void {
    this.#total += bytes;
    const now = (this.#parts.get(part) ?? 0) + bytes;
    if (now === 0) this.#parts.delete(part);
    else this.#parts.set(part, now);
  }

  #note(): void {
    const before = this.#peaks.get(this.#phase);
    if (before === undefined || this.#total > before.total)
      this.#peaks.set(this.#phase, { total: this.#total, parts: new Map(this.#parts) });
  }
}
