/** One copy of weights under several LoRA adapters: each role gets its own, and what is sampled is what is trained. */
import { afterEach, describe, expect, it } from "vitest";
import { BatchGenerator, type GeneratorModel } from "../../../src/generate/scheduler.ts";
import type { Generated, TrajectoryKey } from "../../../src/generate/types.ts";
import { Decoder } from "../../../src/nn/decoder.ts";
import { linearNames } from "../../../src/nn/block.ts";
import { writeNormal } from "../../../src/nn/initialise.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import type { Scored, Trajectory } from "../../../src/rl/trajectory.ts";
import type { ForwardSettings } from "../../../src/rl/forward.ts";
import { tokenLogProbs, update } from "../../../src/rl/update.ts";
import type { UpdateStats } from "../../../src/rl/update-stats.ts";
import { streamKey } from "../../../src/util/philox.ts";
import { testDevice, useDevice } from "../../helpers/device.ts";
import { trajectoryOf } from "../../helpers/trajectories.ts";
import { endless, idsOf, plain, tinyConfig, V } from "../generate/world.ts";
import { liveTensors } from "../../helpers/live-tensors.ts";

const config = tinyConfig({ tie_word_embeddings: true });
/** Of the frozen weights. Software adapters take their time: one type there. */
const dtypes = testDevice === "webgpu" ? (["bf16"] as const) : (["f32", "f16", "bf16"] as const);
/** Rank and seed of each role's adapter. */
const adapters = { policy: [4, 1], simulator: [2, 2], reference: [3, 3] } as const;
type Role = keyof typeof adapters;
/** 150 tokens: two whole blocks of the cache and part of a third, which all rollouts have in common. */
const prompt = idsOf(5, 150);
const rollouts = 6;

