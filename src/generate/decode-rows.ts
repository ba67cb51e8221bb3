/**
 * The rows of one decode batch on the device: what each row feeds next, its position, stop state and budget. A step runs wholly on
 * the device; the host uploads only what has changed, and reads once every few steps.
 *
 * Where reading has its price, the next steps may be asked for before those under way have been taken in: a row that stops meanwhile
 * is inactive for the rest. The host then knows the rows as they were some steps ago, so it writes only rows that nothing goes on in: requests
 * join in the place of those that have ended, while the others run.
 */
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { KvCache } from "../nn/kv-cache.ts";
import { advance } from "../ops/advance.ts";
import { sample } from "../ops/sample.ts";
import { withScope } from "../tensor/scope.ts";
import { withoutTape } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { INACTIVE, type Harvest } from "./harvest.ts";
import { RowBatch } from "./row-batch.ts";
import type { ActiveRequest } from "./sequence.ts";
import { blocksFor } from "./sequence-cache.ts";
import type { StackedStops } from "./stop-tables.ts";

export interface DecodeModel {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly cache: KvCache;
  readonly stops: StackedStops;
}

export class DecodeRows {
  /** The running requests. Replace them through `set`, or `leave`. */
  rows: readonly ActiveRequest[] = [];
  /** Steps asked for whose results have not been taken in: so far the device is ahead of the host. */
  ahead = 0;
  readonly #model: DecodeModel;
  readonly #adapter: string | undefined;
  readonly #interval: number;
  readonly #host: { words: Uint32Array; settings: Float32Array; keys: Uint32Array };
  /** Whether rows are held in few different numbers, so that work can be repeated. */
  readonly #rounded: boolean;
  /** The request in each row on the device; null where it has left, or never was one. */
  #slots: readonly (ActiveRequest | null)[] = [];
  /** By the number of rows; the one that was not wanted for longest first. */
  readonly #batches = new Map<number, RowBatch>();
  #batch: RowBatch | null = null;
  /** Blocks of each row that are in the table on the device. */
  #known: number[] = [];
  #stale = true;
  #stopsVersion = -1;
  readonly #counted: (replayed: boolean) => void;

  /**
   * @param interval steps between reads
   * @param counted told of each full interval whether it ran again what had been captured
   */
  constructor(
    model: DecodeModel,
    adapter: string | undefined,
    { maxRows, readInterval }: { readonly maxRows: number; readonly readInterval: number },
    counted: (replayed: boolean) => void,
  ) {
    this.#model = model;
    this.#adapter = adapter;
    this.#interval = readInterval;
    this.#counted = counted;
    this.#rounded = readInterval > 1 || model.device.capture !== undefined;
    const most = this.#rounded ? rowsFor(maxRows) : maxRows;
    this.#host = { words: new Uint32Array(most), settings: new Float32Array(4 * most), keys: new Uint32Array(5 * most) };
  }

  set(rows: readonly ActiveRequest[]): void {
    this.rows = rows;
    this.#stale = true;
  }

