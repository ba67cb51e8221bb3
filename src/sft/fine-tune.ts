/**
 * One update of supervised fine-tuning: the weighted mean of next-token losses over a whole batch, however it is split into
 * micro-batches.
 */
import type { Decoder } from "../nn/decoder.ts";
import { crossEntropy } from "../ops/cross-entropy.ts";
import { gatherRows } from "../ops/gather-rows.ts";
import type { AdamW } from "../optim/adamw.ts";
import { backward } from "../tensor/backward.ts";
import { keep, withScope } from "../tensor/scope.ts";
import { withTape } from "../tensor/tape.ts";
import { fromHost, full } from "../tensor/tensor.ts";
import { packExamples, type Example } from "./examples.ts";

export interface FineTuneSettings {
  readonly learningRate: number;
  /** Tokens in one forward and backward pass. */
  readonly microBatchTokens: number;
  readonly recompute?: boolean;
}

export interface FineTuneStats {
  /** Weighted mean of -log p over the batch, in nats. */
  readonly loss: number;
  /** NaN when the update was refused: weights and moments are as they were. */
  readonly gradNorm: number;
  /** It was refused because of its loss scale, which is halved now; else a refusal means that training has diverged. */
  readonly overflowed: boolean;
}

/** Cuts a batch into micro-batches of at most `tokens` tokens; an example that is longer stands alone. */
export function microBatches(examples: readonly Example[], tokens: number): Example[][] {
  const batches: Example[][] = [];
  let room = 0;
  for (const example of examples) {
    if (batches.length === 0 || example.ids.length > room) {
      batches.push([]);
      room = tokens;
    }
    (batches.at(-1) as Example[]).push(example);
    room -= example.ids.length;
  }
  return batches;
}

/**
 * Forward, backward and one AdamW step over `examples`. Waits for the loss only at the end.
 * @throws DataError when no token has a weight.
 */
export async function fineTuneStep(
  decoder: Decoder,
  optimizer: AdamW,
  examples: readonly Example[],
  settings: FineTuneSettings,
): Promise<FineTuneStats> {
  const packed = microBatches(examples, settings.microBatchTokens).map(packExamples);
  const { lossScale } = optimizer;
  const scale = lossScale / packed.reduce((sum, { weightSum }) => sum + weightSum, 0);
  const { device } = decoder;
  optimizer.zeroGrad();
  const stats = keep(full(device, [1, 2], 0, { label: "fine-tuning loss" }));
  try {
    for (const batch of packed) {
      withScope(() => {
        const vector = (values: Uint32Array | Float32Array, label: string) => fromHost(device, values, [values.length], { label });
        const inputs = {
          ids: vector(batch.ids, "ids"),
          positions: vector(batch.positions, "positions"),
          offsets: vector(batch.offsets, "offsets"),
          longest: batch.positions.reduce((most, position) => Math.max(most, position + 1), 0),
        };
        const rows = vector(batch.rows, "rows"),
          targets = vector(batch.targets, "targets"),
          weights = vector(batch.weights, "weights");
        const { tape, value: loss } = withTape(() => {
          const hidden = gatherRows(decoder.forward(inputs, { recompute: settings.recompute ?? false }), rows);
          return crossEntropy(hidden, decoder.headWeight, targets, weights, { scale, stats });
        });
        backward(tape, loss);
        // The tape took the statistics over; they go on over all micro-batches.
        keep(stats);
      });
    }
    await optimizer.update(settings.learningRate);
    const [{ gradNorm, overflowed }, [sum = Number.NaN]] = await Promise.all([optimizer.settle(), stats.readFloats()]);
    const loss = sum / lossScale;
    return { loss, gradNorm, overflowed: overflowed && Number.isFinite(loss) };
  } finally {
    stats.dispose();
  }
}
