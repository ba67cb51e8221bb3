/** The tensors of R decode rows, all but the block table, whose width changes. */
import type { Device } from "../device/device.ts";
import type { DecodeRecord, DecodeState } from "../ops/advance.ts";
import type { Sampled } from "../ops/sample.ts";
import { keep } from "../tensor/scope.ts";
import { empty, fromHost, type Tensor } from "../tensor/tensor.ts";

export class RowTensors {
  readonly R: number;
  readonly state: DecodeState;
  /** [R, 4] and [R, 5]: what `sample` takes. */
  readonly settings: Tensor;
  readonly keys: Tensor;
  /** [R + 1]: 0 .. R, one token a row. */
  readonly offsets: Tensor;
  readonly sampled: Sampled;
  /** [interval, R]: what came out since the last read. */
  readonly out: DecodeRecord;
  readonly all: readonly Tensor[];

  constructor(device: Device, R: number, interval: number) {
    const all: Tensor[] = [];
    const own = (tensor: Tensor): Tensor => {
      all.push(keep(tensor));
      return tensor;
    };
    const words = (label: string, shape: readonly number[] = [R]): Tensor => own(empty(device, shape, { dtype: "u32", label }));
    const floats = (label: string, shape: readonly number[] = [R]): Tensor => own(empty(device, shape, { label }));
    this.R = R;
    this.state = {
      last: words("last ids"),
      positions: words("positions"),
      states: words("stop states"),
      remaining: words("budgets"),
      status: words("status"),
    };
    this.settings = floats("sampling settings", [R, 4]);
    this.keys = words("random keys", [R, 5]);
    this.offsets = own(
      fromHost(
        device,
        Uint32Array.from({ length: R + 1 }, (_, r) => r),
        [R + 1],
        { label: "row offsets" },
      ),
    );
    this.sampled = { ids: words("sampled ids"), logProb: floats("sampled log-probabilities") };
    this.all = all;
    this.out = { ids: words("recorded ids", [interval, R]), logProbs: floats("recorded log-probabilities", [interval, R]) };
  }

  dispose(): void {
    for (const tensor of this.all) tensor.dispose();
  }
}
