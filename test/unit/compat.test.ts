/** Each fault of the released code, with its flag and without: docs/compat.md. Those of an update on a device are in test/device/rl/compat.test.ts. */
import { describe, expect, it } from "vitest";
import { methods } from "../../src/agent/methods/index.ts";
import type { AgentContext, AgentSettings } from "../../src/agent/methods/method.ts";
import { rolloutAll, type RolloutTask } from "../../src/agent/rollout-all.ts";
import { findKey, keys } from "../../src/config/keys.ts";
import { readOverride, resolveConfig, type Config } from "../../src/config/index.ts";
import { evaluate } from "../../src/evaluation/evaluate.ts";
import { compileStopsOnce } from "../../src/generate/stop-automaton.ts";
import { learningRate } from "../../src/optim/schedule.ts";
import { scoreTrajectories, type AdvantageSettings } from "../../src/rl/advantage.ts";
import { microBatchMean, tokenMean, type LossWeights } from "../../src/rl/loss-weights.ts";
import { microBatches } from "../../src/rl/mini-batches.ts";
import { reward, scoreAnswer } from "../../src/rl/reward.ts";
import type { Question, SearchTrajectory, Trajectory } from "../../src/rl/trajectory.ts";
import { lossSettings, lossWeights, schedules, valuesDocuments } from "../../src/run/algorithm.ts";
import type { BatchGenerator } from "../../src/generate/scheduler.ts";
import { evaluationContext, scoreRules, trainingContext } from "../../src/setup/open-agents.ts";
import type { Model } from "../../src/setup/open-model.ts";
import type { Simulator, SimulatorRequest } from "../../src/search/search-engine.ts";
import { byteCodec, eosId, ScriptedGenerator, tokenBytes, vocabulary, wideId, type Script } from "../helpers/scripted-generator.ts";
import { scoredOf, trajectoryOf } from "../helpers/trajectories.ts";

const configOf = (...settings: string[]): Config =>
  resolveConfig(["model.policy=p", "simulator.path=s", "data.train=t", ...settings].map(readOverride));
const flags = keys.filter(({ section }) => section === "compat").map(({ key }) => key);

describe("the flags", () => {
  it("are off unless asked for, are seen by --help all only, and can be asked for alone", () => {
    expect(flags).toHaveLength(11);
    for (const flag of flags) {
      expect(findKey(flag)).toMatchObject({ default: false, rare: true });
      const name = flag.slice("compat.".length);
      expect(Object.entries(configOf(`${flag}=true`).compat).filter(([, on]) => on)).toEqual([[name, true]]);
    }
    expect(Object.values(configOf().compat)).not.toContain(true);
  });

  it("are all on in the preset, with the numbers of the released script", () => {
    const config = configOf("algorithm.name=zerosearch-compat");
    expect(Object.values(config.compat)).not.toContain(false);
    expect(config.algorithm).toMatchObject({
      advantage: "reinforce",
      klCoef: 0.001,
      klEstimator: "k3",
      klIn: "loss",
      entropyCoef: 0.001,
      clipLow: 0.2,
      clipHigh: 0.2,
      aggregation: "token-mean",
    });
    expect([config.rollout.topP, config.optimizer.warmupShare, config.critic.clip]).toEqual([0.95, 0.95, 0.5]);
  });

  it("stay for another advantage, and go with another name", () => {
    for (const advantage of ["grpo", "gae"])
      expect(configOf("algorithm.name=zerosearch-compat", `algorithm.advantage=${advantage}`).compat.documentsAsActions).toBe(true);
    expect(configOf("algorithm.name=zerosearch-compat", "compat.klSign=false").compat).toMatchObject({ klSign: false, noStops: true });
    expect(configOf("algorithm.name=zerosearch-compat", "algorithm.name=grpo")).toEqual(configOf("algorithm.name=grpo"));
  });

  it("reach the rollouts of training, and those of an evaluation with the same policy", () => {
    const policy = { tokenizer: byteCodec, decoder: { config: { vocabulary } }, chatTemplate: null } as unknown as Model;
    const faultsOf = (...settings: string[]) => {
      const config = configOf(...settings);
      const training = trainingContext(config, new ScriptedGenerator({}) as unknown as BatchGenerator, policy, simulator());
      const judging = evaluationContext(config, training, simulator());
      expect([judging.settings.faults, judging.promptAnswers]).toEqual([training.settings.faults, training.promptAnswers]);
      return { ...training.settings.faults, promptAnswers: training.promptAnswers };
    };
    const none = { noStops: false, dropEos: false, lastSearch: false, promptAnswers: false };
    expect(faultsOf()).toEqual(none);
    for (const name of Object.keys(none)) expect(faultsOf(`compat.${name}=true`)).toEqual({ ...none, [name]: true });
  });

  it("are refused beside what contradicts them", () => {
    const gae = ["algorithm.name=ppo", "compat.documentsAsActions=true"];
    expect(() => configOf(...gae, "algorithm.documents=zero")).toThrow(
      "algorithm.documents is another rule than that of compat.documentsAsActions; expected skip or plain beside it, got zero",
    );
    expect(() => configOf(...gae, "critic.trunk=policy")).toThrow("critic.trunk has no values of documents to learn");
    expect(() => configOf("compat.microBatchMean=true", "algorithm.name=rloo")).toThrow(
      "algorithm.aggregation is another mean than that of compat.microBatchMean; expected token-mean beside it, got seq-mean-token-sum",
    );
  });
});

