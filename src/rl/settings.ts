/** The settings of an algorithm: sections of the configuration. Nothing is computed here. */
import type { z } from "zod";
import { choice, flag, optionalModel, rare, real, section, whole } from "../util/fields.ts";

/** `configs/algorithms/<name>.yaml`. */
export const presetNames = ["grpo", "ppo", "reinforce", "dapo", "dr_grpo", "gspo", "rloo", "zerosearch-compat"] as const;

export const advantageNames = ["grpo", "dr_grpo", "rloo", "reinforce", "reinforce_plus_plus", "gae"] as const;
export type AdvantageName = (typeof advantageNames)[number];

/** Advantages that are taken inside a group. */
export const groupAdvantageNames: readonly AdvantageName[] = ["grpo", "dr_grpo", "rloo"];

export const lossNames = ["ppo_clip", "gspo", "cispo", "reinforce"] as const;
export type LossName = (typeof lossNames)[number];

export const aggregationNames = ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "constant"] as const;
export type AggregationName = (typeof aggregationNames)[number];

/**
 * What becomes of tokens that the policy did not sample, in a sum that runs back over a rollout.
 * - `skip`: they are not there. verl, AReaL.
 * - `plain`: as if the policy had sampled them, values and decay included. The code of ZeroSearch and Search-R1.
 * - `zero`: stepped through with value and reward 0, so that only the decay remains. OpenRLHF.
 * - `reset`: nothing flows back past them: what follows a document is another episode. The running return of verl's REINFORCE++.
 */
export const documentRules = ["skip", "plain", "zero", "reset"] as const;
export type DocumentRule = (typeof documentRules)[number];

export const algorithmSettings = section("From rewards to the loss. docs/algorithms.md has the formulas.", {
  name: choice(
    presetNames,
    "A preset: sets the keys of this section that make the algorithm (configs/algorithms/); what is given beside it, or later, wins. zerosearch-compat is the code released with the paper, with its faults, and sets keys of other sections too (docs/compat.md).",
  ),
  advantage: rare(
    choice(
      advantageNames,
      "Of a reward against others. grpo: minus its group's mean, over the group's deviation; dr_grpo: without the deviation; rloo: minus the mean of the others; reinforce: the reward itself; reinforce_plus_plus: the return from each token, whitened; gae: with a critic (section critic).",
    ),
  ),
  normalizeByStd: rare(flag(true, "Divide grpo's advantages by the standard deviation of the group's rewards.")),
  whiten: rare(flag(false, "Shift and scale the advantages of all policy tokens of a step to mean 0 and deviation 1.")),
  gamma: rare(real(1, { max: 1 }, "Discount of a token, for gae and reinforce_plus_plus.")),
  lambda: rare(real(1, { max: 1 }, "Decay of gae over tokens: 1 is the return less the value, less is smoother and leans on the critic.")),
  documents: rare(
    choice(
      documentRules,
      "What gae and reinforce_plus_plus do with tokens that the policy did not sample: skip them, take them as its own (plain), step through them at value 0 (zero), or start anew after them (reset).",
    ),
  ),
  loss: rare(
    choice(
      lossNames,
      "Of the policy. ppo_clip: the clipped ratio of each token; gspo: of each rollout; cispo: the ratio is held at the bounds and still learns; reinforce: no ratio.",
    ),
  ),
  clipLow: real(0.2, { max: 1 }, "The ratio has no further effect below 1 - clipLow where the advantage is negative."),
  clipHigh: real(0.2, {}, "The ratio has no further effect above 1 + clipHigh where the advantage is positive."),
  dualClip: rare(real(0, {}, "Where the advantage is negative, a token's loss is at most -dualClip times it; 0 is off, else above 1.")),
  aggregation: rare(
    choice(
      aggregationNames,
      "How the losses of tokens become one, over the whole optimiser batch: their mean, the mean over rollouts of their sum or of their mean, or their sum over a constant.",
    ),
  ),
  aggregationTokens: rare(
    whole(0, {}, "The constant, in tokens a rollout; 0 takes what a rollout may write, rollout.maxNewTokens times its turns."),
  ),
  klCoef: real(0.001, {}, "Weight of the KL term that holds the policy to a reference policy; 0 holds none."),
  klEstimator: rare(
    choice(["k3", "k1", "k2"], "Its estimate from a token, with d = log policy - log reference: e^-d - 1 + d; d; d^2 / 2."),
  ),
  klIn: rare(choice(["loss", "reward"], "Where it stands: in the loss, or taken from the reward of each token.")),
  klTarget: rare(real(0, {}, "Where klIn is reward: klCoef is adapted until the KL of a token is this; 0 leaves it fixed.")),
  klHorizon: rare(whole(10000, { min: 1 }, "Rollouts over which klCoef adapts.")),
  entropyCoef: real(0.001, {}, "Weight of the entropy bonus in the loss."),
  dynamicSampling: rare(
    whole(
      0,
      { max: 100 },
      "Groups whose rewards do not differ teach nothing: they are dropped, and other questions asked in their place, up to so many times a step; 0 is off.",
    ),
  ),
  overlongBuffer: rare(
    real(0, { max: 1 }, "Share of overlongTokens, the last, over which a penalty on the reward grows from 0 to overlongPenalty; 0 is off."),
  ),
  overlongTokens: rare(whole(0, {}, "Policy tokens of a rollout at which the penalty is whole; 0 takes all that a rollout may write.")),
  overlongPenalty: rare(real(1, {}, "The penalty, taken from the reward before the advantage; the reward in the logs is without it.")),
  maskTruncated: rare(flag(false, "Leave rollouts that ran out of room out of the loss; they stay in their group's baseline.")),
});

export const criticSettings = section("The critic of algorithm.advantage=gae: a value for every token that the policy writes.", {
  trunk: rare(choice(["own", "policy"], "What its value head stands on: weights of its own (with LoRA, an adapter), or the policy's.")),
  path: rare(optionalModel("The model that its own weights start from, of the policy's tokenizer; null takes the policy as it starts.")),
  learningRate: rare(real(1e-5, {}, "Learning rate of the critic after warm-up; of the head alone with trunk=policy.")),
  warmupSteps: rare(whole(10, {}, "Optimiser updates over which it rises from 0 in a straight line.")),
  headStartSteps: rare(whole(0, {}, "Steps at the start in which the critic learns and the policy does not.")),
  clip: rare(real(0.5, {}, "A value moves the loss no further than this from what it was at the start of the step; 0 is off.")),
  coef: rare(real(0.5, {}, "With trunk=policy: weight of the value loss beside the policy's in the shared weights.")),
});

export type AlgorithmSettings = z.output<typeof algorithmSettings>;
export type CriticSettings = z.output<typeof criticSettings>;
