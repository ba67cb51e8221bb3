/** One decode step as the generator runs it, without the generator: B rows, each with a context in the cache, sampling included. */
import {
  empty,
  fromHost,
  keep,
  KvCache,
  withoutTape,
  withScope,
  type Decoder,
  type Device,
  type Dtype,
  type Replay,
  type Tensor,
} from "zerosearch";
import { RandomRows } from "./weights.js";

export interface DecodeStepOptions {
  readonly batch: number;
  /** Tokens in the cache before the first step. */
  readonly context: number;
  /** Steps that must fit. */
  readonly steps: number;
  readonly cacheDtype: Dtype;
  /** Fill the cache with numbers: where something is computed. */
  readonly fillCache: boolean;
}

export class DecodeStep {
  private readonly device: Device;
  private readonly decoder: Decoder;
  private readonly options: DecodeStepOptions;
  private readonly cache: KvCache;
  private readonly replays: Replay[] = [];
  private readonly tensors: Readonly<Record<string, Tensor>>;

  constructor(decoder: Decoder, options: DecodeStepOptions) {
    const { device, config } = decoder;
    const { batch: R, context, steps, cacheDtype } = options;
    const V = config.vocabulary;
    const wide = Math.ceil((context + steps + 1) / 64);
    this.device = device;
    this.decoder = decoder;
    this.options = options;
    this.cache = new KvCache(device, config, R * wide, cacheDtype);
    if (options.fillCache) {
      const random = new RandomRows(device);
      for (const cache of [...this.cache.keys, ...this.cache.values]) random.fill(cache, 1);
      random.dispose();
    }
    const words = (count: number, value: (i: number) => number, shape: number[]): Tensor =>
      keep(
        fromHost(
          device,
          Uint32Array.from({ length: count }, (_, i) => value(i)),
          shape,
          { label: "decode rows" },
        ),
      );
    this.tensors = {
      last: words(R, (r) => (r * 7919) % V, [R]),
      positions: words(R, () => context, [R]),
      states: words(R, () => 0, [R]),
      remaining: words(R, () => 2 ** 30, [R]),
      status: words(R, () => 0, [R]),
      offsets: words(R + 1, (r) => r, [R + 1]),
      table: words(R * wide, (i) => i, [R, wide]),
      keys: words(R * 5, (i) => i * 2654435761, [R, 5]),
      settings: keep(
        fromHost(
          device,
          Float32Array.from({ length: 4 * R }, (_, i) => [1, 0, 1, 0][i % 4]!),
          [R, 4],
          { label: "settings" },
        ),
      ),
      transitions: words(V, () => 0, [1, V]),
      accepts: words(1, () => 0, [1]),
      ids: words(R, () => 0, [R]),
      logProb: keep(empty(device, [R], { label: "logProb" })),
      outIds: words(R, () => 0, [1, R]),
      outLogProbs: keep(empty(device, [1, R], { label: "out" })),
    };
  }

  /** Every row back to the context it began with. */
  rewind(): void {
    const { batch, context } = this.options;
    this.tensors["positions"]!.write(new Uint32Array(batch).fill(context));
    this.tensors["remaining"]!.write(new Uint32Array(batch).fill(2 ** 30));
  }

  /** A function that asks for one step, as the generator does: from what was captured, where the device captures. */
  repeated(): () => void {
    this.step(); // makes what is made once
    const goByRow = Object.entries(this.tensors).filter(([name]) => name !== "transitions" && name !== "accepts");
    const byRow = { rows: this.options.batch, storages: goByRow.map(([, { storage }]) => storage) };
    const replay = this.device.capture?.(() => {
      this.step();
    }, byRow);
    if (replay === undefined) return () => this.step();
    this.replays.push(replay);
    return () => replay.run();
  }

  /** Asks for one step. */
  step(): void {
    const { decoder, cache, device, tensors } = this;
    const storage = (...names: string[]) => names.map((name) => tensors[name]!.storage);
    const batch = {
      ids: tensors["last"]!,
      positions: tensors["positions"]!,
      offsets: tensors["offsets"]!,
      blockTable: tensors["table"]!,
    };
    withoutTape(() => {
      withScope(() => {
        const logits = decoder.logits(decoder.forwardPaged(batch, cache));
        device.run("sample", {}, [logits.storage, ...storage("settings", "keys", "positions")], storage("ids", "logProb"));
        device.run(
          "advance",
          { step: 0 },
          storage("ids", "logProb", "transitions", "accepts"),
          storage("last", "positions", "states", "remaining", "status", "outIds", "outLogProbs"),
        );
      });
    });
  }

  dispose(): void {
    for (const replay of this.replays) replay.dispose();
    this.cache.dispose();
    for (const tensor of Object.values(this.tensors)) tensor.dispose();
  }
}
