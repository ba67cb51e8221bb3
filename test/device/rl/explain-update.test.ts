/** What is said of an update that was refused: hand-made cases of each cause, and that weights and moments keep their bits. */
import { describe, expect, it } from "vitest";
import { Decoder } from "../../../src/nn/decoder.ts";
import { ValueHead } from "../../../src/nn/value-head.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { tokenValues, updateCritic, type CriticModel } from "../../../src/rl/critic.ts";
import { explainCriticUpdate, explainUpdate } from "../../../src/rl/explain-update.ts";
import type { TokenLogProbs } from "../../../src/rl/packing.ts";
import type { RefusedUpdate } from "../../../src/rl/refused-update.ts";
import type { Scored, Trajectory } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs, update, type UpdateSettings } from "../../../src/rl/update.ts";
import type { Parameter } from "../../../src/tensor/tensor.ts";
import { useDevice } from "../../helpers/device.ts";
import { liveTensors } from "../../helpers/live-tensors.ts";
import { trajectoryOf } from "../../helpers/trajectories.ts";
import { tinyConfig, V } from "../generate/world.ts";

const config = tinyConfig({ tie_word_embeddings: false });
const settings: UpdateSettings = { microBatchTokens: 16, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 };
/** Of the document in rollout 1/1/0, and nowhere else. */
const rare = V - 1;
const mask = "000110011";
const ids = (first: number): number[] => Array.from(mask, (_, t) => (first + 3 * t) % (V - 1));
const rollouts: Trajectory[] = [0, 1, 2, 3].map((i) =>
  trajectoryOf({
    ids: ids(i).map((id, t) => (i === 2 && t === 5 ? rare : id)),
    mask,
    question: i >> 1,
    rollout: i & 1,
  }),
);
const decode = (some: readonly number[]): string => some.map((id) => `<${id}>`).join("");
const key = (i: number) => rollouts[i]!.key;

