import { describe, expect, it } from "vitest";
import { Decoder } from "../../../src/nn/decoder.ts";
import { ValueHead } from "../../../src/nn/value-head.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { scoreTrajectories } from "../../../src/rl/advantage.ts";
import { tokenValues, updateCritic, type CriticModel } from "../../../src/rl/critic.ts";
import type { Scored, Trajectory } from "../../../src/rl/trajectory.ts";
import { tokenLogProbs, update } from "../../../src/rl/update.ts";
import { valueFit, type TokenValues } from "../../../src/rl/value-targets.ts";
import type { Parameter, Tensor } from "../../../src/tensor/tensor.ts";
import { philox } from "../../../src/util/philox.ts";
import { testDevice, useDevice } from "../../helpers/device.ts";
import { liveTensors } from "../../helpers/live-tensors.ts";
import { tinyConfig, V } from "../generate/world.ts";
import { trajectoryOf } from "../../helpers/trajectories.ts";

const config = tinyConfig({ tie_word_embeddings: true });
const forward = { microBatchTokens: 10_000 };

/** Rollouts of two turns with a document between; ids are drawn. */
const drawn: Trajectory[] = Array.from({ length: 6 }, (_, i) => {
  const word = (n: number, m: number): number => philox([7, i], [n, 0, 0, 0])[0] % m;
  const mask = `${"0".repeat(3 + word(0, 5))}${"1".repeat(2 + word(1, 9))}${"0".repeat(4 + word(2, 20))}${"1".repeat(1 + word(3, 9))}`;
  return trajectoryOf({ ids: Array.from(mask, (_c, t) => word(10 + t, V)), mask, question: i >> 1, rollout: i & 1 });
});

