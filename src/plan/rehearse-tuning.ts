/** A fine-tuning on a device that only counts: its model is opened and one update is made on the largest micro-batches that the configuration allows. */
import type { Config } from "../config/index.ts";
import type { Device } from "../device/device.ts";
import { Closing } from "../setup/closing.ts";
import { learningParameters } from "../setup/open-model.ts";
import { openLearner } from "../setup/open-learner.ts";
import type { Models } from "../setup/open-models.ts";
import { openOn } from "../setup/open-policy.ts";
import { fineTuneStep, type Example } from "../sft/fine-tune.ts";
import { keep } from "../tensor/scope.ts";
import { full } from "../tensor/tensor.ts";
import type { Ledger } from "./ledger.ts";
import { shapesOnly, type PlannedWeights } from "./models.ts";
import { bookOf, parts, phases } from "./rehearse.ts";

/**
 * Runs it, keeping the books in `ledger`, which observes `device`. Every token is learnt, as most are in a set of documents.
 * @param config - as `tuningConfig` makes it
 * @param opened - told of the models, whose weights are undefined: on a device that computes, they must be filled
 * @throws DeviceError where a kernel refuses its sizes.
 */
export async function rehearseTuning(
  config: Config,
  planned: readonly PlannedWeights[],
  device: Device,
  ledger: Ledger,
  opened?: (models: Models) => void,
): Promise<void> {
  const closing = new Closing();
  const book = bookOf(ledger);
  try {
    ledger.begin(phases.loading);
    const copies = planned.map(({ copy }) => copy);
    const models = await openOn(device, config, copies, closing, shapesOnly(planned, book));
    opened?.(models);
    const { policy } = models;
    book(parts.moments);
    const { optimizer } = openLearner(config, { device, policy, criticModel: null }, closing);
    ledger.begin(phases.update);
    book(parts.gradients);
    for (const weight of learningParameters(policy).values())
      weight.grad = keep(full(device, weight.shape, 0, { usage: "parameter", label: `gradient of ${weight.label}` }));
    book(parts.activations);
    const { microBatchTokens, recompute } = config.train;
    const examples = [...largest(config, policy.maxPositions), ...largest(config, policy.maxPositions)];
    await fineTuneStep(policy.decoder, optimizer, examples, { learningRate: 0, microBatchTokens, recompute, adapter: policy.adapter });
  } finally {
    await closing.close();
  }
}

/** One micro-batch: examples of full length, and one that fills it. */
function largest({ train, sft }: Config, maxPositions: number): Example[] {
  const longest = Math.max(2, Math.min(sft.maxTokens, maxPositions));
  const whole = Math.max(1, Math.floor(train.microBatchTokens / longest));
  const rest = train.microBatchTokens - whole * longest;
  const lengths = [...Array.from({ length: whole }, () => longest), ...(rest > 1 ? [rest] : [])];
  return lengths.map((length) => ({ ids: new Array<number>(length).fill(0), weights: new Array<number>(length).fill(1) }));
}
