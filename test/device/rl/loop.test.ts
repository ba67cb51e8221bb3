/** The loop on the real generator: a policy and a simulator, both tiny and random, on one device. */
import { describe, expect, it } from "vitest";
import { zerosearch as tags } from "../../../src/agent/dialects/zerosearch.ts";
import type { AgentSettings, Method } from "../../../src/agent/methods/method.ts";
import { zerosearch } from "../../../src/agent/methods/zerosearch.ts";
import { rollout } from "../../../src/agent/rollout.ts";
import { groupTasks, rolloutAll, type RolloutTask } from "../../../src/agent/rollout-all.ts";
import { BatchGenerator } from "../../../src/generate/scheduler.ts";
import type { GeneratorCounts } from "../../../src/generate/types.ts";
import { KvCache } from "../../../src/nn/kv-cache.ts";
import type { DecoderConfig } from "../../../src/nn/config.ts";
import { Decoder } from "../../../src/nn/decoder.ts";
import { AdamW, decayGroups } from "../../../src/optim/adamw.ts";
import { scoreTrajectories } from "../../../src/rl/advantage.ts";
import { splitUpdates } from "../../../src/rl/mini-batches.ts";
import type { SearchTrajectory } from "../../../src/rl/trajectory.ts";
import { update } from "../../../src/rl/update.ts";
import type { UpdateStats } from "../../../src/rl/update-stats.ts";
import { drawKind } from "../../../src/search/curriculum.ts";
import { simulatorTemplate } from "../../../src/search/simulator-prompt.ts";
import { SimulatedSearch, simulatorStop } from "../../../src/search/simulated.ts";
import { compileStopsOnce } from "../../../src/generate/stop-automaton.ts";
import { promptText, type TextCodec } from "../../../src/text/prompt.ts";
import { useDevice } from "../../helpers/device.ts";

/** A vocabulary of whole actions, tags and letters, so that a random model often makes whole actions. */
const vocabulary = [
  "<search>a</search>",
  "<search>b c</search>",
  "<search>d</search>\n",
  "<answer>a</answer>",
  "<search>",
  "</search>",
  "<answer>",
  "</answer>",
  "<information>",
  "</information>",
  "Doc ",
  "1",
  "2",
  "3",
  ": ",
  "\n",
  " ",
  ...Array.from("abcdefghijklmnopqrstuvwxyz"),
];
const eosId = vocabulary.length;
const V = eosId + 1;
const utf8 = new TextEncoder();
const tokenBytes = (id: number): Uint8Array => utf8.encode(vocabulary[id] ?? "");
const codec: TextCodec = {
  encodePrompt(prompt) {
    const text = promptText(prompt);
    const ids: number[] = [];
    for (let at = 0; at < text.length;) {
      const id = vocabulary.findIndex((token) => text.startsWith(token, at));
      if (id >= 0) ids.push(id);
      at += id >= 0 ? (vocabulary[id] as string).length : 1; // other letters are not heard
    }
    return ids;
  },
  decode: (ids, { skipSpecialTokens = false } = {}) =>
    ids.map((id) => (id === eosId ? (skipSpecialTokens ? "" : "<eos>") : vocabulary[id])).join(""),
};
const stops = compileStopsOnce({ eosIds: [eosId], tokenBytes }, V);
const documentStop = stops([simulatorStop(2)]);