describe("a critic", () => {
  const device = useDevice();

  /** A critic whose head is not zero, so that all of it has gradients. */
  async function setUp() {
    const decoder = Decoder.initialise(config, device(), 3);
    const head = new ValueHead(device(), config.width);
    const draw = (i: number): number => (philox([9, 9], [i, 0, 0, 0])[0] / 2 ** 32 - 0.5) * 0.4;
    head.weight.write(Float32Array.from({ length: config.width }, (_, i) => draw(i)));
    head.bias.write(Float32Array.of(0.3));
    const critic: CriticModel = { decoder, adapter: undefined, head };
    const parameters = new Map([...decoder.parameters(), ...head.parameters()]);
    const optimizer = new AdamW(decayGroups(parameters, 0), { maxGradNorm: 0 });
    const dispose = (): void => {
      optimizer.dispose();
      head.dispose();
      decoder.dispose();
    };
    return { critic, decoder, head, parameters, optimizer, dispose };
  }

  /** Rewards 1, 0, 1, 0, ... by gae against `values`. */
  const scoredBy = (values: TokenValues, rows: readonly Trajectory[] = drawn): Scored[] =>
    scoreTrajectories(
      rows,
      rows.map((_, i) => (i + 1) % 2),
      { estimator: "gae" },
      { values },
    );
  const gradients = (parameters: ReadonlyMap<string, Parameter>): Promise<Float32Array[]> =>
    Promise.all([...parameters.values()].map((one) => (one.grad as Tensor).readFloats()));
  const largest = (values: readonly Float32Array[]): number => Math.max(...values.flatMap((part) => [...part].map(Math.abs)));
  const apart = (a: readonly Float32Array[], b: readonly Float32Array[]): number =>
    largest(a.map((part, i) => part.map((value, n) => value - (b[i]?.[n] as number))));

  it("has a value of 0 for every token until its head has learnt", async () => {
    const { critic, head, dispose } = await setUp();
    head.weight.write(new Float32Array(config.width));
    head.bias.write(new Float32Array(1));
    for (const values of (await tokenValues(critic, drawn, forward)).values()) expect(values.every((value) => value === 0)).toBe(true);
    dispose();
  });

  it("values each token by what is before it: the same bits alone, in a batch, and whatever is after", async () => {
    const { critic, dispose } = await setUp();
    const whole = await tokenValues(critic, drawn, forward);
    const alone = await tokenValues(critic, drawn, { microBatchTokens: 1 });
    for (const trajectory of drawn) {
      const own = whole.get(trajectory)!;
      expect(alone.get(trajectory)).toEqual(own);
      trajectory.lossMask.forEach((mask, t) => expect(own[t] !== 0, `token ${t}`).toBe(mask === 1));
    }
    const [first] = drawn as [Trajectory];
    const last = first.ids.length - 1;
    const other = { ...first, ids: first.ids.map((id, t) => (t === last ? (id + 1) % V : id)) };
    // The value of the last token is that before it.
    expect((await tokenValues(critic, [other], forward)).get(other)).toEqual(whole.get(first));
    dispose();
  });

  it("values documents too where they are taken for actions, and the policy's tokens with the same bits", async () => {
    const { critic, dispose } = await setUp();
    const [own, every] = [await tokenValues(critic, drawn, forward), await tokenValues(critic, drawn, forward, true)];
    for (const trajectory of drawn) {
      const [a, b] = [own.get(trajectory)!, every.get(trajectory)!];
      const start = trajectory.lossMask.indexOf(1);
      trajectory.lossMask.forEach((mask, t) => {
        if (mask === 1) expect(b[t]).toBe(a[t]);
        else expect(b[t] !== 0).toBe(t > start);
      });
    }
    dispose();
  });

  it("has the gradients of its loss, by central differences", async () => {
    const { critic, head, decoder, parameters, optimizer, dispose } = await setUp();
    const values = await tokenValues(critic, drawn, forward);
    const batch = scoredBy(values);
    // All returns away from the values by more than the clip, so that no kink is near.
    const settings = { ...forward, values, clip: 0 };
    const before = await updateCritic(critic, optimizer, batch, settings, 0);
    const found = await gradients(parameters);
    const tokens = batch.flatMap(({ trajectory, returns }) =>
      trajectory.lossMask.flatMap((mask, t) => (mask === 1 ? [[values.get(trajectory)![t]!, returns![t]!] as const] : [])),
    );
    const loss = (pairs: readonly (readonly [number, number])[]): number =>
      pairs.reduce((sum, [value, target]) => sum + (value - target) ** 2 / 2, 0) / pairs.length;
    expect(before.loss).toBeCloseTo(loss(tokens), 5);
    const at = async (parameter: Parameter, n: number, h: number): Promise<number> => {
      const kept = await parameter.readFloats();
      const moved = kept.slice();
      moved[n] = moved[n]! + h;
      parameter.write(moved);
      const now = await tokenValues(critic, drawn, forward);
      parameter.write(kept);
      return loss(
        batch.flatMap(({ trajectory, returns }) =>
          trajectory.lossMask.flatMap((mask, t) => (mask === 1 ? [[now.get(trajectory)![t]!, returns![t]!] as const] : [])),
        ),
      );
    };
    const names = [...parameters.keys()];
    const h = 2e-3;
    for (const parameter of [
      head.weight,
      head.bias,
      decoder.parameters().get("model.norm.weight")!,
      decoder.parameters().get("model.layers.0.mlp.down_proj.weight")!,
    ])
      for (const n of [0, Math.floor(parameter.size / 2)]) {
        const slope = ((await at(parameter, n, h)) - (await at(parameter, n, -h))) / (2 * h);
        const own = found[names.indexOf(parameter.name)]![n]!;
        expect(Math.abs(own - slope), `${parameter.name} ${n}: ${own}, ${slope}`).toBeLessThan(2e-3 * largest(found));
      }
    dispose();
  });

  it("learns from a whole batch however it is cut, and NaN in values and returns of masked tokens changes no bit", async () => {
    const results: Float32Array[][] = [];
    for (const [microBatchTokens, fill] of [
      [10_000, 0],
      [10_000, NaN],
      [60, 0],
      [1, 0],
    ] as const) {
      const { critic, parameters, optimizer, dispose } = await setUp();
      const values = await tokenValues(critic, drawn, forward);
      const batch = scoredBy(values).map((row) => ({
        ...row,
        returns: Array.from(row.returns!, (value, t) => (row.trajectory.lossMask[t] === 1 ? value : fill)),
      }));
      for (const { trajectory } of batch)
        trajectory.lossMask.forEach((mask, t) => (mask === 1 ? null : (values.get(trajectory)![t] = fill)));
      await updateCritic(critic, optimizer, batch, { microBatchTokens, values, clip: 0.2 }, 1e-3);
      results.push(await gradients(parameters));
      dispose();
    }
    const [whole, filled, ...cut] = results as [Float32Array[], Float32Array[], ...Float32Array[][]];
    expect(filled).toEqual(whole);
    for (const part of cut) expect(apart(part, whole)).toBeLessThan(2e-6 * largest(whole));
  });

  it("comes to foretell returns, and says how well", async () => {
    const { critic, optimizer, dispose } = await setUp();
    const explained: number[] = [];
    // Software adapters take their time.
    const updates = testDevice === "webgpu" ? 30 : 60;
    for (let i = 0; i < updates; i++) {
      const values = await tokenValues(critic, drawn, forward);
      const batch = scoredBy(values);
      if (i % (updates - 1) === 0) explained.push(valueFit(batch, values)!.explainedVariance!);
      const stats = await updateCritic(critic, optimizer, batch, { ...forward, values, clip: 0 }, 1e-2);
      expect(stats.gradNorm).toBeGreaterThan(0);
    }
    expect(explained[0]).toBeLessThan(0.2);
    expect(explained[1]).toBeGreaterThan(updates === 60 ? 0.9 : 0.6);
    dispose();
  });

  it("frees what it used", async () => {
    const { critic, optimizer, dispose } = await setUp();
    const round = async (): Promise<void> => {
      const values = await tokenValues(critic, drawn, forward);
      await updateCritic(critic, optimizer, scoredBy(values), { microBatchTokens: 60, values, clip: 0.5 }, 1e-3);
    };
    await round();
    const held = liveTensors(device());
    await round();
    expect(liveTensors(device())).toEqual(held);
    dispose();
  });

  it("refuses rows without values or returns, by name", async () => {
    const { critic, optimizer, dispose } = await setUp();
    const values = await tokenValues(critic, drawn, forward);
    const [row] = scoredBy(values) as [Scored];
    const { trajectory, reward, advantage } = row;
    const wrong = (batch: readonly Scored[], known: TokenValues) =>
      updateCritic(critic, optimizer, batch, { ...forward, values: known, clip: 0 }, 1e-3);
    await expect(wrong([{ trajectory, reward, advantage }], values)).rejects.toThrow(
      "trajectory 1/0/0: the critic needs values and returns",
    );
    await expect(wrong([row], new Map())).rejects.toThrow("got no values");
    const returns = Array.from(row.returns!, () => NaN);
    await expect(wrong([{ ...row, returns }], values)).rejects.toThrow(/value or return of policy token \d+ is not finite/);
    expect(optimizer.step).toBe(0);
    dispose();
  });

  it("on the policy's weights has the gradients of both losses, and changes none of the policy's where its weight is 0", async () => {
    const settings = { ...forward, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 };
    const sum: Float32Array[][] = [];
    for (const kind of ["both", "policy", "critic", "none"] as const) {
      const { critic, decoder, head, parameters, optimizer, dispose } = await setUp();
      const logProbs = await tokenLogProbs(decoder, drawn, forward);
      const rows = drawn.map((trajectory) => {
        let i = 0;
        return { ...trajectory, logProbs: trajectory.lossMask.map((mask) => (mask === 1 ? logProbs.get(trajectory)![i++]! : NaN)) };
      });
      const values = await tokenValues(critic, rows, forward);
      const batch = scoredBy(values, rows);
      const shared = { head, values, clip: 0, coef: kind === "none" ? 0 : 0.5 };
      const stats =
        kind === "critic"
          ? await updateCritic(critic, optimizer, batch, { ...forward, values, clip: 0 }, 0)
          : await update(decoder, optimizer, batch, { ...settings, ...(kind === "policy" ? {} : { critic: shared }) }, 0);
      if (kind === "both") expect((stats as Awaited<ReturnType<typeof update>>).values!.loss).toBeGreaterThan(0);
      sum.push(
        await Promise.all([...parameters.values()].map(async (one) => (await one.grad?.readFloats()) ?? new Float32Array(one.size))),
      );
      dispose();
    }
    const [both, policy, critic, none] = sum as [Float32Array[], Float32Array[], Float32Array[], Float32Array[]];
    const expected = policy.map((part, i) => part.map((value, n) => value + 0.5 * (critic[i]?.[n] as number)));
    expect(apart(both, expected)).toBeLessThan(2e-6 * largest(both));
    expect(largest(critic)).toBeGreaterThan(0.01 * largest(both));
    expect(apart(none, policy)).toBe(0);
  });
});
