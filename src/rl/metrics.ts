/** The numbers of a training step, by name. A mean over nothing is left out rather than reported as 0. */
import { mean as meanOf, standardDeviation } from "../util/stats.ts";
import type { CriticStats } from "./critic.ts";
import { groupIndices, policyTokens } from "./mini-batches.ts";
import { repeatsItself } from "./repetition.ts";
import type { Scored, SearchRecord, SearchTrajectory, Unpaid } from "./trajectory.ts";
import type { UpdateStats } from "./update-stats.ts";
import { valueFit, type TokenValues } from "./value-targets.ts";

export type Metrics = Record<string, number>;

/** Of the rollouts of one step, whatever their task; rewards and their groups are of those that were paid. */
export function rolloutMetrics(scored: readonly Scored[], unpaid: readonly Unpaid[] = []): Metrics {
  const trajectories = [...scored, ...unpaid].map(({ trajectory }) => trajectory);
  const rewards = scored.map(({ reward }) => reward);
  const groups = [...groupIndices(scored.map(({ trajectory }) => trajectory)).values()];
  const lengths = trajectories.map(({ ids }) => ids.length);
  return present({
    "reward/mean": mean(rewards),
    "reward/std": rewards.length < 2 ? undefined : standardDeviation(rewards),
    "reward/min": rewards.length === 0 ? undefined : Math.min(...rewards),
    "reward/max": rewards.length === 0 ? undefined : Math.max(...rewards),
    "reward/zero_std_groups": share(groups, (group) => group.every((index) => rewards[index] === rewards[group[0] as number])),
    "reward/failed": unpaid.filter(({ cause }) => cause === undefined).length,
    "reward/dropped_groups": droppedGroups(scored, unpaid),
    "rollout/tokens": mean(lengths),
    "rollout/tokens_max": lengths.length === 0 ? undefined : Math.max(...lengths),
    "rollout/prompt_tokens": mean(trajectories.map(({ promptLength }) => promptLength)),
    "rollout/policy_tokens": mean(trajectories.map(policyTokens)),
    "rollout/repeated": share(trajectories, repeatsItself),
  });
}

/** Groups that failed rewards have left with one rollout at most, and with nothing to learn from. */
function droppedGroups(scored: readonly Scored[], unpaid: readonly Unpaid[]): number {
  const groups = [...groupIndices([...scored, ...unpaid].map(({ trajectory }) => trajectory)).values()];
  return groups.filter((members) => {
    const paid = members.flatMap((index) => scored[index] ?? []);
    return paid.length < members.length && paid.length <= 1 && paid.every(({ advantage }) => advantage === 0);
  }).length;
}

/** What a person should know of the rollouts of a step that were not paid: how many, and the first reason. */
export function rewardWarnings(scored: readonly Scored[], unpaid: readonly Unpaid[]): string[] {
  const all = scored.length + unpaid.length;
  const dropped = droppedGroups(scored, unpaid);
  const alone = dropped === 0 ? "" : `, which leaves ${dropped === 1 ? "1 group" : `${dropped} groups`} without a comparison`;
  const rewards = unpaid.filter(({ cause }) => cause === undefined);
  const searches = unpaid.filter(({ cause }) => cause === "search");
  const lines = [
    ...rewards.slice(0, 1).map(({ failure }) => `${rewards.length} of ${all} rewards failed, and their rollouts were left out: ${failure}`),
    ...searches.slice(0, 1).map(({ failure }) => `${searches.length} of ${all} rollouts were left out: ${failure}`),
  ];
  return lines.map((line, i) => (i === 0 ? line.replace(" left out:", ` left out${alone}:`) : line));
}

/** Of rollouts of the search agent, besides. */
export function searchMetrics(trajectories: readonly SearchTrajectory[]): Metrics {
  const again = ({ searches }: SearchTrajectory): boolean => searches.length > 1;
  const startedWithGold = (gold: boolean): SearchTrajectory[] => trajectories.filter(({ searches }) => searches[0]?.containsGold === gold);
  const searches = trajectories.flatMap((trajectory) => trajectory.searches);
  // How a rollout would have ended that a failed search has ended, nobody knows.
  const ended = trajectories.filter(({ status }) => status !== "failed");
  const simulated = searches.filter(({ kind, failure }) => kind !== "real" && failure === undefined);
  const leak = (kind: SearchRecord["kind"]): number | undefined =>
    share(
      simulated.filter((search) => search.kind === kind),
      ({ containsGold }) => containsGold,
    );
  return present({
    "rollout/searches": mean(trajectories.map(({ searches }) => searches.length)),
    "rollout/turns": mean(trajectories.map(({ turns }) => turns)),
    "rollout/valid": share(ended, isValid),
    "rollout/answered": share(ended, ({ status }) => status === "answered"),
    "rollout/length": share(ended, ({ status }) => status === "length"),
    "rollout/invalid_actions": mean(trajectories.map(({ invalidActions }) => invalidActions)),
    "rollout/again_with_gold": share(startedWithGold(true), again),
    "rollout/again_without_gold": share(startedWithGold(false), again),
    "search/failed": searches.filter(({ failure }) => failure !== undefined).length,
    "search/left_out": trajectories.length - ended.length,
    "search/empty": searches.filter(isEmptySearch).length,
    "search/cut": searches.filter(({ leftOut }) => leftOut !== undefined).length,
    "simulator/searches": simulated.length,
    "simulator/noise_probability": mean(simulated.flatMap(({ noiseProbability }) => noiseProbability ?? [])),
    "simulator/noise_share": share(simulated, ({ kind }) => kind === "noisy"),
    "simulator/leak_useful": leak("useful"),
    "simulator/leak_noisy": leak("noisy"),
  });
}