const stops = compileStopsOnce({ eosIds: [eosId], tokenBytes }, vocabulary);
const questionOf = (name: string): Question => ({ id: name, question: `Who is ${name}?`, goldenAnswers: [name], dataSource: "t" });
const tasksOf = (...names: string[]): RolloutTask[] =>
  names.map((name, i) => ({ question: questionOf(name), key: { step: 1, question: i, rollout: 0 } }));

/** A simulator that remembers whose question it was told, by rollout and turn. */
function simulator(): Simulator & { readonly told: Map<string, SimulatorRequest> } {
  const told = new Map<string, SimulatorRequest>();
  return {
    name: "told",
    told,
    simulate: async (request) => {
      told.set(`${request.key.question}/${request.turn}`, request);
      return { documents: [{ text: "some facts" }], kind: "useful" };
    },
    noiseProbability: () => 0,
    close: async () => undefined,
  };
}

function contextOf(policy: Script, faults: AgentSettings["faults"] = {}, delay: (turn: number, question: number) => number = () => 0) {
  const generator = new ScriptedGenerator({ policy }, { delay: ({ key }, turn) => delay(turn, key.question) });
  const engine = simulator();
  const context: AgentContext = {
    generator,
    engine,
    tokenizer: byteCodec,
    stops,
    prompts: {},
    settings: {
      model: "policy",
      maxTurns: 2,
      maxNewTokens: 200,
      maxObservationTokens: 200,
      sampling: { temperature: 1, topK: 0, topP: 1 },
      seed: 1,
      purpose: "policySample",
      faults,
    },
  };
  return { generator, engine, context };
}

