/**
 * The rows of one decode batch on the device: what each row feeds next, its position, stop state and budget. A step runs wholly on
 * the device; the host uploads only what has changed, and reads once every few steps.
 */
import type { Device } from "../device/device.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { KvCache } from "../nn/kv-cache.ts";
import { advance, type DecodeState } from "../ops/advance.ts";
import { sample, type Sampled } from "../ops/sample.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withoutTape } from "../tensor/tape.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import type { Harvest } from "./harvest.ts";
import type { ActiveRequest } from "./sequence.ts";
import type { StackedStops } from "./stop-tables.ts";

/** Tensors of R rows; `blockTable` is apart, since its width changes. */
interface RowTensors {
  readonly state: DecodeState;
  readonly settings: Tensor;
  readonly keys: Tensor;
  readonly offsets: Tensor;
  readonly sampled: Sampled;
  readonly out: { readonly ids: Tensor; readonly logProbs: Tensor };
}

export interface DecodeModel {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly cache: KvCache;
  readonly stops: StackedStops;
}

export class DecodeRows {
  /** The running requests, in row order. Replace it through `set`. */
  rows: readonly ActiveRequest[] = [];
  private readonly model: DecodeModel;
  private readonly adapter: string | undefined;
  private readonly interval: number;
  private readonly host: { words: Uint32Array; settings: Float32Array; keys: Uint32Array };
  private tensors: RowTensors | null = null;
  private blockTable: Tensor | null = null;
  private table = new Uint32Array(0);
  /** Blocks of each row that are in the table on the device. */
  private readonly known: number[] = [];
  private stale = true;
  private stopsVersion = -1;

  /** @param interval steps between reads */
  constructor(model: DecodeModel, adapter: string | undefined, maxRows: number, interval: number) {
    this.model = model;
    this.adapter = adapter;
    this.interval = interval;
    this.host = { words: new Uint32Array(maxRows + 1), settings: new Float32Array(4 * maxRows), keys: new Uint32Array(5 * maxRows) };
  }

  set(rows: readonly ActiveRequest[]): void {
    this.rows = rows;
    this.stale = true;
  }

  /** Runs up to the interval's steps for all rows, whose blocks must suffice, and reads what came out. */
  async step(): Promise<Harvest> {
    const { device } = this.model;
    const { rows } = this;
    let steps = 1;
    for (const { remaining } of rows) steps = Math.max(steps, Math.min(this.interval, remaining));
    if (this.stale || this.stopsVersion !== this.model.stops.version) this.upload();
    else this.uploadBlocks();

    const { state, settings, keys, offsets, sampled, out } = this.tensors!;
    const { decoder, cache, stops } = this.model;
    const { transitions, accepts } = stops.onDevice();
    const batch = { ids: state.last, positions: state.positions, offsets, blockTable: this.blockTable! };
    const options = { adapter: this.adapter };
    for (let step = 0; step < steps; step++) {
      withoutTape(() => {
        withScope(() => {
          const logits = decoder.logits(decoder.forwardPaged(batch, cache, options));
          sample(logits, settings, keys, state.positions, sampled);
          advance(sampled, transitions, accepts, state, out, step);
        });
      });
    }
    const [ids, logProbs, status] = await Promise.all([
      device.read(out.ids.storage, 0, steps),
      device.read(out.logProbs.storage, 0, steps),
      device.read(state.status.storage),
    ]);
    return { steps, rows, ids: ids as Uint32Array, logProbs: logProbs as Float32Array, status: status as Uint32Array };
  }

  dispose(): void {
    this.disposeRows();
    this.blockTable?.dispose();
    this.blockTable = null;
    this.stale = true;
  }

