/**
 * The rows of one decode batch on the device: what each row feeds next, its position, stop state and budget. A step runs wholly on
 * the device; the host uploads only what has changed, and reads once every few steps.
 *
 * Where reading has its price, the next steps may be asked for before those under way have been taken in: a row that stops meanwhile
 * is inactive for the rest. The host then knows the rows as they were some steps ago, so it writes their state only when nothing is
 * under way.
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
  #batch: RowBatch | null = null;
  /** Blocks of each row that are in the table on the device. */
  #known: number[] = [];
  #stale = true;
  #stopsVersion = -1;

  /** @param interval steps between reads */
  constructor(model: DecodeModel, adapter: string | undefined, maxRows: number, interval: number) {
    this.#model = model;
    this.#adapter = adapter;
    this.#interval = interval;
    this.#rounded = interval > 1 || model.device.capture !== undefined;
    const most = this.#rounded ? rowsFor(maxRows) : maxRows;
    this.#host = { words: new Uint32Array(most), settings: new Float32Array(4 * most), keys: new Uint32Array(5 * most) };
  }

  set(rows: readonly ActiveRequest[]): void {
    this.rows = rows;
    this.#stale = true;
  }

  /** Requests have ended. Their rows stay on the device, inactive, until a smaller batch is worth the upload. */
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

  /** Whether the rows must be written again, for which nothing may be under way. */
  get mustUpload(): boolean {
    return this.#stale || this.#stopsVersion !== this.#model.stops.version;
  }

  /** Whether any row may go on after the steps under way. */
  get wantsSteps(): boolean {
    return this.rows.some(({ remaining }) => remaining > this.ahead);
  }

  /** Tokens that the cache of a row must hold after its next steps. */
  tokensOf({ sequence, remaining }: ActiveRequest): number {
    return sequence.ids.length - 1 + Math.min(this.ahead + this.#interval, remaining);
  }

  /** Asks for up to the interval's steps for all rows, whose blocks must suffice, and for a read of what comes out. `landed` must follow. */
  begin(): Promise<Harvest> {
    if (this.mustUpload) this.#upload();
    else this.#uploadBlocks();
    const steps = this.rows.reduce((most, { remaining }) => Math.max(most, Math.min(this.#interval, remaining - this.ahead)), 1);
    if (steps === this.#interval)
      this.#batch!.repeat(this.#interval === 1 ? this.rows.length : undefined, (batch) => {
        this.#run(batch, steps);
      });
    else this.#run(this.#batch!, steps);
    this.ahead += steps;
    return this.#read(steps);
  }

  /** So many steps have been taken in. */
  landed(steps: number): void {
    this.ahead -= steps;
  }

  /** Nothing will be asked for a while: gives back what a faster start would need. */
  rest(): void {
    this.#batch?.rest();
  }

  dispose(): void {
    this.#batch?.dispose();
    this.#batch = null;
    this.#stale = true;
  }

  #run({ tensors, blockTable }: RowBatch, steps: number): void {
    const { state, settings, keys, offsets, sampled, out } = tensors;
    const { decoder, cache, stops } = this.#model;
    const { transitions, accepts } = stops.onDevice();
    const batch = { ids: state.last, positions: state.positions, offsets, blockTable: blockTable! };
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

  /** Writes everything the rows need. */
  #upload(): void {
    const { stops, device } = this.#model;
    const R = this.#sizeFor(this.rows.length);
    if (this.#batch?.R !== R) {
      this.#batch?.dispose();
      this.#batch = new RowBatch(device, R, this.#interval);
    } else if (this.#stopsVersion !== stops.version) this.#batch.forget();
    this.#slots = Array.from({ length: R }, (_, r) => this.rows[r] ?? null);
    const { state, settings, keys } = this.#batch.tensors;
    const { words } = this.#host;
    const write = (tensor: Tensor, value: (active: ActiveRequest) => number, absent = 0): void => {
      this.#slots.forEach((active, r) => {
        words[r] = active === null ? absent : value(active);
      });
      tensor.write(words.subarray(0, R));
    };
    write(state.last, ({ sequence: { ids } }) => ids[ids.length - 1]!);
    write(state.positions, ({ sequence: { ids } }) => ids.length - 1, INACTIVE);
    write(state.states, (active) => stops.place(active.request.stop, active.state));
    write(state.remaining, (active) => active.remaining);
    write(state.status, () => 0);
    this.#host.settings.fill(0);
    this.#host.keys.fill(0);
    for (const [r, { sequence, request }] of this.rows.entries()) {
      this.#host.settings.set([request.sampling.temperature, request.sampling.topK, request.sampling.topP, 0], 4 * r);
      this.#host.keys.set(sequence.randomKey, 5 * r);
    }
    settings.write(this.#host.settings.subarray(0, 4 * R));
    keys.write(this.#host.keys.subarray(0, 5 * R));
    this.#writeWholeTable();
    this.#stale = false;
    this.#stopsVersion = stops.version;
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

/** Rows of the batch that n requests decode in where work is to be repeated: the next power of two, and multiples of 64 from there on. */
export function rowsFor(n: number): number {
  if (n === 0) return 0;
  return n <= 64 ? 2 ** Math.ceil(Math.log2(n)) : 64 * Math.ceil(n / 64);
}