const config: DecoderConfig = {
  architecture: "LlamaForCausalLM",
  width: 32,
  mlpWidth: 48,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  vocabulary: V,
  maxPositions: 320,
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
const asked = ["who is x", "what is y", "where is z"].map((question, index) => ({
  index: index * 10,
  question: { id: `${index}`, question, goldenAnswers: ["a"], dataSource: "t" },
}));

interface RollOutOptions {
  readonly method?: Method;
  readonly faults?: AgentSettings["faults"];
  readonly misaligned?: boolean;
  readonly cacheBytes?: number;
  readonly onCounts?: (counts: GeneratorCounts) => void;
}

describe("the loop on a real generator", () => {
  const cpu = useDevice();
  const temperature = 1.1;

  async function rollOut(
    policy: Decoder,
    simulator: Decoder,
    tasks: readonly RolloutTask[],
    maxRows: number,
    { method = zerosearch, faults = {}, misaligned = false, cacheBytes = 4 * 2 ** 20, onCounts }: RollOutOptions = {},
  ): Promise<SearchTrajectory[]> {
    const generator = new BatchGenerator({
      device: cpu(),
      models: {
        policy: { decoder: policy, cacheBytes },
        simulator: { decoder: simulator, frozen: true, cacheBytes: 4 * 2 ** 20 },
      },
      maxRows,
    });
    const engine = new SimulatedSearch({
      generator,
      model: "simulator",
      tokenizer: codec,
      stop: documentStop,
      seed: 5,
      noise: 0.5,
      documents: 1,
      maxNewTokens: 20,
      template: simulatorTemplate("q {question} a {answer}\n{query} {kind}\n"),
    });
    try {
      const settings: AgentSettings = {
        model: "policy",
        maxTurns: 3,
        maxNewTokens: 40,
        maxObservationTokens: 40,
        maxContextTokens: 300,
        sampling: { temperature, topK: 0, topP: 1 },
        seed: 5,
        purpose: "policySample",
        faults,
      };
      const prompts = { templates: { zerosearch: "{question}\n" } };
      return await rolloutAll(tasks, method, { generator, engine, tokenizer: codec, stops, prompts, settings }, { misaligned });
    } finally {
      onCounts?.(generator.takeCounts().get("policy") as GeneratorCounts);
      await generator.dispose();
    }
  }

  it("records what the training forward computes, bit for bit, and does not depend on scheduling", async () => {
    const policy = Decoder.initialise(config, cpu(), 1),
      simulator = Decoder.initialise(config, cpu(), 2);
    for (const parameter of policy.parameters().values())
      if (parameter.shape.length > 1) parameter.write((await parameter.readFloats()).map((x) => 3 * x));
    const tasks = groupTasks(asked, 8, 4);
    const trajectories = await rollOut(policy, simulator, tasks, 64);
    const searches = trajectories.flatMap(({ searches: own, key }) =>
      own.map(({ kind, turn }) => ({ kind, drawn: drawKind(5, key, turn, 0.5) })),
    );
    expect(searches.length).toBeGreaterThan(5);
    for (const { kind, drawn } of searches) expect(kind).toBe(drawn);
    expect(new Set(searches.map(({ kind }) => kind)).size).toBe(2);
    expect(new Set(trajectories.map(({ status }) => status)).size).toBeGreaterThan(1);

    // Fewer rows at a time, in another order.
    expect((await rollOut(policy, simulator, [...tasks].reverse(), 3)).reverse()).toEqual(trajectories);

    const optimizer = new AdamW(decayGroups(policy.parameters(), 0));
    const rewards = trajectories.map(({ logProbs }) => Math.abs(logProbs.reduce((sum, value) => sum + value, 0)) % 1);
    const scored = scoreTrajectories(trajectories, rewards, { estimator: "grpo", normalizeByStd: true });
    const stats: UpdateStats[] = [];
    for (const part of splitUpdates(scored, 2)) {
      stats.push(
        await update(policy, optimizer, part, { microBatchTokens: 500, clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0 }, 1e-2),
      );
    }
    expect(stats[0]).toMatchObject({ logProbDifferenceMax: 0, ratioMax: 1, ratioMean: 1 });
    expect(stats[1]?.ratioMax).toBeGreaterThan(1);
    optimizer.dispose();
    policy.dispose();
    simulator.dispose();
  });

  it("with compat.noStops samples more tokens for the same rollouts", async () => {
    const policy = Decoder.initialise(config, cpu(), 1),
      simulator = Decoder.initialise(config, cpu(), 2);
    // With one stop string, what is sampled after it never changes where the turn is cut.
    const dialect = { ...tags, stops: ["</search>"] };
    const method: Method = { name: "one stop", run: (question, context) => rollout(question, dialect, context) };
    const tasks = groupTasks(asked, 4, 4);
    const sampled: number[] = [];
    const onCounts = ({ sampledTokens }: GeneratorCounts): void => void sampled.push(sampledTokens);
    const [without, noStops] = [
      await rollOut(policy, simulator, tasks, 64, { method, onCounts }),
      await rollOut(policy, simulator, tasks, 5, { method, faults: { noStops: true }, onCounts }),
    ];
    expect(noStops).toEqual(without);
    expect(without.flatMap(({ searches }) => searches).length).toBeGreaterThan(5);
    const kept = without.reduce((sum, { lossMask }) => sum + lossMask.reduce((own, mask) => own + mask, 0), 0);
    expect(sampled[0]).toBe(kept);
    expect(sampled[1]).toBeGreaterThan(kept + 50);
    policy.dispose();
    simulator.dispose();
  });

  it("with compat.misalignedContext waits for others and ends, in a cache that holds one rollout, and in any order", async () => {
    const policy = Decoder.initialise(config, cpu(), 1),
      simulator = Decoder.initialise(config, cpu(), 2);
    const tasks = groupTasks(asked, 4, 4);
    const roomy = await rollOut(policy, simulator, tasks, 64, { misaligned: true });
    const evictions: number[] = [];
    const tight = {
      misaligned: true,
      cacheBytes: KvCache.bytesFor(config, 5, "f32"),
      onCounts: ({ evictions: own }: GeneratorCounts): void => void evictions.push(own),
    };
    expect(await rollOut(policy, simulator, tasks, 2, tight)).toEqual(roomy);
    expect(evictions[0]).toBeGreaterThan(0);
    const own = await rollOut(policy, simulator, tasks, 64);
    const told = roomy.flatMap(({ searches }) => searches.flatMap(({ toldQuestion }) => toldQuestion ?? []));
    expect(told.length).toBeGreaterThan(2);
    expect(own.flatMap(({ searches }) => searches.flatMap(({ toldQuestion }) => toldQuestion ?? []))).toEqual([]);
    // What comes before the first document is the same.
    expect(roomy.map(({ searches }) => searches[0]?.query)).toEqual(own.map(({ searches }) => searches[0]?.query));
    policy.dispose();
    simulator.dispose();
  });

  it("closes everything when an engine fails in the middle", async () => {
    const policy = Decoder.initialise(config, cpu(), 1);
    const generator = new BatchGenerator({ device: cpu(), models: { policy: { decoder: policy, cacheBytes: 8 * 2 ** 20 } } });
    let calls = 0;
    const engine = {
      name: "failing",
      search: async () => {
        if (++calls === 3) throw new Error("engine down");
        return { documents: [{ text: "a" }], kind: "real" as const };
      },
      close: async () => undefined,
    };
    const run = rolloutAll(groupTasks(asked, 16, 1), zerosearch, {
      generator,
      engine,
      tokenizer: codec,
      stops,
      prompts: { templates: { zerosearch: "{question}\n" } },
      settings: {
        model: "policy",
        maxTurns: 3,
        maxNewTokens: 40,
        maxObservationTokens: 40,
        sampling: { temperature, topK: 0, topP: 1 },
        seed: 5,
        purpose: "policySample",
      },
    });
    await expect(run).rejects.toThrow("engine down");
    expect(generator.takeCounts().get("policy")?.blocksInUse).toBe(0);
    await generator.dispose();
    policy.dispose();
  });
});
