import { describe, expect, it } from "vitest";
import type { DecoderConfig } from "../../../src/nn/config.ts";
import { Decoder } from "../../../src/nn/decoder.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { klEstimate } from "../../../src/rl/kl.ts";
import { constantLength, sequenceMeanTokenMean } from "../../../src/rl/loss-weights.ts";
import { microBatches } from "../../../src/rl/mini-batches.ts";
import type { TokenLogProbs } from "../../../src/rl/packing.ts";
import type { Scored, Trajectory } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs, update, type UpdateSettings } from "../../../src/rl/update.ts";
import { type Tensor } from "../../../src/tensor/tensor.ts";
import { philox } from "../../../src/util/philox.ts";
import { useDevice } from "../../helpers/device.ts";
import { trajectoryOf } from "../../helpers/trajectories.ts";
import { liveTensors } from "../../helpers/live-tensors.ts";

const config: DecoderConfig = {
  architecture: "LlamaForCausalLM",
  width: 32,
  mlpWidth: 48,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  vocabulary: 61,
  maxPositions: 256,
  normEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: { type: "default" },
  tiedEmbeddings: true,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  extra: {},
};
const settings: UpdateSettings = { microBatchTokens: 10_000, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 };

const temperature = 0.8;

/** Rollouts of 20 to 90 tokens with two turns each; ids drawn, log-probabilities not known yet. */
const drawn: Trajectory[] = Array.from({ length: 8 }, (_, i) => {
  const word = (n: number, m: number): number => philox([1, i], [n, 0, 0, 0])[0] % m;
  const mask = `${"0".repeat(3 + word(0, 9))}${"1".repeat(2 + word(1, 20))}${"0".repeat(5 + word(2, 30))}${"1".repeat(1 + word(3, 20))}`;
  const ids = Array.from(mask, (_c, t) => word(10 + t, config.vocabulary));
  return trajectoryOf({ ids, mask, question: i >> 1, rollout: i & 1, temperature });
});
const advantages = [1, -1, 0.5, -0.5, 0, 0, 0.7, -0.7];

