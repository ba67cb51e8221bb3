import { describe, expect, it } from "vitest";
import { methods } from "../../src/agent/methods/index.ts";
import { judge, type JudgedRow, type JudgeOptions } from "../../src/evaluation/judge.ts";
import { compileStopsOnce } from "../../src/generate/stop-automaton.ts";
import { usualRules, type ScoreRules } from "../../src/rl/reward.ts";
import type { SearchEngine } from "../../src/search/search-engine.ts";
import { byteCodec, eosId, ScriptedGenerator, tokenBytes, vocabulary, type Script } from "../helpers/scripted-generator.ts";

const questions = ["p", "q", "r", "s"].map((answer, i) => ({
  id: answer,
  question: `Question ${answer}?`,
  goldenAnswers: [answer],
  dataSource: i < 3 ? "first" : "second",
  metadata: { hops: i % 2 === 0 ? 1 : 2 },
}));
const cPlusPlus = { id: "c", question: "Which language?", goldenAnswers: ["C++"], dataSource: "first" };
const engine = (name: string, text: string): SearchEngine => ({
  name,
  search: async () => ({ documents: [{ text }], kind: "real" as const }),
  close: async () => undefined,
});

/** Answers with what it was shown; the first questions take the longest. */
function options(more: Partial<JudgeOptions> = {}): JudgeOptions {
  const policy: Script = (_, turn, text) => {
    const [, shown] = /Doc 1: (\w+)/.exec(text) ?? [];
    return turn === 0 && shown === undefined && text.startsWith("Answer the given question. You must")
      ? "<search> x </search>"
      : `<answer> ${shown ?? "p"} </answer>`;
  };
  return {
    method: methods.zerosearch,
    baselines: [methods.direct, methods.rag],
    engines: [engine("one", "q"), engine("two", "s")],
    questions,
    context: {
      generator: new ScriptedGenerator({ policy }, { delay: ({ key }) => 3 * (questions.length - key.question) }),
      tokenizer: byteCodec,
      stops: compileStopsOnce({ eosIds: [eosId], tokenBytes }, vocabulary),
      prompts: {},
      settings: {
        model: "policy",
        maxTurns: 2,
        maxNewTokens: 50,
        maxObservationTokens: 200,
        sampling: { temperature: 0, topK: 0, topP: 1 },
        seed: 1,
        purpose: "evaluation",
      },
    },
    model: "m",
    when: "after",
    step: 7,
    seed: 1,
    samples: 100,
    simulated: null,
    ...more,
  };
}

describe("judge", () => {
  it("scores HotpotQA by its own rule for yes and no where that is asked for", async () => {
    const asked = [{ id: "h", question: "Is it?", goldenAnswers: ["yes", "p yes"], dataSource: "hotpotqa" }];
    const f1 = async (hotpotYesNo: boolean): Promise<number | undefined> => {
      const { rows } = await judge(options({ method: methods.direct, baselines: [], questions: asked, hotpotYesNo }));
      return rows[0]?.f1;
    };
    // The answer is "p": of "p yes" it has half the words, whatever the rule says of "yes".
    expect([await f1(false), await f1(true)]).toEqual([2 / 3, 2 / 3]);
    const closed = [{ id: "h", question: "Is it?", goldenAnswers: ["no"], dataSource: "hotpot_qa" }];
    const answersNoMore: Script = () => "<answer> no more </answer>";
    const scored = async (hotpotYesNo: boolean): Promise<number | undefined> => {
      const { context } = options();
      const generator = new ScriptedGenerator({ policy: answersNoMore });
      const { rows } = await judge(
        options({ method: methods.direct, baselines: [], questions: closed, hotpotYesNo, context: { ...context, generator } }),
      );
      return rows[0]?.f1;
    };
    expect([await scored(false), await scored(true)]).toEqual([2 / 3, 0]);
  });

  it("has a row for each method, engine and question set; a method that never searches runs once", async () => {
    const { rows, byHops, robustness } = await judge(options());
    expect(rows.map(({ method, engine: by, dataset, n, em }) => [method, by, dataset, n, em])).toEqual([
      ["direct", "none", "first", 3, 1 / 3],
      ["direct", "none", "second", 1, 0],
      ["rag", "one", "first", 3, 1 / 3],
      ["rag", "one", "second", 1, 0],
      ["rag", "two", "first", 3, 0],
      ["rag", "two", "second", 1, 1],
      ["zerosearch", "one", "first", 3, 1 / 3],
      ["zerosearch", "one", "second", 1, 0],
      ["zerosearch", "two", "first", 3, 0],
      ["zerosearch", "two", "second", 1, 1],
    ]);
    expect(byHops.map(({ hops, n, f1, enough }) => [hops, n, f1, enough])).toEqual([
      [1, 2, 0, 1],
      [2, 2, 0.5, 0],
    ]);
    expect(robustness).toEqual([]);
  });

  it("tells each row in the order of the questions though they end in another, with the whole trajectory", async () => {
    const told: JudgedRow[] = [];
    await judge(options({ onJudged: (row) => told.push(row) }));
    expect(told.map((row) => row.question.id).join("")).toBe("pqrs".repeat(5));
    expect(told.map((row) => row.engine).filter((_, i) => i % 4 === 0)).toEqual(["none", "one", "two", "one", "two"]);
    const row = told.find(({ method, engine: by, question }) => method === "zerosearch" && by === "one" && question.id === "q");
    expect(row).toMatchObject({
      when: "after",
      step: 7,
      key: { step: 0, question: 1, rollout: 0 },
      question: questions[1],
      answer: "q",
      f1: 1,
      em: 1,
      subem: 1,
      status: "answered",
      turns: 2,
      text: "<search> x </search>\n\n<information>Doc 1: q</information>\n\n<answer> q </answer>",
    });
    expect([row!.lossMask.length, row!.logProbs.length]).toEqual([row!.ids.length, row!.ids.length]);
    expect(row!.searches).toMatchObject([{ turn: 0, query: "x", containsGold: true }]);
  });

  it("scores by the rules of its context, and looks for golden answers in documents by them", async () => {
    const told: JudgedRow[] = [];
    const { context } = options();
    const by = (rules: ScoreRules) =>
      judge(
        options({
          baselines: [],
          engines: [engine("one", "C")],
          questions: [cPlusPlus],
          context: { ...context, rules },
          onJudged: (row) => told.push(row),
        }),
      );
    const { rows: squad } = await by(usualRules);
    const { rows: unicode } = await by({ ...usualRules, normalizer: "unicode" });
    expect([squad[0]?.em, unicode[0]?.em]).toEqual([1, 0]);
    expect(told.map(({ searches }) => searches[0]?.containsGold)).toEqual([true, false]);
  });

  it("measures both first searches where there is a simulator", async () => {
    const simulated = { useful: engine("useful", "p"), noisy: engine("noisy", "z") };
    const { robustness } = await judge(options({ baselines: [], simulated }));
    // One-hop questions only: p and r, each after both.
    expect(robustness).toEqual([
      { first: "useful", n: 1, again: 0, f1: 1 },
      { first: "nothing useful", n: 3, again: 0, f1: 0 },
    ]);
  });

  it("ends with the error of whoever keeps the rows", async () => {
    const full = (): never => {
      throw new Error("the disk is full");
    };
    await expect(judge(options({ onJudged: full }))).rejects.toThrow("the disk is full");
  });
});
