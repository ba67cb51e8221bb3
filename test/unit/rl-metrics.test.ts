import { describe, expect, it } from "vitest";
import { rewardWarnings, rolloutMetrics, searchMetrics, searchWarnings, updateMetrics } from "../../src/rl/metrics.ts";
import type { SearchRecord } from "../../src/rl/trajectory.ts";
import type { UpdateStats } from "../../src/rl/update-stats.ts";
import { scoredOf, trajectoryOf } from "../helpers/trajectories.ts";

const search = (kind: SearchRecord["kind"], containsGold: boolean, turn = 0): SearchRecord => ({
  turn,
  query: "q",
  kind,
  noiseProbability: 0.25,
  documents: [{ text: "d" }],
  text: "Doc 1: d",
  containsGold,
});

describe("metrics of rollouts", () => {
  it("are the numbers worked out by hand", () => {
    const scored = [
      scoredOf({ ids: [1, 2, 3, 4], mask: "0011", searches: [search("useful", true)], turns: 2 }, 0, 1),
      scoredOf({ ids: [1, 2], mask: "01", status: "length", rollout: 1, invalidActions: 1 }, 0, 0),
      scoredOf(
        { ids: [1, 2, 3, 4, 5, 6], mask: "001101", question: 1, searches: [search("noisy", false), search("useful", false, 1)], turns: 3 },
        0,
        0.5,
      ),
      scoredOf(
        { ids: [1, 2, 3, 4], mask: "0101", question: 1, rollout: 1, status: "noAnswer", searches: [search("noisy", true)], turns: 2 },
        0,
        0.5,
      ),
    ];
    const metrics = { ...rolloutMetrics(scored), ...searchMetrics(scored.map(({ trajectory }) => trajectory)) };
    expect(metrics).toMatchObject({
      "reward/mean": 0.5,
      "reward/min": 0,
      "reward/max": 1,
      "reward/zero_std_groups": 0.5,
      "reward/failed": 0,
      "reward/dropped_groups": 0,
      "rollout/searches": 1,
      "rollout/turns": 2,
      "rollout/valid": 0.5,
      "rollout/answered": 0.5,
      "rollout/length": 0.25,
      "rollout/invalid_actions": 0.25,
      "rollout/tokens": 4,
      "rollout/tokens_max": 6,
      "rollout/prompt_tokens": 1.5,
      "rollout/policy_tokens": 2,
      "rollout/again_with_gold": 0,
      "rollout/again_without_gold": 1,
      "search/failed": 0,
      "search/empty": 0,
      "search/cut": 0,
      "simulator/searches": 4,
      "simulator/noise_probability": 0.25,
      "simulator/noise_share": 0.5,
      "simulator/leak_useful": 0.5,
      "simulator/leak_noisy": 0.5,
    });
    expect(metrics["reward/std"]).toBeCloseTo(Math.sqrt(0.5 / 3), 15);
  });

  it("leave out what has nothing to be a mean of", () => {
    const scored = scoredOf({ ids: [1, 2], mask: "01", searches: [search("real", true)] }, 0, 1);
    const metrics = { ...rolloutMetrics([scored]), ...searchMetrics([scored.trajectory]) };
    expect(metrics["simulator/searches"]).toBe(0);
    for (const name of ["reward/std", "simulator/noise_share", "simulator/leak_useful", "rollout/again_without_gold"])
      expect(metrics).not.toHaveProperty(name);
    expect(Object.values(metrics).every(Number.isFinite)).toBe(true);
  });
});

describe("rewards that failed", () => {
  const at = (question: number, rollout: number, tokens = 2) => ({
    ids: Array.from({ length: tokens }, (_, i) => i),
    mask: "1".padStart(tokens, "0"),
    question,
    rollout,
  });
  const unpaid = (question: number, rollout: number, tokens = 2) => ({
    trajectory: trajectoryOf(at(question, rollout, tokens)),
    failure: `reward mine of rollout 1/${question}/${rollout}: fails: no luck`,
  });
  const pair = [scoredOf(at(0, 0), 1, 1), scoredOf(at(0, 1), -1, 0)];

  it("are counted, and are in no mean of rewards; their rollouts are rollouts", () => {
    const metrics = rolloutMetrics(pair, [unpaid(0, 2, 8)]);
    expect(metrics).toMatchObject({
      "reward/mean": 0.5,
      "reward/min": 0,
      "reward/zero_std_groups": 0,
      "reward/failed": 1,
      "reward/dropped_groups": 0,
      "rollout/tokens": 4,
      "rollout/tokens_max": 8,
    });
    expect(metrics["reward/std"]).toBe(rolloutMetrics(pair)["reward/std"]);
  });

  it("drop a group that they leave with one rollout or none, unless that one teaches", () => {
    const dropped = (advantage: number) =>
      rolloutMetrics([...pair, scoredOf(at(1, 0), advantage, 1)], [unpaid(1, 1), unpaid(2, 0), unpaid(2, 1)]);
    expect(dropped(0)).toMatchObject({ "reward/failed": 3, "reward/dropped_groups": 2 });
    expect(dropped(1)).toMatchObject({ "reward/failed": 3, "reward/dropped_groups": 1 });
    expect(rolloutMetrics([scoredOf(at(1, 0), 0, 1)])["reward/dropped_groups"]).toBe(0);
  });

  it("are apart from rollouts that were left out since a search failed", () => {
    const left = (question: number, rollout: number) => ({
      ...unpaid(question, rollout),
      failure: "a search failed: gone",
      cause: "search" as const,
    });
    expect(rolloutMetrics(pair, [unpaid(1, 0), left(1, 1)])).toMatchObject({ "reward/failed": 1, "reward/dropped_groups": 1 });
    expect(rewardWarnings(pair, [unpaid(1, 0), left(1, 1), left(0, 2)])).toEqual([
      "1 of 5 rewards failed, and their rollouts were left out, which leaves 1 group without a comparison: reward mine of rollout 1/1/0: fails: no luck",
      "2 of 5 rollouts were left out: a search failed: gone",
    ]);
    expect(rewardWarnings(pair, [left(1, 0)])).toEqual([
      "1 of 3 rollouts were left out, which leaves 1 group without a comparison: a search failed: gone",
    ]);
  });

  it("are told of, with the first reason", () => {
    expect(rewardWarnings(pair, [])).toEqual([]);
    expect(rewardWarnings(pair, [unpaid(0, 2), unpaid(0, 3)])).toEqual([
      "2 of 4 rewards failed, and their rollouts were left out: reward mine of rollout 1/0/2: fails: no luck",
    ]);
    expect(rewardWarnings(pair, [unpaid(1, 0)])).toEqual([
      "1 of 3 rewards failed, and their rollouts were left out, which leaves 1 group without a comparison: reward mine of rollout 1/1/0: fails: no luck",
    ]);
  });
});

