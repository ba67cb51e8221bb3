/** Faults of the released code in an update: the sign of KL, and documents in the loss of a critic. The others are in test/unit/compat.test.ts. */
import { describe, expect, it } from "vitest";
import { readOverride, resolveConfig, type Config } from "../../../src/config/index.ts";
import { Decoder } from "../../../src/nn/decoder.ts";
import { ValueHead } from "../../../src/nn/value-head.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { updateCritic } from "../../../src/rl/critic.ts";
import { klEstimate } from "../../../src/rl/kl.ts";
import type { TokenLogProbs } from "../../../src/rl/packing.ts";
import type { Scored, Trajectory } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs, update } from "../../../src/rl/update.ts";
import { lossSettings, lossWeights } from "../../../src/run/algorithm.ts";
import { mean } from "../../../src/util/stats.ts";
import { useDevice } from "../../helpers/device.ts";
import { tinyConfigs } from "../../helpers/tiny-model.ts";
import { scoredOf } from "../../helpers/trajectories.ts";

const config = tinyConfigs.qwen2;
const forward = { microBatchTokens: 1000 };
const configOf = (...settings: string[]): Config =>
  resolveConfig(["model.policy=p", "simulator.path=s", "data.train=t", ...settings].map(readOverride));

describe("compat.klSign", () => {
  const device = useDevice();

  /** Mean k3 to the reference before and after one step on the KL term alone: all advantages are 0, and there is no entropy bonus. */
  async function step(...settings: string[]): Promise<readonly [number, number]> {
    const policy = Decoder.initialise(config, device(), 3),
      reference = Decoder.initialise(config, device(), 4);
    for (const model of [policy, reference])
      for (const parameter of model.parameters().values())
        if (parameter.shape.length > 1) parameter.write((await parameter.readFloats()).map((x) => 8 * x));
    const optimizer = new AdamW(decayGroups(policy.parameters(), 0));
    const rows: Scored[] = [
      scoredOf({ ids: [5, 6, 7, 8, 2], mask: "01011" }, 0),
      scoredOf({ ids: [9, 3, 4, 1, 2, 11], mask: "001111", rollout: 1 }, 0),
    ];
    const trajectories = rows.map(({ trajectory }) => trajectory);
    const known = await tokenLogProbs(reference, trajectories, forward);
    const k3 = (own: TokenLogProbs): number =>
      mean(trajectories.flatMap((one) => [...own.get(one)!].map((value, i) => klEstimate(value, known.get(one)![i]!, "k3"))));
    const before = k3(await tokenLogProbs(policy, trajectories, forward));
    const loss = lossSettings(configOf("algorithm.klCoef=1", "algorithm.entropyCoef=0", ...settings));
    await update(policy, optimizer, rows, { ...forward, ...loss }, 1e-4, known);
    const after = k3(await tokenLogProbs(policy, trajectories, forward));
    for (const one of [optimizer, policy, reference]) one.dispose();
    return [before, after];
  }

  it("moves the policy away from the reference; without it, towards it", async () => {
    const [[start, away], [same, towards]] = [await step("compat.klSign=true"), await step()];
    expect(start).toBe(same);
    expect(start).toBeGreaterThan(0.01);
    expect(away).toBeGreaterThan(1.01 * start);
    expect(towards).toBeLessThan(0.99 * start);
  });
});

describe("compat.documentsAsActions", () => {
  const device = useDevice();

  // Two tokens, a document of two, two tokens; what stands outside of them is never read.
  const batch: Scored[] = [
    { ...scoredOf({ ids: [9, 1, 2, 3, 4, 5, 6, 7], mask: "01100110" }, 0), returns: [NaN, 1, 1, 3, 3, 1, 1, NaN] },
    { ...scoredOf({ ids: [9, 1, 2], mask: "001", rollout: 1 }, 0), returns: [NaN, NaN, 2] },
  ];
  const values = new Map<Trajectory, Float64Array>(batch.map(({ trajectory }) => [trajectory, new Float64Array(trajectory.ids.length)]));

  /** The loss of a critic whose values are all 0, and the gradient of its bias: minus the mean return. */
  async function learn(given: readonly Scored[], ...settings: string[]) {
    const of = configOf("algorithm.name=ppo", ...settings);
    const critic = { decoder: Decoder.initialise(config, device(), 3), adapter: undefined, head: new ValueHead(device(), config.width) };
    const optimizer = new AdamW(decayGroups(new Map([...critic.decoder.parameters(), ...critic.head.parameters()]), 0), { maxGradNorm: 0 });
    const { documentsAsActions } = of.compat;
    const { loss } = await updateCritic(
      critic,
      optimizer,
      given,
      { ...forward, values, clip: 0.5, lossWeights: lossWeights(of), documentsAsActions },
      0,
    );
    const [bias] = await critic.head.bias.grad!.readFloats();
    for (const one of [optimizer, critic.decoder, critic.head]) one.dispose();
    return { loss, bias };
  }

  it("makes a critic learn the values of documents; without it, those of the policy's tokens alone", async () => {
    // Squares of returns over 2: (4 x 1 + 2 x 9 + 4) / 7 / 2, and (4 x 1 + 4) / 5 / 2.
    const [on, off] = [await learn(batch, "compat.documentsAsActions=true"), await learn(batch)];
    expect(on.loss).toBeCloseTo(26 / 14, 5);
    expect(on.bias).toBeCloseTo(-12 / 7, 5);
    expect(off.loss).toBeCloseTo(8 / 10, 5);
    expect(off.bias).toBeCloseTo(-6 / 5, 5);
  });

  it("without it never reads what stands at a document", async () => {
    const hidden = batch.map((row) => ({
      ...row,
      returns: [...(row.returns as number[])].map((x, t) => (row.trajectory.lossMask[t] === 1 ? x : NaN)),
    }));
    expect(await learn(hidden)).toEqual(await learn(batch));
  });
});
