/** Loss weights and the loss mask in the update and its kernel. */
import { describe, expect, it } from "vitest";
import { Decoder } from "../../../src/nn/decoder.ts";
import { policyLoss } from "../../../src/ops/policy-loss.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { constantLength, sequenceMeanTokenMean, sequenceMeanTokenSum, tokenMean, type LossWeights } from "../../../src/rl/loss-weights.ts";
import { packMicroBatch, type MicroBatch } from "../../../src/rl/packing.ts";
import type { Scored } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs, update } from "../../../src/rl/update.ts";
import { backward } from "../../../src/tensor/backward.ts";
import { withTape } from "../../../src/tensor/tape.ts";
import { fromHost, type Tensor } from "../../../src/tensor/tensor.ts";
import { useDevice } from "../../helpers/device.ts";
import { tinyConfigs } from "../../helpers/tiny-model.ts";
import { scoredOf } from "../../helpers/trajectories.ts";

const config = tinyConfigs.qwen2;
const settings = { microBatchTokens: 1000, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 };
/** At ratio 1 a token's loss is minus its advantage: [1, 2] and [3, 3, 3, 3]; whatever stands at masked tokens. */
const batch: Scored[] = [
  scoredOf({ ids: [5, 6, 7, 8], mask: "0101" }, [NaN, -1, NaN, -2]),
  scoredOf({ ids: [9, 3, 4, 1, 2, 11], mask: "001111", rollout: 1 }, -3),
];

describe("an update", () => {
  const device = useDevice();

  /** One update, in which the policy has just sampled the batch. */
  async function run(lossWeights: LossWeights | undefined, microBatchTokens: number) {
    const policy = Decoder.initialise(config, device(), 3);
    const optimizer = new AdamW(decayGroups(policy.parameters(), 0));
    const forward = { ...settings, microBatchTokens };
    const trajectories = batch.map(({ trajectory }) => trajectory);
    const values = await tokenLogProbs(policy, trajectories, forward);
    const rows = batch.map((row) => {
      const own = [...(values.get(row.trajectory) as Float32Array)];
      return { ...row, trajectory: { ...row.trajectory, logProbs: row.trajectory.lossMask.map((m) => (m === 1 ? own.shift()! : NaN)) } };
    });
    const stats = await update(policy, optimizer, rows, { ...forward, ...(lossWeights && { lossWeights }) }, 1e-3);
    const gradients = await Promise.all([...policy.parameters().values()].map((one) => (one.grad as Tensor).readFloats()));
    optimizer.dispose();
    policy.dispose();
    return { stats, gradients };
  }

  it.each<[string, LossWeights, number]>([
    ["token mean", tokenMean, 2.5],
    ["mean over sequences of the token sum", sequenceMeanTokenSum, 7.5],
    ["mean over sequences of the token mean", sequenceMeanTokenMean, 2.25],
    ["sum over a constant length", constantLength(4), 1.875],
  ])("by %s has the golden loss, and its gradients, in one micro-batch as in two", async (_, weights, golden) => {
    const [whole, cut] = [await run(weights, 1000), await run(weights, 1)];
    expect([whole.stats.microBatches, cut.stats.microBatches]).toEqual([1, 2]);
    expect(whole.stats.loss).toBeCloseTo(golden, 5);
    expect(cut.stats.loss).toBeCloseTo(golden, 5);
    expect(cut.stats.gradNorm / whole.stats.gradNorm).toBeCloseTo(1, 5);
    const largest = Math.max(...whole.gradients.flatMap((values) => [...values].map(Math.abs)));
    for (const [i, values] of whole.gradients.entries())
      values.forEach((value, n) => expect(Math.abs(value - cut.gradients[i]![n]!)).toBeLessThan(2e-6 * largest));
  });

  it("takes the token mean unless told", async () => {
    expect(await run(undefined, 1000)).toEqual(await run(tokenMean, 1000));
  });
});

describe("the loss mask", () => {
  const device = useDevice();

  /** The micro-batch with the masked tokens gathered too: NaN wherever it may be, and of weight 0. */
  function withMasked(micro: MicroBatch): MicroBatch {
    const rows = Uint32Array.from(micro.sequences.flat(), (_, row) => row);
    const of = (values: Float32Array, masked: number) => Float32Array.from(rows, (row) => values[micro.rows.indexOf(row)] ?? masked);
    const { oldLogProb, advantage, weight } = micro;
    return { ...micro, rows, oldLogProb: of(oldLogProb, NaN), advantage: of(advantage, NaN), weight: of(weight, 0) };
  }

  /** Statistics, and the gradient of each gathered token's log-probability by its packed row. */
  async function loss(micro: MicroBatch) {
    const vector = (values: ArrayLike<number>): Tensor => fromHost(device(), Float32Array.from(values), [values.length]);
    const logProb = vector([...micro.rows].map((row) => -1 - row / 16));
    logProb.requiresGrad = true;
    const others = {
      entropy: vector([...micro.rows].map((row) => row / 8)),
      oldLogProb: vector(micro.oldLogProb),
      advantage: vector(micro.advantage),
      weight: vector(micro.weight),
    };
    const { tape, value } = withTape(() =>
      policyLoss({ logProb, ...others }, { clipLow: 0.2, clipHigh: 0.2, entropyCoef: 0.1, scale: 0.5 }),
    );
    backward(tape, value);
    const stats = await value.readFloats();
    const slopes = await logProb.grad!.readFloats();
    for (const tensor of [logProb, ...Object.values(others), value]) tensor.dispose();
    return { stats, slopes: new Map([...micro.rows].map((row, m) => [row, slopes[m]])) };
  }

  it("is in the kernel's weights: where masked tokens are gathered too, NaN and all, loss and gradients stay to the bit", async () => {
    const micro = packMicroBatch(batch);
    const sampled = await loss(micro);
    const all = await loss(withMasked(micro));
    expect([sampled.slopes.size, all.slopes.size]).toEqual([6, 8]);
    expect(all.stats).toEqual(sampled.stats);
    for (const [row, slope] of all.slopes) expect(slope).toBe(sampled.slopes.get(row) ?? 0);
    expect([...all.stats].every(Number.isFinite)).toBe(true);
  });
});