describe("update", () => {
  const cpu = useDevice();

  async function setUp(maxGradNorm = 0, weightDecay = 0) {
    const policy = Decoder.initialise(config, cpu(), 3);
    // Weights of this size give log-probabilities that differ from token to token.
    for (const parameter of policy.parameters().values())
      if (parameter.shape.length > 1) parameter.write((await parameter.readFloats()).map((x) => 4 * x));
    const optimizer = new AdamW(decayGroups(policy.parameters(), weightDecay), { maxGradNorm });
    return {
      policy,
      optimizer,
      dispose: () => {
        optimizer.dispose();
        policy.dispose();
      },
    };
  }

  /** The drawn rollouts with the log-probabilities that `policy` gives them, each scored in a batch of its own. */
  async function sampledBy(policy: Decoder, fill = 0, from = drawn): Promise<Trajectory[]> {
    const values = await tokenLogProbs(policy, from, { ...settings, microBatchTokens: 1 });
    return from.map((trajectory) => {
      let at = 0;
      const own = values.get(trajectory) as Float32Array;
      return { ...trajectory, logProbs: trajectory.lossMask.map((mask) => (mask === 1 ? (own[at++] as number) : fill)) };
    });
  }

  const scored = (trajectories: readonly Trajectory[], given: readonly Scored["advantage"][] = advantages): Scored[] =>
    trajectories.map((trajectory, i) => ({ trajectory, reward: 0, advantage: given[i] as Scored["advantage"] }));

  async function weights(policy: Decoder): Promise<Float32Array[]> {
    return Promise.all([...policy.parameters().values()].map((parameter) => parameter.readFloats()));
  }

  const largest = (a: readonly Float32Array[], b: readonly Float32Array[]): number =>
    Math.max(...a.flatMap((values, i) => [...values].map((value, n) => Math.abs(value - (b[i]?.[n] as number)))));

  it("starts from ratio 1 exactly, and the loss is the token mean of minus the advantages", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const batch = scored(await sampledBy(policy));
    const stats = await update(policy, optimizer, batch, settings, 1e-3);
    const sizes = batch.map(({ trajectory }) => trajectory.lossMask.filter((mask) => mask === 1).length);
    const tokens = sizes.reduce((sum, n) => sum + n, 0);
    expect(stats).toMatchObject({
      ratioMean: 1,
      ratioMax: 1,
      logProbDifferenceMax: 0,
      logProbDifferenceMean: 0,
      klOldNew: 0,
      clipLow: 0,
      clipHigh: 0,
      tokens,
      trainedRollouts: 6,
      learningRate: 1e-3,
    });
    expect(stats.loss).toBeCloseTo(-sizes.reduce((sum, n, i) => sum + n * (advantages[i] as number), 0) / tokens, 6);
    expect(stats.gradNorm).toBeGreaterThan(0);
    expect(stats.trainedTokens).toBe(tokens - (sizes[4] as number) - (sizes[5] as number));
    dispose();
  });

  it("moves probability from bad rollouts to good ones, so the second update has another ratio than 1", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const trajectories = await sampledBy(policy);
    await update(policy, optimizer, scored(trajectories.slice(0, 4)), settings, 1e-3);
    const after = await tokenLogProbs(policy, trajectories, settings);
    const gain = (i: number): number => {
      const trajectory = trajectories[i] as Trajectory;
      const old = trajectory.logProbs.filter((_, t) => trajectory.lossMask[t] === 1);
      return (after.get(trajectory) as Float32Array).reduce((sum, value, n) => sum + value - (old[n] as number), 0);
    };
    expect(gain(0)).toBeGreaterThan(0);
    expect(gain(1)).toBeLessThan(0);
    const second = await update(policy, optimizer, scored(trajectories.slice(4), advantages.slice(4)), settings, 1e-3);
    expect(second.ratioMax).not.toBe(1);
    expect(second.logProbDifferenceMax).toBeGreaterThan(1e-4);
    expect(second.klOldNew).not.toBe(0);
    dispose();
  });

  it("does not depend on the cut into micro-batches", async () => {
    const results: { gradients: Float32Array[]; loss: number; norm: number }[] = [];
    for (const microBatchTokens of [10_000, 150, 1]) {
      const { policy, optimizer, dispose } = await setUp();
      const batch = scored(await sampledBy(policy));
      const stats = await update(
        policy,
        optimizer,
        batch,
        { ...settings, microBatchTokens, klCoef: 0.01, entropyCoef: 0.01 },
        1e-3,
        await tokenLogProbs(
          policy,
          batch.map(({ trajectory }) => trajectory),
          settings,
        ),
      );
      expect(stats.microBatches).toBe(microBatches(batch, microBatchTokens).length);
      const gradients = await Promise.all([...policy.parameters().values()].map((parameter) => (parameter.grad as Tensor).readFloats()));
      results.push({ gradients, loss: stats.loss, norm: stats.gradNorm });
      dispose();
    }
    const [whole, ...cut] = results as [(typeof results)[0], ...typeof results];
    for (const part of cut) {
      expect(largest(part.gradients, whole.gradients)).toBeLessThan(2e-6 * whole.norm);
      expect(part.loss).toBeCloseTo(whole.loss, 6);
      expect(part.norm / whole.norm).toBeCloseTo(1, 5);
    }
  });

  it.each(["ppo_clip", "gspo"] as const)("by %s does not depend on the order of its rows", async (loss) => {
    const results: { gradients: Float32Array[]; norm: number }[] = [];
    for (const turned of [false, true]) {
      const { policy, optimizer, dispose } = await setUp();
      const batch = scored(await sampledBy(policy));
      const rows = turned ? [...batch].reverse() : batch;
      const stats = await update(
        policy,
        optimizer,
        rows,
        { ...settings, loss, microBatchTokens: 150, lossWeights: sequenceMeanTokenMean },
        1e-3,
      );
      const gradients = await Promise.all([...policy.parameters().values()].map((parameter) => (parameter.grad as Tensor).readFloats()));
      results.push({ gradients, norm: stats.gradNorm });
      dispose();
    }
    const [one, other] = results as [(typeof results)[0], (typeof results)[0]];
    expect(one.norm).toBeGreaterThan(0);
    expect(largest(one.gradients, other.gradients)).toBeLessThan(2e-6 * one.norm);
  });

  it("takes nothing from masked positions: NaN there changes no bit", async () => {
    const results: Float32Array[][] = [];
    for (const fill of [0, NaN]) {
      const { policy, optimizer, dispose } = await setUp(1);
      const stats = await update(policy, optimizer, scored(await sampledBy(policy, fill)), settings, 1e-3);
      expect(Number.isFinite(stats.gradNorm)).toBe(true);
      results.push(await weights(policy));
      dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("leaves rollouts of advantage 0 out of the work but not out of the mean", async () => {
    const norms: number[] = [];
    const sizes: number[] = [];
    for (const count of [4, 6]) {
      const { policy, optimizer, dispose } = await setUp();
      const stats = await update(policy, optimizer, scored((await sampledBy(policy)).slice(0, count)), settings, 1e-3);
      expect(stats.trainedRollouts).toBe(4);
      norms.push(stats.gradNorm);
      sizes.push(stats.tokens);
      dispose();
    }
    expect((norms[1] as number) * (sizes[1] as number)).toBeCloseTo((norms[0] as number) * (sizes[0] as number), 4);
    expect(sizes[1]).toBeGreaterThan(sizes[0] as number);
  });

  it("still steps the optimiser, and measures the mismatch, when no rollout has a gradient", async () => {
    const { policy, optimizer, dispose } = await setUp(1, 0.1);
    const before = await weights(policy);
    const stats = await update(policy, optimizer, scored(await sampledBy(policy), Array<number>(8).fill(0)), settings, 1e-2);
    expect(stats).toMatchObject({ loss: 0, gradNorm: 0, trainedRollouts: 0, logProbDifferenceMax: 0 });
    const after = await weights(policy);
    const [embedding] = before as [Float32Array];
    after[0]?.forEach((value, n) => expect(value).toBeCloseTo((embedding[n] as number) * (1 - 1e-3), 6));
    expect(optimizer.step).toBe(1);
    dispose();
  });

  it("moves towards the reference policy when klCoef is above 0", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const reference = Decoder.initialise(config, cpu(), 4);
    const batch = scored(await sampledBy(policy), Array<number>(8).fill(0));
    const logProbs: TokenLogProbs = await tokenLogProbs(
      reference,
      batch.map(({ trajectory }) => trajectory),
      settings,
    );
    const divergence: number[] = [];
    for (let i = 0; i < 4; i++)
      divergence.push((await update(policy, optimizer, batch, { ...settings, klCoef: 1 }, 1e-3, logProbs)).klReference);
    expect(divergence[0]).toBeGreaterThan(0.01);
    for (let i = 1; i < 4; i++) expect(divergence[i]).toBeLessThan(divergence[i - 1] as number);
    await expect(update(policy, optimizer, batch, { ...settings, klCoef: 1 }, 1e-3)).rejects.toThrow(
      "a KL term needs the reference policy's log-probabilities",
    );
    reference.dispose();
    dispose();
  });

  it("raises the entropy when entropyCoef is above 0", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const batch = scored(await sampledBy(policy), Array<number>(8).fill(0));
    const entropies: number[] = [];
    for (let i = 0; i < 3; i++) entropies.push((await update(policy, optimizer, batch, { ...settings, entropyCoef: 1 }, 1e-3)).entropy);
    expect(entropies[1]).toBeGreaterThan(entropies[0] as number);
    expect(entropies[2]).toBeGreaterThan(entropies[1] as number);
    dispose();
  });

  it("trains on nothing where a mask, an id or a clip range is wrong", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const [right] = scored(await sampledBy(policy)) as [Scored];
    const { ids, lossMask } = right.trajectory;
    const wrong = (fields: object): Scored[] => [{ ...right, trajectory: { ...right.trajectory, ...fields } }];
    const id = (value: number) => wrong({ ids: [...ids.slice(0, -1), value] });
    for (const batch of [wrong({ lossMask: lossMask.map((mask) => mask === 1) }), id(1.5), id(-1), id(config.vocabulary), [right, right]])
      await expect(update(policy, optimizer, batch, settings, 1e-3)).rejects.toThrow(/^trajectory 1\/0\/0: /);
    await expect(update(policy, optimizer, [right], { ...settings, clipLow: -0.2 }, 1e-3)).rejects.toThrow("update: wrong clipLow");
    await expect(tokenLogProbs(policy, [id(-1)[0]!.trajectory], settings)).rejects.toThrow("trajectory 1/0/0: id");
    expect(optimizer.step).toBe(0);
    dispose();
  });

  it("gives the same bits with recomputation, and frees what it used", async () => {
    const results: Float32Array[][] = [];
    for (const recompute of [false, true]) {
      const { policy, optimizer, dispose } = await setUp(1);
      const batch = scored(await sampledBy(policy));
      await update(policy, optimizer, batch, { ...settings, recompute }, 1e-3);
      const held = liveTensors(cpu());
      await update(policy, optimizer, batch, { ...settings, recompute, microBatchTokens: 200 }, 1e-3);
      expect(liveTensors(cpu())).toEqual(held);
      results.push(await weights(policy));
      dispose();
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("computes each rollout at the temperature it was sampled at: two in one batch have the gradients of each alone", async () => {
    const mixed = drawn.map((trajectory, i) => ({ ...trajectory, sampling: { temperature: i % 3 === 0 ? 0.5 : 1.5, topK: 0, topP: 1 } }));
    // The same scale for a part as for the whole.
    const own = { ...settings, lossWeights: constantLength(10) };
    const gradients: Float32Array[][] = [];
    for (const part of [[0.5, 1.5], [0.5], [1.5]]) {
      const { policy, optimizer, dispose } = await setUp();
      const rows = scored(await sampledBy(policy, 0, mixed)).map((row) => ({
        ...row,
        advantage: part.includes(row.trajectory.sampling.temperature) ? row.advantage : 0,
      }));
      const stats = await update(policy, optimizer, rows, own, 1e-3);
      expect(stats).toMatchObject({ logProbDifferenceMax: 0, ratioMax: 1, microBatches: part.length === 1 ? 1 : 4 });
      gradients.push(await Promise.all([...policy.parameters().values()].map((one) => (one.grad as Tensor).readFloats())));
      dispose();
    }
    const [both, cold, hot] = gradients as [Float32Array[], Float32Array[], Float32Array[]];
    const sum = cold.map((values, i) => values.map((value, n) => value + (hot[i]?.[n] as number)));
    const zero = cold.map((values) => new Float32Array(values.length));
    expect(largest(both, sum)).toBeLessThan(1e-6 * largest(both, zero));
    expect(largest(cold, zero)).toBeGreaterThan(0.1 * largest(both, zero));
    expect(largest(hot, zero)).toBeGreaterThan(0.1 * largest(both, zero));
  });

  it("takes an advantage for each token: equal ones are one number to the bit, and NaN at masked tokens changes no bit", async () => {
    const results: Float32Array[][] = [];
    const spread = (advantage: number, mask: readonly number[], fill: number): number[] => mask.map((m) => (m === 1 ? advantage : fill));
    for (const fill of [null, 0, NaN, Infinity]) {
      const { policy, optimizer, dispose } = await setUp(1);
      const given = drawn.map(({ lossMask }, i) =>
        fill === null ? (advantages[i] as number) : spread(advantages[i] as number, lossMask, fill),
      );
      const stats = await update(policy, optimizer, scored(await sampledBy(policy), given), settings, 1e-3);
      expect(stats.trainedRollouts).toBe(6);
      results.push(await weights(policy));
      dispose();
    }
    for (const other of results.slice(1)) expect(other).toEqual(results[0]);
  });

  it("moves each token by its own advantage", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const [trajectory] = (await sampledBy(policy)) as [Trajectory];
    const first = trajectory.lossMask.indexOf(1);
    // Up with the first policy token, down with the last.
    const advantage = trajectory.lossMask.map((_, t) => (t === first ? 1 : t === trajectory.ids.length - 1 ? -1 : 0));
    const stats = await update(policy, optimizer, [{ trajectory, reward: 0, advantage }], settings, 1e-3);
    expect(stats.loss).toBeCloseTo(0, 7);
    expect(stats.gradNorm).toBeGreaterThan(0);
    const after = (await tokenLogProbs(policy, [trajectory], settings)).get(trajectory) as Float32Array;
    expect(after[0]).toBeGreaterThan(trajectory.logProbs[first] as number);
    expect(after.at(-1)).toBeLessThan(trajectory.logProbs.at(-1) as number);
    dispose();
  });

  /** Two updates with a loss: what the second does, away from the weights that sampled. */
  async function second(own: Partial<UpdateSettings>) {
    const { policy, optimizer, dispose } = await setUp();
    const batch = scored(await sampledBy(policy));
    const all = { ...settings, ...own };
    const first = await update(policy, optimizer, batch, all, 2e-3);
    const now = await tokenLogProbs(
      policy,
      batch.map(({ trajectory }) => trajectory),
      settings,
    );
    const stats = await update(policy, optimizer, batch, all, 0);
    const gradients = await Promise.all([...policy.parameters().values()].map((one) => (one.grad as Tensor).readFloats()));
    dispose();
    const rows = batch.map(({ trajectory, advantage }) => {
      const old = trajectory.logProbs.filter((_, t) => trajectory.lossMask[t] === 1);
      return { A: advantage as number, old, now: [...(now.get(trajectory) as Float32Array)] };
    });
    return { first, stats, rows, gradients };
  }
  const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const hold = (ratio: number, low: number, high: number): number => Math.min(1 + high, Math.max(1 - low, ratio));

  it("by gspo has the ratio of whole rollouts, clipped as such, and is the loss worked out by hand", async () => {
    const clip = { clipLow: 3e-3, clipHigh: 4e-3 };
    const { first, stats, rows } = await second({ loss: "gspo", lossWeights: sequenceMeanTokenMean, ...clip });
    expect(first.loss).toBeCloseTo(-meanOf(advantages), 6);
    const losses = rows.map(({ A, old, now }) => {
      const ratio = Math.exp(meanOf(now.map((value, i) => value - (old[i] as number))));
      return {
        loss: -Math.min(ratio * A, hold(ratio, clip.clipLow, clip.clipHigh) * A),
        held: hold(ratio, clip.clipLow, clip.clipHigh) * A < ratio * A,
      };
    });
    expect(stats.loss).toBeCloseTo(meanOf(losses.map(({ loss }) => loss)), 5);
    // Some are held and some are not: the clip is of use.
    expect(new Set(losses.map(({ held }) => held)).size).toBe(2);
    expect(stats.clipLow + stats.clipHigh).toBeGreaterThan(0);
  });

  it("by gspo has its gradient too: on rollouts of one token it learns what ppo_clip does, but for rounding", async () => {
    const short = drawn.map((trajectory) => {
      const last = trajectory.lossMask.lastIndexOf(1);
      return { ...trajectory, lossMask: trajectory.lossMask.map((_, t) => (t === last ? 1 : 0)) };
    });
    const results: Float32Array[][] = [];
    for (const loss of ["ppo_clip", "gspo"] as const) {
      const { policy, optimizer, dispose } = await setUp();
      const batch = scored(await sampledBy(policy, 0, short));
      for (let i = 0; i < 3; i++) await update(policy, optimizer, batch, { ...settings, loss, lossWeights: sequenceMeanTokenMean }, 2e-3);
      results.push(await weights(policy));
      dispose();
    }
    expect(largest(results[1]!, results[0]!)).toBeLessThan(1e-5);
  });

  it("by cispo still learns from tokens beyond the bounds, by reinforce whatever the ratio; with a dual clip less than without", async () => {
    const tight = { clipLow: 0.01, clipHigh: 0.01 };
    const token = (rows: Awaited<ReturnType<typeof second>>["rows"], loss: (A: number, ratio: number, now: number) => number): number =>
      meanOf(rows.flatMap(({ A, old, now }) => now.map((value, i) => loss(A, Math.exp(value - (old[i] as number)), value))));
    const cispo = await second({ loss: "cispo", ...tight });
    expect(cispo.stats.loss).toBeCloseTo(
      token(cispo.rows, (A, ratio, now) => -hold(ratio, 0.01, 0.01) * A * now),
      4,
    );
    const plain = await second({ loss: "reinforce" });
    expect(plain.stats.loss).toBeCloseTo(
      token(plain.rows, (A, _ratio, now) => -A * now),
      4,
    );
    const dual = await second({ dualClip: 1.01 });
    expect(dual.stats.loss).toBeCloseTo(
      token(dual.rows, (A, ratio) => {
        const clipped = -Math.min(ratio * A, hold(ratio, 0.2, 0.2) * A);
        return A < 0 ? Math.min(clipped, -1.01 * A) : clipped;
      }),
      5,
    );
    expect(dual.stats.clipDual).toBeGreaterThan(0);
    expect((await second({})).stats.clipDual).toBe(0);
  });

  it("at the weights that sampled, all losses have one gradient, to the bit", async () => {
    const results: Float32Array[][] = [];
    for (const loss of ["ppo_clip", "gspo", "cispo", "reinforce"] as const) {
      const { policy, optimizer, dispose } = await setUp();
      await update(policy, optimizer, scored(await sampledBy(policy)), { ...settings, loss, lossWeights: constantLength(10) }, 1e-3);
      results.push(await weights(policy));
      dispose();
    }
    for (const other of results.slice(1)) expect(other).toEqual(results[0]);
  });

  it.each(["k1", "k2", "k3"] as const)("by %s in the loss has the KL term worked out by hand", async (klEstimator) => {
    const { policy, optimizer, dispose } = await setUp();
    const reference = Decoder.initialise(config, cpu(), 4);
    const batch = scored(await sampledBy(policy), Array<number>(8).fill(0));
    const trajectories = batch.map(({ trajectory }) => trajectory);
    const known = await tokenLogProbs(reference, trajectories, settings);
    const stats = await update(policy, optimizer, batch, { ...settings, klCoef: 0.5, klEstimator }, 1e-3, known);
    const estimates = trajectories.flatMap((trajectory) => {
      const own = trajectory.logProbs.filter((_, t) => trajectory.lossMask[t] === 1);
      return own.map((value, i) => klEstimate(value, known.get(trajectory)![i] as number, klEstimator));
    });
    expect(stats.loss / (0.5 * meanOf(estimates))).toBeCloseTo(1, 4);
    reference.dispose();
    dispose();
  });

  it("refuses a greedy sample, by name", async () => {
    const { policy, optimizer, dispose } = await setUp();
    const greedy = trajectoryOf({ ids: [1, 2], mask: "01", question: 3, rollout: 1, temperature: 0 });
    for (const advantage of [1, 0])
      await expect(update(policy, optimizer, [{ trajectory: greedy, reward: 0, advantage }], settings, 1e-3)).rejects.toThrow(
        "trajectory 1/3/1: training needs sampling; expected a temperature above 0, got 0",
      );
    dispose();
  });
});