describe("compat.misalignedContext", () => {
  const search = "<search> x </search>";
  const answer = "<answer> y </answer>";
  const rollOut = async (
    tasks: readonly RolloutTask[],
    policy: Script,
    misaligned: boolean,
    delay?: (turn: number, question: number) => number,
  ) => {
    const { engine, context } = contextOf(policy, {}, delay);
    const trajectories = await rolloutAll(tasks, methods.zerosearch, context, { misaligned });
    const told = Object.fromEntries(
      [...engine.told].sort().map(([key, { question, goldenAnswers }]) => [key, [question, ...goldenAnswers]]),
    );
    return { told, trajectories };
  };

  it("tells the i-th that searches in a turn of the i-th of the step; without it, each of its own", async () => {
    // The first answers at once; the second and the third search.
    const policy: Script = ({ key }, turn) => (key.question > 0 && turn === 0 ? search : answer);
    const tasks = tasksOf("A", "B", "C");
    const { told, trajectories } = await rollOut(tasks, policy, true);
    expect(told).toEqual({ "1/0": ["Who is A?", "A"], "2/0": ["Who is B?", "B"] });
    expect(trajectories.map(({ searches }) => searches.map(({ toldQuestion }) => toldQuestion))).toEqual([[], ["A"], ["B"]]);
    const own = await rollOut(tasks, policy, false);
    expect(own.told).toEqual({ "1/0": ["Who is B?", "B"], "2/0": ["Who is C?", "C"] });
    expect(own.trajectories.flatMap(({ searches }) => searches.map(({ toldQuestion }) => toldQuestion))).toEqual([undefined, undefined]);
  });

  it("counts turn by turn, a correction being a turn without a search, whatever comes first", async () => {
    // A searches twice; B searches, then says nothing; C says nothing, then searches; D searches twice.
    const script = [
      [search, search, answer],
      [search, "<eos>", answer],
      ["<eos>", search, answer],
      [search, search, answer],
    ];
    const policy: Script = ({ key }, turn) => script[key.question]?.[turn] ?? answer;
    const want = {
      ...{ "0/0": "A", "1/0": "B", "3/0": "C" },
      ...{ "0/1": "A", "2/1": "B", "3/1": "C" },
    };
    const orders = [() => 0, (_: number, question: number) => 5 * question, (_: number, question: number) => 5 * (3 - question)];
    for (const delay of orders) {
      const { told } = await rollOut(tasksOf("A", "B", "C", "D"), policy, true, delay);
      expect(Object.fromEntries(Object.entries(told).map(([key, [, golden]]) => [key, golden]))).toEqual(want);
    }
  });

  it("leaves nobody waiting when a rollout before fails", async () => {
    const { engine, context } = contextOf(
      ({ key }) => (key.question === 0 ? "fails" : search),
      {},
      (_, question) => (question === 0 ? 20 : 0),
    );
    // The script ends before its budget, which is an error.
    const run = rolloutAll(tasksOf("A", "B"), methods.zerosearch, context, { misaligned: true });
    await expect(run).rejects.toThrow("the script ended before");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(engine.told.size).toBe(0);
    expect((context.generator as ScriptedGenerator).openNow).toBe(0);
  });
});

describe("compat.promptAnswers", () => {
  const [beijing, and, none] = [questionOf("Beijing"), questionOf("and"), questionOf("Oslo")];
  const task = (question: Question): RolloutTask[] => [{ question, key: { step: 1, question: 0, rollout: 0 } }];
  const paid = async (
    question: Question,
    said: Script,
    promptAnswers: boolean,
  ): Promise<[number, SearchTrajectory["status"], string | null]> => {
    const context = { ...contextOf(said).context, promptAnswers };
    const [trajectory] = (await rolloutAll(task(question), methods.zerosearch, context)) as [SearchTrajectory];
    const [judged] = await evaluate([question], methods.zerosearch, context);
    expect(judged?.scores.f1).toBe(reward(trajectory));
    return [reward(trajectory), trajectory.status, trajectory.answer];
  };

  it("pays a rollout without an answer for the paper's own example; without it, nothing", async () => {
    const searches: Script = () => "<search> x </search>";
    expect(await paid(beijing, searches, true)).toEqual([1, "noAnswer", null]);
    expect(await paid(none, searches, true)).toEqual([0, "noAnswer", null]);
    expect(await paid(beijing, searches, false)).toEqual([0, "noAnswer", null]);
  });

  it("reads the correction too, whose tags hold the word and", async () => {
    const silent: Script = () => "I do not know<eos>";
    expect(await paid(and, silent, true)).toEqual([1, "noAnswer", null]);
    expect(await paid(beijing, silent, true)).toEqual([0, "noAnswer", null]);
    expect(await paid(and, silent, false)).toEqual([0, "noAnswer", null]);
  });

  it("pays an answer as it is", async () => {
    for (const on of [true, false]) expect(await paid(none, () => "<answer> Oslo </answer>", on)).toEqual([1, "answered", "Oslo"]);
  });
});