describe("LoRA on one copy of the weights", () => {
  const device = useDevice();
  const opened: { dispose(): unknown }[] = [];
  const closing = <T extends { dispose(): unknown }>(thing: T): T => {
    opened.push(thing);
    return thing;
  };
  afterEach(async () => {
    for (const thing of opened.splice(0).reverse()) await thing.dispose();
    expect(liveTensors(device()).tensors).toBe(0);
  });

  function base(dtype: "f32" | "f16" | "bf16" = "f32"): Decoder {
    const decoder = closing(Decoder.initialise(config, device(), 1, { dtype }));
    decoder.setTrainable(false);
    return decoder;
  }

  /** Random pairs, large enough that nobody takes one adapter for another. */
  function adapt(decoder: Decoder, role: Role, name: string = role): void {
    const [rank, seed] = adapters[role];
    const added = decoder.addAdapter(name, { rank, alpha: 2 * rank, seed, trainable: role === "policy" });
    let index = 0;
    for (const parameter of added.values()) writeNormal(parameter, streamKey(seed, "initialise"), index++, 0.15);
  }

  const generatorOf = (models: Record<string, GeneratorModel>): BatchGenerator => closing(new BatchGenerator({ device: device(), models }));

  interface Sampled {
    readonly prompt: readonly number[];
    readonly generated: Generated;
    readonly key: TrajectoryKey;
  }

  async function sample(
    generator: BatchGenerator,
    model: string,
    adapter: string | undefined,
    step: number,
    count = rollouts,
  ): Promise<Sampled[]> {
    return Promise.all(
      Array.from({ length: count }, async (_, rollout) => {
        const key = { step, question: 0, rollout };
        const own = [...prompt, ...idsOf(100 + rollout, rollout)];
        const sequence = generator.open({ model, adapter, key, seed: 7, purpose: "policySample", prompt: own });
        try {
          return { prompt: own, key, generated: await sequence.generate({ stop: endless, maxNewTokens: 40, sampling: plain }) };
        } finally {
          sequence.close();
        }
      }),
    );
  }

  const trajectories = (sampled: readonly Sampled[]): Trajectory[] =>
    sampled.map(({ prompt: given, generated: { ids, logProbs }, key }) =>
      trajectoryOf({
        ids: [...given, ...ids],
        mask: "0".repeat(given.length) + "1".repeat(ids.length),
        logProbs: [...given.map(() => 0), ...logProbs],
        step: key.step,
        rollout: key.rollout,
      }),
    );
  const settings: ForwardSettings = { microBatchTokens: 500 };

  /** Largest |recorded - recomputed under `adapter`|. */
  async function mismatch(decoder: Decoder, rows: readonly Trajectory[], adapter: string | undefined): Promise<number> {
    const recomputed = await tokenLogProbs(decoder, rows, { ...settings, adapter });
    return Math.max(
      ...rows.flatMap((row) => {
        const recorded = row.logProbs.filter((_, t) => row.lossMask[t] === 1);
        return recorded.map((value, i) => Math.abs(value - recomputed.get(row)![i]!));
      }),
    );
  }

  describe.each(dtypes)("of %s", (dtype) => {
    it("gives policy, simulator and reference each its own, at once, with the bits of a model that has that adapter alone", async () => {
      const before = liveTensors(device()).bytes;
      const shared = base(dtype);
      const weights = liveTensors(device()).bytes - before;
      for (const role of Object.keys(adapters) as Role[]) adapt(shared, role);
      // r (in + out) floats for each linear layer: all that three roles need besides one copy of the weights
      const pairs =
        2 * linearNames.reduce((sum, name) => sum + [...shared.blocks[0]!.linears.get(name)!.weight.shape].reduce((a, b) => a + b), 0);
      expect(liveTensors(device()).bytes - before).toBe(weights + 4 * (4 + 2 + 3) * pairs);

      const generator = generatorOf({ policy: { decoder: shared }, simulator: { decoder: shared, frozen: true } });
      const [policy, simulator] = await Promise.all([
        sample(generator, "policy", "policy", 1),
        sample(generator, "simulator", "simulator", 1),
      ]);
      const reference = await tokenLogProbs(shared, trajectories(policy), { ...settings, adapter: "reference" });
      const plainReference = await tokenLogProbs(shared, trajectories(policy), settings);

      for (const [role, together] of [
        ["policy", policy],
        ["simulator", simulator],
      ] as const) {
        const alone = base(dtype);
        adapt(alone, role, "only");
        expect(await sample(generatorOf({ only: { decoder: alone } }), "only", "only", 1)).toEqual(together);
        expect(await sample(generatorOf({ none: { decoder: alone } }), "none", undefined, 1)).not.toEqual(together);
      }
      const alone = base(dtype);
      expect([...(await tokenLogProbs(alone, trajectories(policy), settings)).values()]).toEqual([...plainReference.values()]);
      adapt(alone, "reference", "only");
      const expected = await tokenLogProbs(alone, trajectories(policy), { ...settings, adapter: "only" });
      expect([...reference.values()]).toEqual([...expected.values()]);
      expect([...reference.values()]).not.toEqual([...plainReference.values()]);
      expect(await mismatch(shared, trajectories(policy), "policy")).toBe(0);
      expect(await mismatch(shared, trajectories(simulator), "simulator")).toBe(0);
    });

    it("samples with the adapter as the last update left it, prompts that were cached under the one before included", async () => {
      const decoder = base(dtype);
      adapt(decoder, "policy");
      const weights = await Promise.all([...decoder.parameters().values()].map((parameter) => parameter.read()));
      const generator = generatorOf({ policy: { decoder }, simulator: { decoder, frozen: true } });
      const optimizer = closing(new AdamW(decayGroups(decoder.adapterParameters("policy"), 0)));
      for (let step = 1; step <= 2; step++) {
        const simulated = await sample(generator, "simulator", undefined, 1);
        const rows = trajectories(await sample(generator, "policy", "policy", step));
        expect(generator.takeCounts().get("policy")!.sharedTokens).toBeGreaterThanOrEqual((rollouts - 1) * 128);
        expect(await mismatch(decoder, rows, "policy")).toBe(0);

        const old = `before update ${step}`;
        const [rank] = adapters.policy;
        const kept = decoder.addAdapter(old, { rank, alpha: 2 * rank, seed: 0, trainable: false });
        for (const [name, parameter] of decoder.adapterParameters("policy")) kept.get(name)!.write(await parameter.readFloats());
        const stats = await learn(decoder, optimizer, rows, "policy");
        expect(stats).toMatchObject({ logProbDifferenceMax: 0, ratioMax: 1 });

        const next = trajectories(await sample(generator, "policy", "policy", step));
        expect(await mismatch(decoder, next, "policy")).toBe(0);
        expect(await mismatch(decoder, next, old)).toBeGreaterThan(1e-3);
        // the simulator keeps its prompts and its tokens: what it computes with has not changed
        expect(await sample(generator, "simulator", undefined, 1)).toEqual(simulated);
        expect(generator.takeCounts().get("simulator")!.prefillTokens).toBeLessThan(rollouts * 30);
      }
      const after = await Promise.all([...decoder.parameters().values()].map((parameter) => parameter.read()));
      expect(after).toEqual(weights);
      for (const parameter of decoder.parameters().values()) expect(parameter.grad).toBeNull();
    });
  });

  it("would be caught by the mismatch if a stale prompt, or no adapter, had sampled", async () => {
    const decoder = base();
    adapt(decoder, "policy");
    // Wrong on purpose: a policy that is said never to change.
    const generator = generatorOf({ policy: { decoder, frozen: true } });
    const optimizer = closing(new AdamW(decayGroups(decoder.adapterParameters("policy"), 0)));
    const rows = trajectories(await sample(generator, "policy", "policy", 1));
    await learn(decoder, optimizer, rows, "policy");
    expect(await mismatch(decoder, trajectories(await sample(generator, "policy", "policy", 1)), "policy")).toBeGreaterThan(1e-4);
    const bare = trajectories(await sample(generator, "policy", undefined, 1));
    const stats = await learn(decoder, optimizer, bare, "policy");
    expect(stats.logProbDifferenceMax).toBeGreaterThan(1e-3);
  });

  it("gives the same adapter after an update in one micro-batch at a time, recomputed, as its backward recorded", async () => {
    const results: unknown[] = [];
    for (const recompute of [false, true]) {
      const decoder = base("bf16");
      adapt(decoder, "policy");
      const generator = generatorOf({ policy: { decoder } });
      const optimizer = closing(new AdamW(decayGroups(decoder.adapterParameters("policy"), 0.01)));
      const rows = trajectories(await sample(generator, "policy", "policy", 1));
      const stats = await learn(decoder, optimizer, rows, "policy", { recompute, microBatchTokens: 200 });
      expect(stats.microBatches).toBe(rollouts);
      results.push([stats, ...(await Promise.all([...decoder.adapterParameters("policy").values()].map((one) => one.readFloats())))]);
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("holds 2 bytes for a frozen bf16 weight, which has no gradient and no moments, and 16 for a number of the adapter", async () => {
    const before = liveTensors(device()).bytes;
    const decoder = base("bf16");
    const [frozen, table] = [config.width * V, config.maxPositions * config.headDim];
    const perLayer = [...decoder.parameters()].filter(([name]) => name.startsWith("model.layers.0."));
    const size = frozen + config.layers * perLayer.reduce((sum, [, { size: numbers }]) => sum + numbers, 0) + config.width;
    expect(liveTensors(device()).bytes - before).toBe(2 * size + 4 * table);
    adapt(decoder, "policy");
    const optimizer = closing(new AdamW(decayGroups(decoder.adapterParameters("policy"), 0)));
    await learn(decoder, optimizer, [trajectoryOf({ ids: idsOf(1, 20), mask: "0".repeat(10) + "1".repeat(10) })], "policy");
    const learning = [...decoder.adapterParameters("policy").values()].reduce((sum, { size: numbers }) => sum + numbers, 0);
    expect(liveTensors(device()).bytes - before).toBe(2 * size + 4 * table + 16 * learning + 8 /* norm and clip */);
  });

  /** One update in which the even rollouts were good and the odd ones bad. */
  function learn(
    decoder: Decoder,
    optimizer: AdamW,
    rows: readonly Trajectory[],
    adapter: string | undefined,
    how: Partial<ForwardSettings> = {},
  ): Promise<UpdateStats> {
    const scored: Scored[] = rows.map((trajectory, i) => ({ trajectory, reward: 0, advantage: i % 2 === 0 ? 1 : -1 }));
    const loss = { clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 };
    return update(decoder, optimizer, scored, { ...settings, ...how, ...loss, adapter }, 1e-2);
  }
});
