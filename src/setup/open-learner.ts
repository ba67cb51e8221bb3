/** What learns, and by what: the optimiser of a policy. */
import type { Config } from "../config/index.ts";
import type { Device } from "../device/device.ts";
import { AdamW, decayGroups } from "../optim/adamw.ts";
import { lossScalerFor, type LossScaler } from "../optim/loss-scaler.ts";
import type { Closing } from "./closing.ts";
import { learningParameters, type Model } from "./open-model.ts";

export interface LearnerParts {
  /** Of the policy's weights, or of its adapter's. */
  readonly optimizer: AdamW;
  /** The optimiser's; null in f32. */
  readonly lossScaler: LossScaler | null;
}

/** The optimiser of what learns: all weights of the policy, or its adapter. */
export function openLearner(
  { optimizer: adam, seed }: Config,
  { device, policy }: { readonly device: Device; readonly policy: Pick<Model, "decoder" | "adapter"> },
  closing: Closing,
): LearnerParts {
  const { beta1, beta2, eps, maxGradNorm, weightDecay, moments } = adam;
  const lossScaler = lossScalerFor(device);
  const groups = decayGroups(learningParameters(policy), weightDecay);
  const optimizer = closing.add(new AdamW(groups, { beta1, beta2, eps, maxGradNorm, lossScaler, moments, seed }), (opened) => {
    opened.dispose();
  });
  return { optimizer, lossScaler };
}