/** Whether an engine answered a search without a word. */
export function isEmptySearch({ documents, failure }: SearchRecord): boolean {
  return failure === undefined && documents.every(({ text }) => text.trim() === "");
}

/**
 * What a person should know of the searches of a step or an evaluation, a line each: those that failed (but for those whose rollout was left out), those without documents (of a real
 * engine, which may find nothing, only where it never found any), and those that were cut.
 */
export function searchWarnings(trajectories: readonly SearchTrajectory[]): string[] {
  const searches = trajectories.flatMap((trajectory) => trajectory.searches);
  const of = (part: readonly SearchRecord[]): string => `${part.length} of ${searches.length} searches`;
  const failed = trajectories
    .filter(({ status }) => status !== "failed")
    .flatMap((trajectory) => trajectory.searches.filter(({ failure }) => failure !== undefined));
  const empty = searches.filter(isEmptySearch);
  const made = empty.filter(({ kind, documents }) => kind !== "real" || documents.length > 0);
  const nothing = searches.length > 1 && empty.length === searches.length;
  const cut = searches.filter(({ leftOut }) => leftOut !== undefined);
  return [
    ...(failed.length === 0 ? [] : [`${of(failed)} failed, and were shown as without results: ${failed[0]?.failure ?? ""}`]),
    ...(nothing ? ["no search found a document"] : made.length === 0 ? [] : [`${of(made)} were answered with empty documents`]),
    ...(cut.length === 0 ? [] : [`${of(cut)} brought more than an observation can show, and were cut before they were read`]),
  ];
}

/** Whether a rollout kept to the format: it answered, and every turn before was a search. */
export function isValid({ status, invalidActions }: SearchTrajectory): boolean {
  return status === "answered" && invalidActions === 0;
}

/**
 * Of the updates of one step, in order. The mismatch between sampler and trainer is that of the first update, before which the
 * weights are those that sampled; the others are means over updates, weighted by their policy tokens.
 */
export function updateMetrics(updates: readonly UpdateStats[], { hasReference = true }: { readonly hasReference?: boolean } = {}): Metrics {
  const [first] = updates;
  if (first === undefined) return {};
  const weight = updates.reduce((sum, { trainedTokens }) => sum + trainedTokens, 0);
  const weighted = (value: (stats: UpdateStats) => number): number =>
    updates.reduce((sum, stats) => sum + value(stats) * stats.trainedTokens, 0) / weight;
  const last = updates.at(-1) as UpdateStats;
  // A skipped update has no norm.
  const norm = mean(updates.filter(({ overflowed }) => !overflowed).map(({ gradNorm }) => gradNorm));
  const tokens = {
    "policy/loss": meanOf(updates.map(({ loss }) => loss)),
    "policy/ratio_mean": weighted(({ ratioMean }) => ratioMean),
    "policy/ratio_max": Math.max(...updates.map(({ ratioMax }) => ratioMax)),
    "policy/clip_low": weighted(({ clipLow }) => clipLow),
    "policy/clip_high": weighted(({ clipHigh }) => clipHigh),
    "policy/clip_dual": weighted(({ clipDual }) => clipDual),
    "policy/kl_old_new": weighted(({ klOldNew }) => klOldNew),
    ...(hasReference ? { "policy/kl_reference": weighted(({ klReference }) => klReference) } : {}),
    "policy/entropy": weighted(({ entropy }) => entropy),
  };
  return {
    "rollout/logprob_mismatch_max": first.logProbDifferenceMax,
    "rollout/logprob_mismatch_mean": first.logProbDifferenceMean,
    ...(weight === 0 ? {} : tokens),
    ...(norm === undefined ? {} : { "policy/grad_norm": norm }),
    "policy/lr": last.learningRate,
    "policy/tokens": updates.reduce((sum, { tokens }) => sum + tokens, 0),
    "policy/trained_tokens": weight,
    "policy/micro_batches": updates.reduce((sum, { microBatches }) => sum + microBatches, 0),
    "train/loss_scale": last.lossScale,
    "train/overflow_steps": last.overflows,
  };
}

/**
 * Of a critic: how well its values foretold the returns of a step's policy tokens, before it learnt from them, and its updates, as means over
 * them. One that shares the policy's weights is updated with it.
 */
export function criticMetrics(
  scored: readonly Scored[],
  values: TokenValues,
  updates: readonly UpdateStats[],
  own: readonly CriticStats[],
): Metrics {
  const fit = valueFit(scored, values);
  const losses = own.length > 0 ? own : updates.flatMap((update) => (update.values === undefined ? [] : [update.values]));
  return present({
    "critic/value_mean": fit?.valueMean,
    "critic/return_mean": fit?.returnMean,
    "critic/explained_variance": fit?.explainedVariance,
    "critic/loss": mean(losses.map(({ loss }) => loss)),
    "critic/clipped": mean(losses.map(({ clipped }) => clipped)),
    "critic/grad_norm": mean(own.filter(({ overflowed }) => !overflowed).map(({ gradNorm }) => gradNorm)),
    "critic/lr": own.at(-1)?.learningRate,
  });
}

function present(metrics: Readonly<Record<string, number | undefined>>): Metrics {
  return Object.fromEntries(Object.entries(metrics).filter((entry): entry is [string, number] => entry[1] !== undefined));
}

function mean(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : meanOf(values);
}

function share<T>(items: readonly T[], test: (item: T) => boolean): number | undefined {
  return items.length === 0 ? undefined : items.filter(test).length / items.length;
}