describe("searches that brought nothing", () => {
  const of = (...searches: SearchRecord[]) => [scoredOf({ ids: [1, 2], mask: "01", searches }, 0, 1).trajectory];
  const failed: SearchRecord = { ...search("noisy", false), documents: [], failure: "server: HTTP 400" };
  const blank: SearchRecord = { ...search("useful", false), documents: [{ text: " \n" }] };
  const nothing: SearchRecord = { ...search("real", false), documents: [] };
  const cut: SearchRecord = { ...search("useful", true), leftOut: 7 };

  it("are counted, and failed ones are none of the simulator's", () => {
    expect(searchMetrics(of(failed, blank, nothing, cut, search("noisy", true)))).toMatchObject({
      "search/failed": 1,
      "search/empty": 2,
      "search/cut": 1,
      "simulator/searches": 3,
      "simulator/noise_share": 1 / 3,
    });
  });

  it("are told of, a line for each kind", () => {
    expect(searchWarnings(of(failed, blank, nothing, cut, failed))).toEqual([
      "2 of 5 searches failed, and were shown as without results: server: HTTP 400",
      "1 of 5 searches were answered with empty documents",
      "1 of 5 searches brought more than an observation can show, and were cut before they were read",
    ]);
    expect(searchWarnings(of(search("useful", true)))).toEqual([]);
  });

  it("are nothing to tell of where a real engine finds nothing for some queries, but where it does for all", () => {
    expect(searchWarnings(of(nothing, nothing, search("real", false)))).toEqual([]);
    expect(searchWarnings(of(nothing, nothing))).toEqual(["no search found a document"]);
  });
});

describe("metrics of updates", () => {
  const stats = (fields: Partial<UpdateStats>): UpdateStats => ({
    loss: 0,
    tokens: 10,
    trainedTokens: 10,
    trainedRollouts: 2,
    microBatches: 1,
    ratioMean: 1,
    ratioMax: 1,
    clipLow: 0,
    clipHigh: 0,
    clipDual: 0,
    klOldNew: 0,
    klReference: 0,
    entropy: 0,
    logProbDifferenceMax: 0,
    logProbDifferenceMean: 0,
    gradNorm: 1,
    overflowed: false,
    lossScale: 1,
    overflows: 0,
    learningRate: 1e-4,
    ...fields,
  });

  it("take the mismatch from the first update and weigh the rest by tokens", () => {
    expect(
      updateMetrics([
        stats({ trainedTokens: 30, entropy: 1, gradNorm: 2 }),
        stats({ ratioMean: 1.2, ratioMax: 3, logProbDifferenceMax: 0.5, entropy: 3, gradNorm: 4, learningRate: 2e-4 }),
      ]),
    ).toMatchObject({
      "rollout/logprob_mismatch_max": 0,
      "rollout/logprob_mismatch_mean": 0,
      "policy/ratio_mean": 1.05,
      "policy/ratio_max": 3,
      "policy/entropy": 1.5,
      "policy/grad_norm": 3,
      "policy/lr": 2e-4,
      "policy/tokens": 20,
      "policy/trained_tokens": 40,
    });
    expect(updateMetrics([])).toEqual({});
  });

  it("tell the last loss scale and all overflows, and leave skipped updates out of the gradient norm", () => {
    const skipped = stats({ gradNorm: NaN, overflowed: true, lossScale: 65536, overflows: 3 });
    expect(updateMetrics([skipped, stats({ gradNorm: 4, lossScale: 32768, overflows: 3 })])).toMatchObject({
      "policy/grad_norm": 4,
      "train/loss_scale": 32768,
      "train/overflow_steps": 3,
    });
    expect(updateMetrics([skipped])).not.toHaveProperty("policy/grad_norm");
    expect(updateMetrics([stats({ gradNorm: NaN })])["policy/grad_norm"]).toBeNaN();
  });
});