describe("compat.containmentAsEm", () => {
  it("pays and reports containment as exact match; without it, equality", async () => {
    const [on, off] = [scoreRules(configOf("compat.containmentAsEm=true")), scoreRules(configOf())];
    expect(scoreAnswer("the city of Paris", ["Paris"], on)).toEqual({ f1: 0.5, em: 1, subem: 1 });
    expect(scoreAnswer("the city of Paris", ["Paris"], off)).toEqual({ f1: 0.5, em: 0, subem: 1 });
    expect(scoreAnswer("a party", ["Art"], on).em).toBe(1);
    expect(scoreAnswer("Oslo", ["Paris"], on).em).toBe(0);
    const { context } = contextOf(() => "<answer> the city of Oslo </answer>");
    const em = async (rules: typeof on): Promise<number | undefined> =>
      (await evaluate([questionOf("Oslo")], methods.zerosearch, { ...context, rules }))[0]?.scores.em;
    expect([await em(on), await em(off)]).toEqual([1, 0]);
    const [trajectory] = (await rolloutAll(tasksOf("Oslo"), methods.zerosearch, context)) as [SearchTrajectory];
    expect([reward(trajectory, "em", on), reward(trajectory, "em", off)]).toEqual([1, 0]);
  });
});

describe("compat.sampledEvaluation", () => {
  it("samples as training does; without it, greedily", () => {
    const { context, engine } = contextOf(() => "");
    const sampling = { temperature: 1, topK: 0, topP: 0.95 };
    const training = { ...context, settings: { ...context.settings, sampling } };
    const judging = (...settings: string[]) => evaluationContext(configOf(...settings), training, engine).settings;
    expect(judging("compat.sampledEvaluation=true")).toMatchObject({ purpose: "evaluation", sampling });
    expect(judging()).toMatchObject({ purpose: "evaluation", sampling: { temperature: 0, topK: 0, topP: 1 } });
  });
});

describe("compat.noStops", () => {
  const said = (i: number): readonly number[] => [
    ...byteCodec.encode(i === 0 ? "<think> a </think><search> x " : "<answer> y </answer>", {}),
    ...(i === 0 ? [wideId("</search>\n")] : []),
    ...byteCodec.encode(" and so on<eos>", { parseSpecialTokens: true }),
  ];

  it("makes the same rollout from more tokens: the token in which a tag closes is kept whole, what follows is no part of it", async () => {
    const rollOut = async (noStops: boolean) => {
      // By what it was shown: a sequence that was cut is another one.
      const { generator, context } = contextOf((_, __, text) => said(text.includes("some facts") ? 1 : 0), { noStops });
      const sampled: number[] = [];
      const counting: AgentContext = {
        ...context,
        generator: {
          takeCounts: () => generator.takeCounts(),
          open: (options) => {
            const sequence = generator.open(options);
            const generate: typeof sequence.generate = async (request) => {
              const generated = await sequence.generate(request);
              sampled.push(generated.ids.length);
              return generated;
            };
            return Object.create(sequence, { generate: { value: generate } }) as typeof sequence;
          },
        },
      };
      const [trajectory] = await rolloutAll(tasksOf("A"), methods.zerosearch, counting);
      expect(generator.openNow).toBe(0);
      return { trajectory, sampled };
    };
    const [with_, without] = [await rollOut(true), await rollOut(false)];
    expect(with_.trajectory).toEqual(without.trajectory);
    expect(with_.trajectory?.answer).toBe("y");
    expect(without.sampled).toEqual([said(0).length - 11, said(1).length - 11]);
    expect(with_.sampled).toEqual([said(0).length, said(1).length]);
  });

  it("cuts at </search> first, even where an answer came before, which still is the action", async () => {
    const text = "<answer> y </answer> or <search> x </search> or not<eos>";
    const rollOut = async (noStops: boolean) =>
      (await rolloutAll(tasksOf("A"), methods.zerosearch, contextOf(() => text, { noStops }).context))[0];
    expect(await rollOut(true)).toMatchObject({
      status: "answered",
      answer: "y",
      text: "<answer> y </answer> or <search> x </search>",
      searches: [],
    });
    expect(await rollOut(false)).toMatchObject({ status: "answered", answer: "y", text: "<answer> y </answer>" });
  });

  it("takes a turn without a tag as it is, to its end or its budget", async () => {
    const { context } = contextOf(() => "nothing to say<eos>", { noStops: true });
    const [trajectory] = await rolloutAll(tasksOf("A"), methods.zerosearch, context);
    expect(trajectory).toMatchObject({ status: "noAnswer", turns: 3, invalidActions: 3 });
    const short = { ...context, settings: { ...context.settings, maxNewTokens: 5, maxTurns: 0 } };
    expect((await rolloutAll(tasksOf("A"), methods.zerosearch, short))[0]).toMatchObject({ status: "length", text: "nothi" });
  });
});

