/** The tensors of R decode rows, their block table, and the steps that were captured on them. */
import type { ByRow, Device, Replay } from "../device/device.ts";
import { keep } from "../tensor/scope.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import { RowTensors } from "./row-tensors.ts";

/** A block table as it is on the device, and what was last written to it. */
interface Table {
  readonly tensor: Tensor;
  readonly words: Uint32Array;
}

export class RowBatch {
  readonly R: number;
  readonly tensors: RowTensors;
  readonly #device: Device;
  readonly #widest: number;
  /** By width: [R, width]. */
  readonly #tables = new Map<number, Table>();
  #width = 0;
  /** By what else a captured interval depends on: the width of the table, and how the stop automata lie. */
  readonly #captured = new Map<string, Replay>();

  /** @param widest blocks of the longest sequence there can be */
  constructor(device: Device, R: number, interval: number, widest: number) {
    this.R = R;
    this.#device = device;
    this.#widest = widest;
    this.tensors = new RowTensors(device, R, interval);
  }

  get width(): number {
    return this.#width;
  }

  /** [R, width], after `widen`. */
  get blockTable(): Tensor {
    return this.#table.tensor;
  }

  /** What was last written to the table. */
  get table(): Uint32Array {
    return this.#table.words;
  }

  /** Makes the table wide enough for so many blocks, and no wider than it need be. Returns its width. */
  widen(blocks: number): number {
    this.#width = widthFor(blocks, this.#widest);
    if (!this.#tables.has(this.#width)) {
      const tensor = keep(empty(this.#device, [this.R, this.#width], { dtype: "u32", label: "block table" }));
      this.#tables.set(this.#width, { tensor, words: new Uint32Array(this.R * this.#width) });
    }
    return this.#width;
  }

  /** Puts rows of `table` on the device. */
  writeTable(first: number, end: number): void {
    const { tensor, words } = this.#table;
    tensor.write(words.subarray(first * this.#width, end * this.#width), first);
  }

  /**
   * Asks for the kernels of `work`, which are the same each time on the table of this width and with the same stop automata: a device that can keep
   * what it recorded need not be told each time. With `rows`, only the first ones are of interest. Returns whether nothing had to be recorded.
   * @param stops names how the stop automata lie on the device
   */
  repeat(stops: number, rows: number | undefined, work: (batch: RowBatch) => void): boolean {
    const key = `table of ${this.#width}, stops ${stops}`;
    const known = this.#captured.get(key);
    if (known !== undefined) return known.run(rows);
    const run = (): void => {
      work(this);
    };
    if (this.#device.capture === undefined) run();
    else this.#captured.set(key, this.#device.capture(run, this.#byRow(rows)));
    return false;
  }

  /** Stop automata lie otherwise: what was captured is of no use. */
  forget(): void {
    for (const replay of this.#captured.values()) replay.dispose();
    this.#captured.clear();
  }

  dispose(): void {
    this.forget();
    this.tensors.dispose();
    for (const { tensor } of this.#tables.values()) tensor.dispose();
    this.#tables.clear();
  }

  get #table(): Table {
    return this.#tables.get(this.#width)!;
  }

  #byRow(rows: number | undefined): ByRow | undefined {
    if (rows === undefined) return undefined;
    return { rows: this.R, storages: [...this.tensors.all, this.blockTable].map(({ storage }) => storage) };
  }
}

/** The narrowest table. */
const leastWidth = 16;

/** Width of a table for so many blocks: one of few, so that captured steps fit again; the last is that of the longest sequence there can be. */
export function widthFor(blocks: number, widest: number): number {
  let width = leastWidth;
  while (width < blocks) width *= 4;
  return 2 * width > widest ? Math.max(blocks, widest) : width;
}
