/** What learns, and by what: the optimisers of a policy and of its critic. */
import type { Config } from "../config/index.ts";
import type { Device } from "../device/device.ts";
import { ValueHead } from "../nn/value-head.ts";
import { AdamW, decayGroups, type ParameterGroup } from "../optim/adamw.ts";
import { lossScalerFor, type LossScaler } from "../optim/loss-scaler.ts";
import type { CriticModel } from "../rl/critic.ts";
import type { Parameter } from "../tensor/tensor.ts";
import { ConfigError } from "../util/errors.ts";
import type { Closing } from "./closing.ts";
import { hasCritic } from "./model-roles.ts";
import { learningParameters, type Model } from "./open-model.ts";

export interface Learner {
  /** Of the policy's weights, or of its adapter's; with a critic on them, of its head too. */
  readonly optimizer: AdamW;
  /** The optimiser's; null in f32. */
  readonly lossScaler: LossScaler | null;
}

export interface Critic extends CriticModel {
  /** Null where the weights that it stands on are the policy's: they learn from both losses, by the policy's optimiser. */
  readonly own: Learner | null;
}

export interface LearnerParts extends Learner {
  /** Null without `algorithm.advantage=gae`. */
  readonly critic: Critic | null;
}

/** What of a model learns. */
type Learning = Pick<Model, "decoder" | "adapter">;

/** The optimiser of what learns: all weights of the policy, or its adapter; and its critic, if it has one. */
export function openLearner(
  config: Config,
  { device, policy, criticModel }: { readonly device: Device; readonly policy: Learning; readonly criticModel: Learning | null },
  closing: Closing,
): LearnerParts {
  const critic = hasCritic(config) ? openCritic(config, device, policy, criticModel, closing) : null;
  const shared = critic?.own === null ? [headGroup(config, critic.head)] : [];
  return { ...openOptimizer(config, device, learningParameters(policy), shared, closing), critic };
}

function openCritic(config: Config, device: Device, policy: Learning, trunk: Learning | null, closing: Closing): Critic {
  const { decoder, adapter } = trunk ?? policy;
  if (decoder.config.vocabulary !== policy.decoder.config.vocabulary)
    throw new ConfigError({
      where: "critic.path",
      what: "is a model of another tokenizer than the policy's",
      expected: `a vocabulary of ${policy.decoder.config.vocabulary}`,
      got: String(decoder.config.vocabulary),
    });
  const head = closing.add(new ValueHead(device, decoder.config.width), (one) => {
    one.dispose();
  });
  const parameters = new Map([...learningParameters({ decoder, adapter }), ...head.parameters()]);
  return { decoder, adapter, head, own: trunk === null ? null : openOptimizer(config, device, parameters, [], closing) };
}

/** The head learns at its own rate among the policy's weights. */
function headGroup({ critic, optimizer }: Config, head: ValueHead): ParameterGroup {
  return { parameters: head.parameters(), weightDecay: 0, rate: critic.learningRate / optimizer.learningRate };
}

function openOptimizer(
  { optimizer: adam, seed }: Config,
  device: Device,
  parameters: ReadonlyMap<string, Parameter>,
  others: readonly ParameterGroup[],
  closing: Closing,
): Learner {
  const { beta1, beta2, eps, maxGradNorm, weightDecay, moments } = adam;
  const lossScaler = lossScalerFor(device);
  const groups = [...decayGroups(parameters, weightDecay), ...others];
  const optimizer = closing.add(new AdamW(groups, { beta1, beta2, eps, maxGradNorm, lossScaler, moments, seed }), (opened) => {
    opened.dispose();
  });
  return { optimizer, lossScaler };
}
