import { describe, expect, it } from "vitest";
import { Decoder } from "../../../src/nn/decoder.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { repeatsItself } from "../../../src/rl/repetition.ts";
import type { Scored } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs, update } from "../../../src/rl/update.ts";
import { rewardedLogProbs, rewardedRollouts } from "../../../src/rl/watch.ts";
import { philox } from "../../../src/util/philox.ts";
import { useDevice } from "../../helpers/device.ts";
import { scoredOf, trajectoryOf } from "../../helpers/trajectories.ts";
import { tinyConfig, V } from "../generate/world.ts";

describe("rewarded rollouts", () => {
  const device = useDevice();
  const forward = { microBatchTokens: 1000 };
  const of = (question: number, rewards: readonly number[]): Scored[] =>
    rewards.map((reward, rollout) => scoredOf({ ids: [1, 2], mask: "01", question, rollout }, 0, reward));

  it("are those above the mean of their group, two of it at most, sixteen in all", () => {
    const keys = (rows: readonly Scored[]): string[] => rows.map(({ trajectory: { key } }) => `${key.question}/${key.rollout}`);
    expect(keys(rewardedRollouts([...of(0, [0, 1, 1, 0.9, 0]), ...of(1, [1, 1]), ...of(2, [0, 0.2])]))).toEqual(["0/1", "0/2", "2/1"]);
    expect(rewardedRollouts(Array.from({ length: 40 }, (_, question) => of(question, [0, 1])).flat())).toHaveLength(16);
  });

  it("gain what the policy has learnt about them: their log-probabilities now less those at sampling", async () => {
    const policy = Decoder.initialise(tinyConfig({ tie_word_embeddings: true }), device(), 3);
    const optimizer = new AdamW(decayGroups(policy.parameters(), 0), {});
    const drawn = Array.from({ length: 4 }, (_, i) => {
      const ids = Array.from({ length: 12 }, (_c, t) => philox([3, i], [t, 0, 0, 0])[0] % V);
      return trajectoryOf({ ids, mask: "000111000111", question: i >> 1, rollout: i & 1 });
    });
    const sampled = await tokenLogProbs(policy, drawn, forward);
    const rows = drawn.map((one) => {
      let i = 0;
      return { ...one, logProbs: one.lossMask.map((mask) => (mask === 1 ? sampled.get(one)![i++]! : NaN)) };
    });
    const batch = rows.map((trajectory, i) => ({ trajectory, reward: (i + 1) % 2, advantage: 1 - 2 * (i % 2) }));
    expect((await rewardedLogProbs(policy, batch, forward))["policy/rewarded_logprob_gain"]).toBe(0);
    await update(policy, optimizer, batch, { ...forward, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 }, 1e-2);
    const metrics = await rewardedLogProbs(policy, batch, forward);
    const rewarded = [rows[0]!, rows[2]!];
    const now = await tokenLogProbs(policy, rewarded, forward);
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    const after = mean(rewarded.flatMap((row) => [...now.get(row)!]));
    const before = mean(rewarded.flatMap((row) => row.logProbs.filter((value) => !Number.isNaN(value))));
    expect(metrics["policy/rewarded_logprob"]).toBeCloseTo(after, 12);
    expect(metrics["policy/rewarded_logprob_gain"]).toBeCloseTo(after - before, 12);
    expect(after - before).toBeGreaterThan(0.01);
    expect(await rewardedLogProbs(policy, of(0, [1, 1]), forward)).toEqual({});
    optimizer.dispose();
    policy.dispose();
  });
});

describe("repetition", () => {
  const said = (text: string, mask = text.replaceAll(/./g, "1")) => trajectoryOf({ ids: Array.from(text, (c) => c.charCodeAt(0)), mask });

  it("is six tokens in a row three times in one turn, overlapping or not", () => {
    expect(repeatsItself(said("abcdefabcdefabcdef"))).toBe(true);
    expect(repeatsItself(said("xabcdef1abcdef2abcdefy"))).toBe(true);
    expect(repeatsItself(said("aaaaaaaa"))).toBe(true);
    expect(repeatsItself(said("abcdefabcdef"))).toBe(false);
    expect(repeatsItself(said("aaaaaaa"))).toBe(false);
  });

  it("is none in documents, nor over several turns", () => {
    const turn = "abcdefg";
    expect(repeatsItself(said("abcdefabcdefabcdef", "0".repeat(18)))).toBe(false);
    expect(repeatsItself(said(`${turn}-${turn}-${turn}`, "11111110111111101111111"))).toBe(false);
  });
});