describe("explaining a refused update", () => {
  const device = useDevice();

  async function setUp() {
    const policy = Decoder.initialise(config, device(), 3);
    const optimizer = new AdamW(decayGroups(policy.parameters(), 0), { maxGradNorm: 1 });
    const known = await tokenLogProbs(policy, rollouts, settings);
    const batch = rollouts.map((trajectory, i): Scored => {
      let at = 0;
      const logProbs = trajectory.lossMask.map((one) => (one === 1 ? known.get(trajectory)![at++]! : 0));
      return { trajectory: { ...trajectory, logProbs }, reward: i & 1, advantage: i & 1 ? 1 : -1 };
    });
    const reference = (of: (i: number, n: number) => number): TokenLogProbs =>
      new Map(batch.map(({ trajectory }, i) => [trajectory, Float32Array.from([0, 1, 2, 3], (n) => of(i, n))]));
    // Moments that are not zero.
    expect((await update(policy, optimizer, batch, settings, 1e-4)).gradNorm).toBeGreaterThan(0);
    const bits = async (): Promise<Float32Array[]> =>
      Promise.all([...policy.parameters().values(), ...optimizer.stateTensors().values()].map((tensor) => tensor.readFloats()));
    /** Refuses an update and explains it; nothing has moved, and nothing is left on the device. */
    const refuse = async (given: Partial<UpdateSettings>, known: TokenLogProbs | null = null, rows = batch): Promise<RefusedUpdate> => {
      const before = await bits();
      const all = { ...settings, ...given };
      const stats = await update(policy, optimizer, rows, all, 1e-3, known);
      expect(stats.gradNorm).toBeNaN();
      const live = liveTensors(device());
      const found = await explainUpdate(policy, rows, all, known, { decode, lossScale: stats.lossScale });
      expect(liveTensors(device())).toEqual(live);
      expect(await bits()).toEqual(before);
      return found;
    };
    const dispose = (): void => {
      optimizer.dispose();
      policy.dispose();
    };
    return { policy, optimizer, batch, reference, refuse, dispose };
  }

  const write = async (parameter: Parameter, change: (values: Float32Array) => void): Promise<void> => {
    const values = await parameter.readFloats();
    change(values);
    parameter.write(values);
  };

  it("names a weight that was not finite before it, the rollout that meets it, and the first token after", async () => {
    const { policy, refuse, dispose } = await setUp();
    const width = config.width;
    await write(policy.parameters().get("model.embed_tokens.weight")!, (values) => values.fill(NaN, rare * width, (rare + 1) * width));
    const found = await refuse({});
    expect(found.cause).toBe("weights");
    expect(found.weights).toEqual({
      shown: [
        {
          name: "model.embed_tokens.weight",
          shape: [V, width],
          notFinite: width,
          first: rare * width,
          at: [rare, 0],
          value: NaN,
        },
      ],
      more: 0,
    });
    // The tokens before the document are fine; those after it are not, and no other rollout has it.
    expect(found.tokens.shown.map(({ rollout, position }) => [rollout, position])).toEqual([
      [key(2), 7],
      [key(2), 8],
    ]);
    const [token] = found.tokens.shown;
    expect(token).toMatchObject({
      id: rollouts[2]!.ids[7],
      text: decode([rollouts[2]!.ids[7]!]),
      after: decode(rollouts[2]!.ids.slice(8)),
    });
    expect(token!.notFinite).toEqual(expect.arrayContaining(["logProb", "entropy", "ratio", "logProbGradient"]));
    expect(found.rollouts.shown).toMatchObject([{ rollout: key(2), tokens: 4, tokensNotFinite: 2, text: decode(rollouts[2]!.ids) }]);
    expect(found.summary).toContain(`token 7 (${JSON.stringify(token!.text)}) of rollout 1/1/0`);
    // Two rollouts of 8 forward tokens each stand in a micro-batch of 16.
    expect(found.microBatches.shown.map(({ rollouts: count, loss }) => [count, Number.isFinite(loss)])).toEqual([
      [2, true],
      [2, false],
    ]);
    dispose();
  });

  it("says that the forward overflowed where all weights are finite, and whether before the head", async () => {
    const { policy, refuse, dispose } = await setUp();
    await write(policy.parameters().get("lm_head.weight")!, (values) => values.fill(3e38, 0, config.width));
    const found = await refuse({});
    expect(found.cause).toBe("forward");
    expect(found.weights.shown).toEqual([]);
    expect(found.summary).toMatch(
      /^the log-probability of token 3 .* of rollout 1\/0\/0 is (NaN|-Infinity): .*overflowed, after the hidden state/,
    );
    dispose();
  });

  it("names a number that the loss was given, where it passes on: a reference of NaN does, one of -Infinity only with k2", async () => {
    const { reference, batch, policy, optimizer, refuse, dispose } = await setUp();
    const nan = await refuse(
      { klCoef: 0.1 },
      reference((i, n) => (i === 3 && n === 1 ? NaN : -4)),
    );
    expect(nan.cause).toBe("given");
    expect(nan.tokens.shown).toMatchObject([
      { rollout: key(3), position: 4, numbers: { referenceLogProb: NaN }, notFinite: expect.any(Array) },
    ]);
    expect(nan.summary).toContain("the log-probability under the reference policy of token 4");
    const infinite = reference((i, n) => (i === 0 && n === 2 ? -Infinity : -4));
    const k2 = await refuse({ klCoef: 0.1, klEstimator: "k2" }, infinite);
    expect(k2).toMatchObject({ cause: "given", tokens: { shown: [{ rollout: key(0), position: 7 }] } });
    const fine = await update(policy, optimizer, batch, { ...settings, klCoef: 0.1 }, 1e-4, infinite);
    expect(fine.gradNorm).toBeGreaterThan(0);
    dispose();
  });

  it("names an advantage that is a number in f64 and none in f32", async () => {
    const { batch, refuse, dispose } = await setUp();
    const found = await refuse(
      {},
      null,
      batch.map((row, i) => (i === 1 ? { ...row, advantage: 1e39 } : row)),
    );
    expect(found).toMatchObject({ cause: "given", tokens: { shown: Array.from({ length: 4 }, () => ({ rollout: key(1) })), more: 0 } });
    expect(found.summary).toContain("the advantage of token 3");
    dispose();
  });

  it("names the token whose loss overflows, though all that went into it is finite", async () => {
    const { batch, reference, refuse, dispose } = await setUp();
    const sampled = batch.map(({ trajectory: { lossMask, logProbs } }) => logProbs.filter((_, t) => lossMask[t] === 1));
    // The slope of k3 is 1 - e^(reference - log-probability): far below 0 for one token here, and times 1e37 none in f32; near 0 for the others.
    const near = await refuse(
      { klCoef: 1e37 },
      reference((i, n) => (i === 2 && n === 3 ? 12 : sampled[i]![n]!)),
    );
    expect(near.cause).toBe("loss");
    expect(near.summary).toMatch(/^the gradient of the loss by its log-probability of token 8 .* of rollout 1\/1\/0 is -Infinity/);
    expect(near.tokens.shown[0]).toMatchObject({ rollout: key(2), position: 8, numbers: { referenceLogProb: 12 } });
    expect(near.rollouts.shown[0]?.text).toBe(decode(rollouts[2]!.ids));
    dispose();
  });

  it("says that only gradients overflow, which came first on the way back, and which rollout alone gives them", async () => {
    const { policy, batch, refuse, dispose } = await setUp();
    // The hidden states become 1e-30 times as large at the last norm, and the head takes that back: the gradient of the norm's weight is 1e30 larger.
    await write(policy.parameters().get("model.norm.weight")!, (values) => values.fill(1e-30));
    await write(policy.parameters().get("lm_head.weight")!, (values) => values.forEach((value, i) => (values[i] = value * 1e30)));
    const found = await refuse(
      {},
      null,
      batch.map((row, i) => ({ ...row, advantage: i === 1 ? 1e12 : 1e-6 })),
    );
    expect(found.cause).toBe("gradients");
    expect(found.gradients.shown[0]?.name).toBe("model.norm.weight");
    expect(found.summary).toContain("rollout 1/0/1 gives it alone");
    expect(found.tokens.shown).toMatchObject([{ rollout: key(1), notFinite: [] }]);
    dispose();
  });

  it("says that only the norm overflows, which gradients are largest, and where the loss is steepest", async () => {
    const { batch, refuse, dispose } = await setUp();
    const found = await refuse(
      {},
      null,
      batch.map((row, i) => (i === 3 ? { ...row, advantage: Float64Array.from(mask, (_, t) => (t === 7 ? 1e25 : 1)) } : row)),
    );
    expect(found.cause).toBe("norm");
    expect(found.gradients.shown).toEqual([]);
    expect(found.norm).toBeGreaterThan(1e20);
    expect(found.largest[0]!.norm).toBeGreaterThan(1e20);
    expect(found.tokens.shown[0]).toMatchObject({ rollout: key(3), position: 7, notFinite: [] });
    expect(found.summary).toContain("the loss is steepest at token 7");
    dispose();
  });

  it("bounds what it lists, and counts the rest", async () => {
    const { policy, optimizer, dispose } = await setUp();
    await write(policy.parameters().get("model.norm.weight")!, (values) => values.fill(NaN));
    const long = `000${"1".repeat(50)}`;
    const many = Array.from({ length: 80 }, (_, i): Scored => {
      const trajectory = trajectoryOf({ ids: Array.from(long, (_c, t) => t % V), mask: long, question: i });
      return { trajectory, reward: 0, advantage: 1 };
    });
    expect((await update(policy, optimizer, many, settings, 1e-3)).gradNorm).toBeNaN();
    const found = await explainUpdate(policy, many, settings, null, { decode });
    expect([found.tokens.shown.length, found.tokens.more]).toEqual([200, 80 * 50 - 200]);
    expect([found.rollouts.shown.length, found.rollouts.more]).toEqual([64, 16]);
    expect(found.rollouts.shown.filter(({ text }) => text !== null)).toHaveLength(8);
    dispose();
  });

  it("knows adapters, and the head of a critic that shares the weights", async () => {
    const { policy, batch, dispose } = await setUp();
    policy.setTrainable(false);
    for (const parameter of policy.parameters().values()) parameter.grad = null;
    const pairs = policy.addAdapter("lora", { rank: 2, alpha: 4, seed: 1 });
    const head = new ValueHead(device(), config.width);
    const optimizer = new AdamW(decayGroups(new Map([...pairs, ...head.parameters()]), 0));
    const values = new Map(batch.map(({ trajectory }) => [trajectory, new Float64Array(mask.length)]));
    const rows = batch.map((row, i) => ({ ...row, returns: Float64Array.from(mask, (_, t) => (i === 1 && t === 4 ? 3e38 : 0)) }));
    const given = { ...settings, adapter: "lora", critic: { head, values, clip: 0, coef: 1e9 } };
    expect((await update(policy, optimizer, rows, given, 1e-3)).gradNorm).toBeNaN();
    const found = await explainUpdate(policy, rows, given, null, { decode });
    expect(found.cause).toBe("loss");
    expect(found.summary).toContain("the gradient of the loss by its value of token 4");
    expect(found.tokens.shown).toMatchObject([{ rollout: key(1), position: 4, numbers: { value: 0, oldValue: 0 } }]);
    expect(found.gradients.shown.map(({ name }) => name)).toContain("score.bias");
    await write([...pairs.values()][0]!, (numbers) => (numbers[3] = Infinity));
    expect((await update(policy, optimizer, rows, given, 1e-3)).gradNorm).toBeNaN();
    expect((await explainUpdate(policy, rows, given)).weights.shown).toMatchObject([
      { name: [...pairs.keys()][0], notFinite: 1, first: 3 },
    ]);
    optimizer.dispose();
    head.dispose();
    dispose();
  });

  it("explains a critic's update in the same words, whose weights and moments stay as they were", async () => {
    const { policy: decoder, batch, dispose } = await setUp();
    const head = new ValueHead(device(), config.width);
    const critic: CriticModel = { decoder, adapter: undefined, head };
    const optimizer = new AdamW(decayGroups(new Map([...decoder.parameters(), ...head.parameters()]), 0));
    const trajectories = batch.map(({ trajectory }) => trajectory);
    const values = await tokenValues(critic, trajectories, settings);
    const rows = (wrong: number): Scored[] =>
      batch.map((row, i) => ({ ...row, returns: Float64Array.from(mask, (_, t) => (i === 2 && t === 3 ? wrong : 0.5)) }));
    const given = { microBatchTokens: 16, values, clip: 0.2 };
    expect((await updateCritic(critic, optimizer, rows(1), given, 1e-3)).gradNorm).toBeGreaterThan(0);
    const bits = async (): Promise<Float32Array[]> =>
      Promise.all([...decoder.parameters().values(), ...optimizer.stateTensors().values()].map((tensor) => tensor.readFloats()));
    const before = await bits();
    const stats = await updateCritic(critic, optimizer, rows(1e39), given, 1e-3);
    expect(stats.gradNorm).toBeNaN();
    const found = await explainCriticUpdate(critic, rows(1e39), given, { decode, lossScale: stats.lossScale });
    expect(found).toMatchObject({ cause: "given", tokens: { shown: [{ rollout: key(2), position: 3 }] } });
    expect(found.summary).toContain("the return of token 3");
    expect(await bits()).toEqual(before);
    await write(head.weight, (numbers) => (numbers[1] = NaN));
    expect((await updateCritic(critic, optimizer, rows(1), given, 1e-3)).gradNorm).toBeNaN();
    const damaged = await explainCriticUpdate(critic, rows(1), given);
    expect(damaged).toMatchObject({ cause: "weights", weights: { shown: [{ name: "score.weight", at: [0, 1] }] } });
    optimizer.dispose();
    head.dispose();
    dispose();
  });
});