describe("compat.dropEos", () => {
  it("gives end-of-sequence tokens the mask 0, where they stand; without it, 1", async () => {
    const rollOut = async (dropEos: boolean): Promise<SearchTrajectory> =>
      (
        await rolloutAll(
          tasksOf("A"),
          methods.zerosearch,
          contextOf((_, turn) => (turn === 0 ? "no<eos>" : "<answer> y </answer>"), { dropEos }).context,
        )
      )[0]!;
    const [on, off] = [await rollOut(true), await rollOut(false)];
    const at = off.ids.indexOf(eosId, off.promptLength);
    expect(on.ids).toEqual(off.ids);
    expect([on.lossMask[at], off.lossMask[at]]).toEqual([0, 1]);
    expect(on.lossMask.filter((mask, t) => mask !== off.lossMask[t])).toEqual([0]);
    expect(on.logProbs[at]).toBe(0);
  });
});

describe("compat.lastSearch", () => {
  it("makes the search of the last generation for nobody; without it, none", async () => {
    const rollOut = async (lastSearch: boolean) => {
      const { engine, context } = contextOf(() => "<search> x </search>", { lastSearch });
      const [trajectory] = await rolloutAll(tasksOf("A"), methods.zerosearch, context);
      return { asked: [...engine.told.keys()], trajectory };
    };
    const [on, off] = [await rollOut(true), await rollOut(false)];
    expect(on.asked).toEqual(["0/0", "0/1", "0/2"]);
    expect(off.asked).toEqual(["0/0", "0/1"]);
    expect(on.trajectory).toEqual(off.trajectory);
  });
});

describe("compat.klSign", () => {
  it("turns the sign of the term in the loss, and of nothing else", () => {
    expect(lossSettings(configOf("compat.klSign=true")).klCoef).toBe(-0.001);
    expect(lossSettings(configOf()).klCoef).toBe(0.001);
    expect(lossSettings(configOf("compat.klSign=true", "algorithm.name=ppo")).klCoef).toBe(0);
  });
});

describe("compat.documentsAsActions", () => {
  // reference: two tokens, a document of two, two tokens, the reward at the end
  const trajectory: Trajectory = trajectoryOf({ ids: [9, 1, 2, 3, 4, 5, 6, 7], mask: "01100110" });
  const values = new Map([[trajectory, [7, 0.1, 0.2, 0.9, 0.7, 0.4, 0.3, 7]]]);
  const score = (settings: Omit<AdvantageSettings, "estimator">, estimator: AdvantageSettings["estimator"] = "gae") =>
    scoreTrajectories([trajectory], [1], { estimator, ...settings }, { values })[0]!;
  const expectClose = (got: unknown, want: readonly number[]): void => {
    expect(got).toHaveLength(want.length);
    for (const [t, value] of want.entries()) expect((got as ArrayLike<number>)[t]).toBeCloseTo(value, 7);
  };

  it("makes gae run through documents, which have returns of their own; without it, past them", () => {
    const [on, off] = [score({ lambda: 0.95, documentsAsActions: true }), score({ lambda: 0.95 })];
    // Backwards: 1 - .3 = .7; .3 - .4 + .95 x .7 = .565; .4 - .7 + .95 x .565 = .23675; .7 - .9 + .95 x .23675 = .0249125; ...
    expectClose(on.advantage, [0, 0.78748353, 0.72366687, 0.0249125, 0.23675, 0.565, 0.7, 0]);
    expectClose(on.returns, [0, 0.88748353, 0.92366687, 0.9249125, 0.93675, 0.965, 1, 0]);
    expectClose(off.advantage, [0, 0.7999125, 0.73675, 0, 0, 0.565, 0.7, 0]);
  });

  it("counts documents in whitening; without it, the policy's tokens alone", () => {
    // With gamma and lambda 1 an advantage is 1 - value: .9, .8, .1, .3, .6, .7, of mean 3.4 / 6 and variance 71 / 750.
    const on = score({ whiten: true, documentsAsActions: true }).advantage as number[];
    const own = (advantage: number, mean: number, variance: number): number => (advantage - mean) / Math.sqrt(variance + 1e-8);
    for (const [t, value] of [0.9, 0.8, 0.1, 0.3, 0.6, 0.7].entries()) expect(on[1 + t]).toBeCloseTo(own(value, 3.4 / 6, 71 / 750), 10);
    // .9, .8, .6, .7 of mean .75 and variance 1 / 60.
    const off = score({ whiten: true }).advantage as number[];
    for (const [t, value] of [0.9, 0.8, undefined, undefined, 0.6, 0.7].entries())
      expect(off[1 + t]).toBeCloseTo(value === undefined ? 0 : own(value, 0.75, 1 / 60), 10);
  });

  it("asks a critic for the values of documents", () => {
    expect(valuesDocuments(configOf("algorithm.name=ppo", "compat.documentsAsActions=true"))).toBe(true);
    expect(valuesDocuments(configOf("algorithm.name=ppo"))).toBe(false);
  });
});

