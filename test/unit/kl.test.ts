import { describe, expect, it } from "vitest";
import { readOverride, readYaml, packagedConfig, resolveConfig, type Config } from "../../src/config/index.ts";
import { klEstimate, KlWeight } from "../../src/rl/kl.ts";
import { overlongShaping } from "../../src/rl/overlong.ts";
import { allEqual, klPenalties, learntFrom, lossWeights, shapingOf, stepKl } from "../../src/run/algorithm.ts";
import { scoredOf, trajectoryOf } from "../helpers/trajectories.ts";

const configOf = (...settings: string[]): Config =>
  resolveConfig([...readYaml(packagedConfig("quickstart")), ...settings.map(readOverride)]);

describe("KL to a reference", () => {
  it("by k1, k2, k3 at probabilities .3 and .2 is the golden numbers", () => {
    const at = (estimator: "k1" | "k2" | "k3"): number => klEstimate(Math.log(0.3), Math.log(0.2), estimator);
    expect(at("k1")).toBeCloseTo(0.40546511, 8);
    expect(at("k2")).toBeCloseTo(0.08220098, 8);
    expect(at("k3")).toBeCloseTo(0.07213177, 8);
  });

  it("is finite however far the two are apart", () => {
    for (const estimator of ["k1", "k2", "k3"] as const)
      for (const far of [-Infinity, -1e4]) expect(Number.isFinite(klEstimate(0, far, estimator))).toBe(true);
  });

  it("near 0 loses no digits: k3 is d^2 / 2", () => {
    expect(klEstimate(-1, -1 - 1e-7, "k3") / 5e-15).toBeCloseTo(1, 2);
  });

  it("has a weight that moves to its target by a fifth at most, over the horizon", () => {
    const weight = new KlWeight(0.2, { target: 0.1, horizon: 1000 });
    weight.update(0.11, 100); // a tenth above
    expect(weight.coef).toBeCloseTo(0.2 * 1.01, 12);
    weight.update(9, 100); // far above: a fifth counts
    expect(weight.coef).toBeCloseTo(0.2 * 1.01 * 1.02, 12);
    weight.update(0, 1000);
    expect(weight.coef).toBeCloseTo(0.2 * 1.01 * 1.02 * 0.8, 12);
    const fixed = new KlWeight(0.2, { target: 0, horizon: 1000 });
    fixed.update(9, 100);
    expect(fixed.coef).toBe(0.2);
  });

  it("of a step reads policy tokens only, and takes its weight in the reward only where it stands there", () => {
    const trajectory = trajectoryOf({ ids: [1, 2, 3], mask: "001", logProbs: [NaN, NaN, -1] });
    const reference = new Map([[trajectory, Float32Array.of(-2)]]);
    const config = configOf("algorithm.klCoef=0.5", "algorithm.klIn=reward", "algorithm.klEstimator=k1");
    const kl = stepKl(config, [trajectory], reference)!;
    expect([...kl.tokens.get(trajectory)!]).toEqual([1]);
    expect(kl.mean).toBeCloseTo(Math.exp(-1), 12); // e^-1 - 1 + 1
    expect([...(klPenalties(config, kl, 0.5)?.get(trajectory) as Float64Array)]).toEqual([0.5]);
    expect(klPenalties(configOf("algorithm.klCoef=0.5"), kl, 0.5)).toBeUndefined();
  });
});

describe("the penalty on length", () => {
  it("is the golden numbers of DAPO's 4,096 tokens with a buffer of 1,024", () => {
    const settings = { tokens: 4096, buffer: 1024, penalty: 1 };
    expect([0, 3072, 3500, 4096, 9999].map((n) => overlongShaping(n, settings))).toEqual([0, 0, -0.41796875, -1, -1]);
  });

  it("counts what the policy wrote, not documents, against what it may write", () => {
    // The quickstart's policy may write 56 tokens in each of 4 turns.
    const config = configOf("algorithm.name=dapo");
    const mask = (policy: number, documents: number): string => `0${"0".repeat(documents)}${"1".repeat(policy)}`;
    const rows = [mask(224, 0), mask(100, 400), mask(190, 0)].map((one) => trajectoryOf({ ids: Array.from(one, () => 1), mask: one }));
    const [whole, none, some] = shapingOf(config, rows)!;
    expect([whole, none]).toEqual([-1, 0]);
    expect(some).toBeCloseTo(-(190 - 0.8 * 224) / (0.2 * 224), 12);
    expect(shapingOf(configOf(), rows)).toBeUndefined();
  });
});

describe("what a step learns from", () => {
  it("drops groups whose rewards are equal but for rounding: [.5] x 5, and not one that is 2e-6 apart", () => {
    expect(allEqual([0.5, 0.5, 0.5, 0.5, 0.5])).toBe(true);
    expect(allEqual([0.5, 0.5, 0.5, 0.5, 0.5 + 2e-6])).toBe(false);
  });

  it("leaves out rollouts that ran out of room where that is asked for, and goes on without a gradient where nothing is left", () => {
    const rows = (["answered", "length", "noAnswer"] as const).map((status, rollout) =>
      scoredOf({ ids: [1, 2], mask: "01", rollout, status }, 1),
    );
    expect(learntFrom(configOf(), rows, new Set())).toEqual(rows);
    expect(learntFrom(configOf("algorithm.maskTruncated=true"), rows, new Set())).toEqual([rows[0], rows[2]]);
    expect(learntFrom(configOf(), rows, new Set([rows[0]!.trajectory]))).toEqual([rows[1], rows[2]]);
    const all = new Set(rows.map(({ trajectory }) => trajectory));
    expect(learntFrom(configOf(), rows, all).map(({ advantage }) => advantage)).toEqual([0, 0, 0]);
  });

  it("sums over a constant: what a rollout may write, unless it is given", () => {
    const batch = [scoredOf({ ids: [1, 2], mask: "01" }, 1), scoredOf({ ids: [1, 2], mask: "01", rollout: 1 }, 1)];
    expect(lossWeights(configOf("algorithm.name=dr_grpo"))(batch).scale).toBe(1 / (2 * 224));
    expect(lossWeights(configOf("algorithm.name=dr_grpo", "algorithm.aggregationTokens=100"))(batch).scale).toBe(1 / 200);
  });
});