  /** Writes everything the rows need. */
  private upload(): void {
    const R = this.rows.length;
    const { stops } = this.model;
    if (this.tensors === null || this.tensors.keys.rows !== R) this.allocateRows(R);
    const { state, settings, keys } = this.tensors!;
    const { words } = this.host;
    const write = (tensor: Tensor, value: (active: ActiveRequest) => number): void => {
      for (let r = 0; r < R; r++) words[r] = value(this.rows[r]!);
      tensor.write(words.subarray(0, R));
    };
    write(state.last, ({ sequence: { ids } }) => ids[ids.length - 1]!);
    write(state.positions, ({ sequence: { ids } }) => ids.length - 1);
    write(state.states, (active) => stops.place(active.request.stop, active.state));
    write(state.remaining, (active) => active.remaining);
    write(state.status, () => 0);
    for (let r = 0; r < R; r++) {
      const { sequence, request } = this.rows[r]!;
      this.host.settings.set([request.sampling.temperature, request.sampling.topK, request.sampling.topP, 0], 4 * r);
      this.host.keys.set(sequence.randomKey, 5 * r);
    }
    settings.write(this.host.settings.subarray(0, 4 * R));
    keys.write(this.host.keys.subarray(0, 5 * R));
    this.writeWholeTable(this.widest());
    this.stale = false;
    this.stopsVersion = stops.version;
  }

  /** Writes the table rows of sequences that have got new blocks. */
  private uploadBlocks(): void {
    const width = this.blockTable!.cols;
    const widest = this.widest();
    if (widest > width) {
      this.writeWholeTable(widest);
      return;
    }
    for (let r = 0; r < this.rows.length; r++) {
      const { blocks } = this.rows[r]!.sequence.cache;
      if (blocks.length === this.known[r]) continue;
      this.table.set(blocks, r * width);
      this.known[r] = blocks.length;
      this.blockTable!.write(this.table.subarray(r * width, (r + 1) * width), r);
    }
  }

  private widest(): number {
    let widest = 1;
    for (const { sequence } of this.rows) widest = Math.max(widest, sequence.cache.blocks.length);
    return widest;
  }

  /** Rounded up to a power of two, so that the table seldom changes its shape. */
  private writeWholeTable(widest: number): void {
    const R = this.rows.length;
    const width = 2 ** Math.ceil(Math.log2(widest));
    if (this.blockTable === null || this.blockTable.rows !== R || this.blockTable.cols !== width) {
      this.blockTable?.dispose();
      this.blockTable = keep(empty(this.model.device, [R, width], { dtype: "u32", label: "block table" }));
      this.table = new Uint32Array(R * width);
    }
    this.known.length = R;
    for (let r = 0; r < R; r++) {
      const { blocks } = this.rows[r]!.sequence.cache;
      this.table.set(blocks, r * width);
      this.known[r] = blocks.length;
    }
    this.blockTable.write(this.table);
  }

  private allocateRows(R: number): void {
    this.disposeRows();
    const { device } = this.model;
    const words = (label: string): Tensor => keep(empty(device, [R], { dtype: "u32", label }));
    this.tensors = {
      state: {
        last: words("last ids"),
        positions: words("positions"),
        states: words("stop states"),
        remaining: words("budgets"),
        status: words("status"),
      },
      settings: keep(empty(device, [R, 4], { label: "sampling settings" })),
      keys: keep(empty(device, [R, 5], { dtype: "u32", label: "random keys" })),
      offsets: keep(empty(device, [R + 1], { dtype: "u32", label: "row offsets" })),
      sampled: { ids: words("sampled ids"), logProb: keep(empty(device, [R], { label: "sampled log-probabilities" })) },
      out: {
        ids: keep(empty(device, [this.interval, R], { dtype: "u32", label: "recorded ids" })),
        logProbs: keep(empty(device, [this.interval, R], { label: "recorded log-probabilities" })),
      },
    };
    const { words: buffer } = this.host;
    for (let r = 0; r <= R; r++) buffer[r] = r;
    this.tensors.offsets.write(buffer.subarray(0, R + 1));
  }

  private disposeRows(): void {
    if (this.tensors === null) return;
    const { state, settings, keys, offsets, sampled, out } = this.tensors;
    const all = [
      state.last,
      state.positions,
      state.states,
      state.remaining,
      state.status,
      settings,
      keys,
      offsets,
      sampled.ids,
      sampled.logProb,
      out.ids,
      out.logProbs,
    ];
    for (const tensor of all) tensor.dispose();
    this.tensors = null;
  }
}
