/** Choices of an algorithm that mean nothing together. */
import { algorithmSettings, criticSettings, groupAdvantageNames } from "../rl/settings.ts";
import type { Config } from "./schema.ts";

/** Says that a key has a value that is wrong beside others, unless `right`. */
export type Need = (right: boolean, key: string, what: string, expected: string, hint?: string) => void;

export function checkAlgorithm({ algorithm, compat, critic, optimizer, train }: Config, need: Need): void {
  const { advantage, loss, aggregation, klCoef, klIn, klTarget, klHorizon, dualClip, documents, gamma, lambda } = algorithm;
  const grouped = groupAdvantageNames.includes(advantage);
  const others = `or algorithm.advantage=${["reinforce", "reinforce_plus_plus", "gae"].join(", ")}, which need none`;
  need(!grouped || train.groupSize >= 2, "train.groupSize", `leaves ${advantage} without a baseline`, `at least 2, ${others}`);
  const back = advantage === "gae" || advantage === "reinforce_plus_plus";
  const where = "with algorithm.advantage=gae or reinforce_plus_plus only";
  need(back || gamma === 1, "algorithm.gamma", `has no say in ${advantage}`, `1; another ${where}`);
  need(back || documents === "skip", "algorithm.documents", `has no say in ${advantage}`, `skip; another ${where}`);
  need(
    advantage === "gae" || lambda === 1,
    "algorithm.lambda",
    `has no say in ${advantage}`,
    "1; another with algorithm.advantage=gae only",
  );
  need(
    loss !== "gspo" || aggregation === "seq-mean-token-mean",
    "algorithm.aggregation",
    "gives the tokens of a rollout other weights than gspo's one ratio of a rollout is for",
    "seq-mean-token-mean with algorithm.loss=gspo",
  );
  need(dualClip === 0 || dualClip > 1, "algorithm.dualClip", "would hold the loss of every token", "0, or above 1");
  need(dualClip === 0 || loss === "ppo_clip", "algorithm.dualClip", `has no say in the loss ${loss}`, "0, or algorithm.loss=ppo_clip");
  need(
    algorithm.aggregationTokens === 0 || aggregation === "constant",
    "algorithm.aggregationTokens",
    `has no say in ${aggregation}`,
    "0, or algorithm.aggregation=constant",
  );
  need(klTarget === 0 || klCoef > 0, "algorithm.klTarget", "adapts nothing", "0, or algorithm.klCoef above 0 to start from");
  const { klHorizon: usualHorizon } = algorithmSettings.parse({});
  need(
    klTarget > 0 || klHorizon === usualHorizon,
    "algorithm.klHorizon",
    "has no say while klCoef is fixed",
    `${usualHorizon}, or algorithm.klTarget above 0`,
  );
  need(
    klTarget === 0 || klIn === "reward",
    "algorithm.klTarget",
    "is for a KL term in the reward",
    "0, or algorithm.klIn=reward",
    "In the loss, the gradient of the term already grows with the distance.",
  );
  need(
    algorithm.dynamicSampling === 0 || grouped,
    "algorithm.dynamicSampling",
    `drops groups of equal rewards, which ${advantage} can learn from`,
    `0, or algorithm.advantage=${groupAdvantageNames.join(" or ")}`,
  );
  need(
    algorithm.overlongBuffer > 0 || (algorithm.overlongTokens === 0 && algorithm.overlongPenalty === 1),
    algorithm.overlongTokens === 0 ? "algorithm.overlongPenalty" : "algorithm.overlongTokens",
    "is never used",
    "algorithm.overlongBuffer above 0 beside it",
  );
  const { trunk, headStartSteps } = critic;
  const judged = advantage === "gae";
  need(judged || critic.path === null, "critic.path", "is never used", "null, or algorithm.advantage=gae (algorithm.name=ppo)");
  const usual = criticSettings.parse({});
  // Its learning rate and warm-up may stand in a file that other algorithms are tried on.
  for (const name of ["clip", "coef"] as const) {
    const right = judged || critic[name] === usual[name];
    need(
      right,
      `critic.${name}`,
      `has no say in ${advantage}, which has no critic`,
      `${usual[name]}, or algorithm.advantage=gae (algorithm.name=ppo)`,
    );
  }
  need(
    !judged || trunk === "policy" || critic.coef === usual.coef,
    "critic.coef",
    "has no say where the critic has weights of its own",
    `${usual.coef}, or critic.trunk=policy`,
  );
  need(
    critic.path === null || trunk === "own",
    "critic.path",
    "is never used: the value head stands on the policy",
    "null, or critic.trunk=own",
  );
  const starts = headStartSteps === 0 || (judged && trunk === "own");
  need(starts, "critic.headStartSteps", "is for a critic with weights of its own", "0, or algorithm.advantage=gae and critic.trunk=own");
  need(headStartSteps < train.steps, "critic.headStartSteps", "leaves the policy no step", `below train.steps (${train.steps})`);
  const taken = !compat.documentsAsActions || documents === "skip" || documents === "plain";
  need(taken, "algorithm.documents", "is another rule than that of compat.documentsAsActions", "skip or plain beside it");
  const alone = !compat.documentsAsActions || !judged || trunk === "own";
  need(alone, "critic.trunk", "has no values of documents to learn", "own with compat.documentsAsActions");
  const meant = !compat.microBatchMean || aggregation === "token-mean";
  need(meant, "algorithm.aggregation", "is another mean than that of compat.microBatchMean", "token-mean beside it");
  const moves = optimizer.learningRate > 0 || trunk === "own" || !judged;
  need(moves, "optimizer.learningRate", "is 0, and a critic stands on the policy's weights", "above 0, or critic.trunk=own");
}
