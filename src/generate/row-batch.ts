/** The tensors of R decode rows, their block table, and the step that was captured on them. */
import type { ByRow, Device, Replay } from "../device/device.ts";
import { keep } from "../tensor/scope.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import { RowTensors } from "./row-tensors.ts";

export class RowBatch {
  readonly R: number;
  readonly tensors: RowTensors;
  /** [R, width]: null before `widen`. */
  blockTable: Tensor | null = null;
  /** What was last written to it. */
  table = new Uint32Array(0);
  readonly #device: Device;
  #times = 0;
  #replay: Replay | null = null;

  constructor(device: Device, R: number, interval: number) {
    this.R = R;
    this.#device = device;
    this.tensors = new RowTensors(device, R, interval);
  }

  get width(): number {
    return this.blockTable?.cols ?? 0;
  }

  /** Makes the table wide enough for so many blocks: a power of two, so that it seldom changes its shape. Returns its width. */
  widen(blocks: number): number {
    const width = 2 ** Math.ceil(Math.log2(blocks));
    if (this.width < width || this.width > 4 * width) {
      this.forget();
      this.blockTable?.dispose();
      this.blockTable = keep(empty(this.#device, [this.R, width], { dtype: "u32", label: "block table" }));
      this.table = new Uint32Array(this.R * width);
    }
    return this.width;
  }

  /** Puts rows of `table` on the device. */
  writeTable(first: number, end: number): void {
    this.blockTable!.write(this.table.subarray(first * this.width, end * this.width), first);
  }

  /**
   * Asks for the kernels of `work`: the same each time, on the same tensors, until `forget`, so that a device that can keep what it
   * recorded need not be told each time. With `rows`, only the first ones are of interest.
   */
  repeat(rows: number | undefined, work: (batch: RowBatch) => void): void {
    this.#times++;
    if (this.#replay !== null) this.#replay.run(rows);
    // A number of rows that comes once only is not worth what a capture reserves.
    else if (this.#device.capture === undefined || (rows === undefined && this.#times === 1)) work(this);
    else
      this.#replay = this.#device.capture(() => {
        work(this);
      }, this.#byRow(rows));
  }

  /** The work will not be wanted for a while: gives back what a capture holds, where that is much. */
  rest(): void {
    if (this.#replay !== null && !this.#replay.light) this.forget();
  }

  /** The work has changed. Gives back what a capture held. */
  forget(): void {
    this.#replay?.dispose();
    this.#replay = null;
    this.#times = 0;
  }

  dispose(): void {
    this.forget();
    this.tensors.dispose();
    this.blockTable?.dispose();
    this.blockTable = null;
  }

  #byRow(rows: number | undefined): ByRow | undefined {
    if (rows === undefined) return undefined;
    return { rows: this.R, storages: [...this.tensors.all, this.blockTable!].map(({ storage }) => storage) };
  }
}