describe("compat.microBatchMean", () => {
  // Losses [1, 2] and [3, 3, 3, 3], and a rollout that says nothing.
  const batch = [
    scoredOf({ ids: [9, 9, 9, 9], mask: "0101" }, 1),
    scoredOf({ ids: [9, 9, 9, 9, 9, 9], mask: "001111", rollout: 1 }, 1),
    scoredOf({ ids: [9, 9], mask: "00", rollout: 2 }, 1),
  ];
  const losses = [
    [7, 1, 7, 2],
    [7, 7, 3, 3, 3, 3],
    [7, 7],
  ];
  const total = (weights: LossWeights): number => {
    const { scale, weight } = weights(batch);
    const of = (row: (typeof batch)[number], i: number): number =>
      row.trajectory.lossMask.reduce((sum, mask, t) => (mask === 1 ? sum + weight(row, t) * (losses[i]?.[t] as number) : sum), 0);
    return scale * batch.reduce((sum, row, i) => sum + of(row, i), 0);
  };

  it("makes the loss depend on the cut into micro-batches; without it, it does not", () => {
    expect([1000, 1].map((tokens) => microBatches(batch.slice(0, 2), tokens).length)).toEqual([1, 2]);
    const on = ["16384", "4096"].map((tokens) => lossWeights(configOf("compat.microBatchMean=true", `train.microBatchTokens=${tokens}`)));
    expect(on.map(total)).toEqual([2.5, 2.5]);
    // 15 / 6 in one; (1.5 + 3) / 2 in two
    expect(total(microBatchMean(1000))).toBeCloseTo(2.5, 14);
    expect(total(microBatchMean(1))).toBeCloseTo(2.25, 14);
    expect(lossWeights(configOf())).toBe(tokenMean);
    expect(total(tokenMean)).toBeCloseTo(2.5, 14);
  });
});

describe("optimizer.warmupShare", () => {
  const rates = (...settings: string[]): number[] => {
    const { schedule } = schedules(configOf("train.steps=10", "train.updatesPerStep=2", "optimizer.learningRate=1", ...settings));
    return [0, 9, 17, 18, 19].map((update) => learningRate(schedule, update));
  };

  it("warms up over .95 of all updates, 19 of 20; without it, over warmupSteps", () => {
    expect(rates("optimizer.warmupShare=.95")).toEqual([1 / 19, 10 / 19, 18 / 19, 1, 1]);
    expect(rates()).toEqual([0.1, 1, 1, 1, 1]);
    expect(rates("optimizer.warmupShare=0")).toEqual([1, 1, 1, 1, 1]);
    expect(() => configOf("optimizer.warmupShare=2")).toThrow("expected a number from 0 to 1, or null, got 2");
  });

  it("is of the policy's updates, which a critic's head start leaves fewer", () => {
    const config = configOf(
      "algorithm.name=ppo",
      "train.steps=10",
      "critic.headStartSteps=6",
      "optimizer.warmupShare=.5",
      "critic.warmupSteps=3",
    );
    const { schedule, criticSchedule } = schedules(config);
    expect([schedule.warmupSteps, schedule.totalSteps, criticSchedule.warmupSteps, criticSchedule.totalSteps]).toEqual([2, 4, 3, 10]);
  });
});