  /** Requests have ended. Their rows stay on the device, inactive, until others take them or a smaller batch is worth the upload. */
  leave(done: ReadonlySet<ActiveRequest>): void {
    this.rows = this.rows.filter((active) => !done.has(active));
    this.#slots = this.#slots.map((active) => (active !== null && done.has(active) ? null : active));
    // What is read every step is written as often: then no inactive row is computed.
    if (this.#interval === 1 || this.#sizeFor(this.rows.length) !== this.#batch?.R) this.#stale = true;
  }

  /** No rows, and nothing under way that anybody waits for. */
  reset(): void {
    this.set([]);
    this.ahead = 0;
  }

  /** Whether what is under way must land before the next steps: the batch changes its size, or stop states move. */
  get mustLand(): boolean {
    if (this.ahead === 0) return false;
    return this.#stopsVersion !== this.#model.stops.version || this.#sizeFor(this.rows.length) !== this.#batch?.R;
  }

  /** Whether any row may go on after the steps under way. */
  get wantsSteps(): boolean {
    return this.rows.some(({ remaining, ahead }) => remaining > ahead);
  }

  /** Tokens that the cache of a row must hold after its next steps. */
  tokensOf({ sequence, remaining, ahead }: ActiveRequest): number {
    return sequence.ids.length - 1 + Math.min(ahead + this.#interval, remaining);
  }

  /** Steps that `begin` would ask for. */
  get steps(): number {
    return this.rows.reduce((most, { remaining, ahead }) => Math.max(most, Math.min(this.#interval, remaining - ahead)), 1);
  }

  /** Asks for up to the interval's steps for all rows, whose blocks must suffice, and for a read of what comes out. `landed` must follow. */
  begin(): Promise<Harvest> {
    if (this.ahead === 0 && (this.#stale || this.#stopsVersion !== this.#model.stops.version)) this.#upload();
    else {
      if (this.#stale) this.#join();
      this.#uploadBlocks();
    }
    const { steps } = this;
    const batch = this.#batch!;
    if (steps === this.#interval)
      this.#counted(
        batch.repeat(this.#stopsVersion, this.#interval === 1 ? this.rows.length : undefined, () => {
          this.#run(batch, steps);
        }),
      );
    else this.#run(batch, steps);
    this.ahead += steps;
    for (const active of this.rows) active.ahead += steps;
    return this.#read(steps);
  }

  /** What these steps brought is about to be taken in. */
  landed({ steps, rows }: Harvest): void {
    this.ahead -= steps;
    for (const active of rows) if (active !== null) active.ahead -= steps;
  }

  dispose(): void {
    for (const batch of this.#batches.values()) batch.dispose();
    this.#batches.clear();
    this.#batch = null;
    this.#stale = true;
  }

  #run({ tensors, blockTable }: RowBatch, steps: number): void {
    const { state, settings, keys, offsets, sampled, out } = tensors;
    const { decoder, cache, stops } = this.#model;
    const { transitions, accepts } = stops.onDevice();
    const batch = { ids: state.last, positions: state.positions, offsets, blockTable };
    const options = { adapter: this.#adapter };
    withoutTape(() => {
      for (let step = 0; step < steps; step++)
        withScope(() => {
          const logits = decoder.logits(decoder.forwardPaged(batch, cache, options));
          sample(logits, settings, keys, state.positions, sampled);
          advance(sampled, transitions, accepts, state, out, step);
        });
    });
  }

  /** The reads are asked for at once: what is recorded after them does not show. */
  async #read(steps: number): Promise<Harvest> {
    const { device } = this.#model;
    const { state, out } = this.#batch!.tensors;
    const slots = this.#slots;
    const [ids, logProbs, status] = await Promise.all([
      device.read(out.ids.storage, 0, steps),
      device.read(out.logProbs.storage, 0, steps),
      device.read(state.status.storage),
    ]);
    return { steps, rows: slots, ids: ids as Uint32Array, logProbs: logProbs as Float32Array, status: status as Uint32Array };
  }

  /** Rows to hold n requests in: as many where nothing is captured; else few different numbers, so that work can be repeated. */
  #sizeFor(n: number): number {
    if (!this.#rounded) return n;
    const R = this.#batch?.R ?? 0;
    // A little hysteresis: most requests come back with their next turn.
    return n <= R && 8 * n > 3 * R ? R : rowsFor(n);
  }

  /** The batch of so many rows, with what was captured on it. */
  #batchOf(R: number): RowBatch {
    const { device, decoder } = this.#model;
    const batch = this.#batches.get(R) ?? new RowBatch(device, R, this.#interval, blocksFor(decoder.maxPositions));
    this.#batches.delete(R);
    this.#batches.set(R, batch);
    const [oldest] = this.#batches;
    if (this.#batches.size > (this.#rounded ? mostBatches : 1) && oldest !== undefined) {
      this.#batches.delete(oldest[0]);
      oldest[1].dispose();
    }
    return batch;
  }

  /** Writes everything the rows need. */
  #upload(): void {
    const { stops } = this.#model;
    const R = this.#sizeFor(this.rows.length);
    if (this.#stopsVersion !== stops.version) for (const batch of this.#batches.values()) batch.forget();
    this.#batch = this.#batchOf(R);
    this.#slots = Array.from({ length: R }, (_, r) => this.rows[r] ?? null);
    this.#stopsVersion = stops.version;
    this.#write(0, R);
    this.#batch.tensors.state.status.write(this.#host.words.fill(0).subarray(0, R));
    this.#writeWholeTable();
    this.#stale = false;
  }

  /** Writes the rows that change hands: of requests that have left, and of those that have come. */
  #join(): void {
    const here = new Set(this.rows);
    const inside = new Set(this.#slots);
    const coming = this.rows.filter((active) => !inside.has(active));
    let next = 0;
    const before = this.#slots;
    this.#slots = before.map((active) => (active !== null && here.has(active) ? active : (coming[next++] ?? null)));
    const changed = (r: number): boolean => this.#slots[r] !== before[r];
    for (let r = 0; r < before.length; r++) {
      if (!changed(r)) continue;
      let end = r + 1;
      while (end < before.length && changed(end)) end++;
      this.#known.fill(0, r, end);
      this.#write(r, end);
      this.#batch!.tensors.state.status.write(new Uint32Array(end - r), r);
      r = end;
    }
    this.#stale = false;
  }

  /** Writes what rows [first, end) feed next, and how they sample. */
  #write(first: number, end: number): void {
    const { stops } = this.#model;
    const { state, settings, keys } = this.#batch!.tensors;
    const host = this.#host;
    const count = end - first;
    const write = (tensor: Tensor, value: (active: ActiveRequest) => number, absent = 0): void => {
      for (let i = 0; i < count; i++) {
        const active = this.#slots[first + i] ?? null;
        host.words[i] = active === null ? absent : value(active);
      }
      tensor.write(host.words.subarray(0, count), first);
    };
    write(state.last, ({ sequence: { ids } }) => ids[ids.length - 1]!);
    write(state.positions, ({ sequence: { ids } }) => ids.length - 1, INACTIVE);
    write(state.states, (active) => stops.place(active.request.stop, active.state));
    write(state.remaining, (active) => active.remaining);
    host.settings.fill(0, 0, 4 * count);
    host.keys.fill(0, 0, 5 * count);
    for (let i = 0; i < count; i++) {
      const active = this.#slots[first + i];
      if (active === null || active === undefined) continue;
      const { temperature, topK, topP } = active.request.sampling;
      host.settings.set([temperature, topK, topP, 0], 4 * i);
      host.keys.set(active.sequence.randomKey, 5 * i);
    }
    settings.write(host.settings.subarray(0, 4 * count), first);
    keys.write(host.keys.subarray(0, 5 * count), first);
  }

  /** Writes the table rows of sequences that have got new blocks. */
  #uploadBlocks(): void {
    const batch = this.#batch!;
    const width = batch.width;
    if (this.#widest() > width) {
      this.#writeWholeTable();
      return;
    }
    for (const [r, active] of this.#slots.entries()) {
      const blocks = active?.sequence.cache.blocks ?? [];
      if (active === null || blocks.length === this.#known[r]) continue;
      batch.table.set(blocks, r * width);
      this.#known[r] = blocks.length;
      batch.writeTable(r, r + 1);
    }
  }

  #widest(): number {
    let widest = 1;
    for (const { sequence } of this.rows) widest = Math.max(widest, sequence.cache.blocks.length);
    return widest;
  }

  #writeWholeTable(): void {
    const batch = this.#batch!;
    const width = batch.widen(this.#widest());
    this.#known = this.#slots.map((active, r) => {
      const blocks = active?.sequence.cache.blocks ?? [];
      batch.table.set(blocks, r * width);
      return blocks.length;
    });
    batch.writeTable(0, batch.R);
  }
}

/** Batches that are kept with what was captured on them: more than the sizes that rollouts come to. */
const mostBatches = 12;

/** Rows of the batch that n requests decode in where work is to be repeated: the next power of two, and multiples of 64 from there on. */
export function rowsFor(n: number): number {
  if (n === 0) return 0;
  return n <= 64 ? 2 ** Math.ceil(Math.log2(n)) : 64 * Math.ceil(n / 64);
}
