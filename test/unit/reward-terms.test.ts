/** Terms of a reward and sums of them: Search-R1's table and format machine, and how a sum is read. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MethodContext } from "../../src/agent/methods/method.ts";
import { methods } from "../../src/agent/methods/index.ts";
import { parseReward, readOverride, resolveConfig, rewardText } from "../../src/config/index.ts";
import { compileStopsOnce } from "../../src/generate/stop-automaton.ts";
import { keptFormat, rewardTerm, searchR1Format, termNames, type TermName, type WeightedTerm } from "../../src/rl/reward-terms.ts";
import type { Question, SearchRecord, SearchTrajectory } from "../../src/rl/trajectory.ts";
import { openReward } from "../../src/run/reward.ts";
import { byteCodec, eosId, ScriptedGenerator, tokenBytes, vocabulary } from "../helpers/scripted-generator.ts";
import { trajectoryOf } from "../helpers/trajectories.ts";

const search = (text: string, containsGold = false): SearchRecord => ({
  turn: 0,
  query: "q",
  kind: "useful",
  documents: [{ text }],
  text,
  containsGold,
});

/** A rollout with this text, answered unless told; the golden answer is "x". */
function told(text: string, fields: Partial<SearchTrajectory> = {}): SearchTrajectory {
  return { ...trajectoryOf({ ids: [1, 2], mask: "01" }), text, ...fields };
}

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("nothing was thrown");
}

const shown = (text: string): string => `\n\n<information>${text}</information>\n\n`;
const direct = "<think> a </think>\n<answer> x </answer>";
const searched = (text: string): string => `<think>a</think> <search>q</search>${shown(text)}<think>b</think><answer>x</answer>\n`;

describe("the format", () => {
  it.each<[string, string, SearchRecord[]]>([
    ["a thought and an answer", direct, []],
    ["a search between thoughts", searched("Doc 1: d"), [search("Doc 1: d")]],
    [
      "two searches",
      `<think>a</think><search>q</search>${shown("d")}<think>b</think><search>r</search>${shown("e")}${direct}`,
      [search("d"), search("e")],
    ],
    ["no words between tags", `<think></think><search></search>${shown("")}<think></think><answer></answer>`, [search("")]],
    ["signs that are no tags", "<think>1 < 2 <b> </ think></think><answer>x</answer>", []],
    ["documents with an answer in tags", searched("Doc 1: <answer>y</answer> <think>"), [search("Doc 1: <answer>y</answer> <think>")]],
    ["documents that close themselves", searched("</information> loose <think>"), [search("</information> loose <think>")]],
    ["documents that were cut", searched("Doc 1: lo"), [search("Doc 1: long")]],
  ])("is kept with %s", (_, text, searches) => {
    expect(keptFormat(told(text, { searches }))).toBe(true);
    expect(rewardTerm(told(text, { searches }), "format")).toBe(1);
  });

  it.each<[string, string, Partial<SearchTrajectory>]>([
    ["nothing", "", {}],
    ["an answer without a thought", "<answer>x</answer>", {}],
    ["a search without a thought", `<search>q</search>${shown("d")}${direct}`, { searches: [search("d")] }],
    ["no thought after documents", `<think>a</think><search>q</search>${shown("d")}<answer>x</answer>`, { searches: [search("d")] }],
    ["words before the thought", `Well. ${direct}`, {}],
    ["words between thought and answer", "<think>a</think> so <answer>x</answer>", {}],
    ["words after the answer", `${direct}.`, {}],
    ["words after documents", `<think>a</think><search>q</search>${shown("d")}so ${direct}`, { searches: [search("d")] }],
    ["two thoughts", `<think>a</think>${direct}`, {}],
    ["two answers", `${direct}<answer>x</answer>`, {}],
    ["two actions in one turn", "<think>a</think><search>q</search><answer>x</answer>", {}],
    ["a tag in a thought", "<think>shall I <search>q</search></think><answer>x</answer>", {}],
    ["a thought that never ends", "<think>a<answer>x</answer>", {}],
    ["a tag in the answer", "<think>a</think><answer><think>x</answer>", {}],
    ["documents that the policy made up", searched("d"), { searches: [] }],
    ["more documents than searches", `<think>a</think><search>q</search>${shown("d")}${searched("e")}`, { searches: [search("d")] }],
    ["a correction", direct, { invalidActions: 1 }],
    ["no answer in time", `<think>a</think><search>q</search>`, { status: "noAnswer", answer: null }],
    ["an answer that was cut off", "<think>a</think><answer>x", { status: "length", answer: null }],
    ["other tags", "<thought>a</thought><answer>x</answer>", {}],
  ])("is not kept with %s", (_, text, fields) => {
    expect(keptFormat(told(text, fields))).toBe(false);
    expect(rewardTerm(told(text, fields), "format")).toBe(0);
  });

  describe("of rollouts of the loop", () => {
    const question: Question = { id: "7", question: "Capital?", goldenAnswers: ["Paris"], dataSource: "test" };
    const documents = "Doc 1: </information><answer>Rome</answer> <think> Paris";
    const run = (...turns: string[]): Promise<SearchTrajectory> => {
      const context: MethodContext = {
        generator: new ScriptedGenerator({ policy: (_, turn) => turns[turn] ?? "" }),
        engine: { name: "e", search: async () => ({ documents: [{ text: documents }], kind: "real" }), close: async () => undefined },
        tokenizer: byteCodec,
        stops: compileStopsOnce({ eosIds: [eosId], tokenBytes }, vocabulary),
        prompts: { templates: { zerosearch: "{question}" } },
        key: { step: 1, question: 0, rollout: 0 },
        settings: {
          model: "policy",
          maxTurns: 2,
          maxNewTokens: 60,
          maxObservationTokens: 90,
          sampling: { temperature: 1, topK: 0, topP: 1 },
          seed: 1,
          purpose: "policySample",
        },
      };
      return methods.zerosearch.run(question, context);
    };
    const terms = (trajectory: SearchTrajectory) =>
      (["format", "retrieval", "search_r1_format"] as const).map((name) => rewardTerm(trajectory, name));

    it("is decided by what the policy wrote, not by tags in documents", async () => {
      const found = await run("<think>a</think><search>q</search>", "<think>b</think><answer>Paris</answer>");
      expect(found.searches[0]?.text).toContain("[answer]Rome[/answer]");
      expect(terms(found)).toEqual([1, 1, 1]);
      expect(terms(await run("<search>q</search>", "<think>b</think><answer>Paris</answer>"))).toEqual([0, 1, 0.8]);
    });

    it("is lost by a correction, whatever comes after it", async () => {
      expect(terms(await run("<think>a</think><eos>", "<think>b</think><answer>Paris</answer>"))).toEqual([0, 0, 0.8]);
      expect(terms(await run("<think>a</think><information>Paris</information><eos>", "<answer>Rome</answer>"))).toEqual([0, 0, 0.1]);
    });
  });
});

describe("Search-R1's score", () => {
  const wrong = { answer: "y" };
  const found = { searches: [search("d", true)] };
  const loose = `${direct} so`;
  it.each<[string, SearchTrajectory, number]>([
    ["a right answer in the format", told(direct), 1],
    ["a right answer in the format, and found", told(searched("d"), found), 1],
    ["a right answer in another format", told(loose), 0.8],
    ["a right answer in another format, and found", told(loose, found), 0.8],
    ["a wrong answer in the format", told(direct, wrong), 0.2],
    ["a wrong answer in the format, but found", told(searched("d"), { ...found, ...wrong }), 0.2],
    ["a wrong answer in another format", told(loose, wrong), 0.1],
    ["a wrong answer in another format, but found", told(loose, { ...found, ...wrong }), 0.1],
    ["no answer", told("<think>a", { status: "length", answer: null }), 0],
    ["no answer, but found", told("<think>a", { ...found, status: "length", answer: null }), 0],
  ])("of %s", (_, trajectory, score) => {
    expect(searchR1Format(trajectory)).toBe(score);
    expect(rewardTerm(trajectory, "search_r1_format")).toBe(score);
  });

  it("pays what is found, and all else, by the numbers that are given", () => {
    const scores = { structure: 0.25, answered: 0.125, retrieval: 0.5 };
    const score = (text: string, fields: Partial<SearchTrajectory>) => searchR1Format(told(text, fields), undefined, scores);
    expect(score(searched("d"), { ...found, ...wrong })).toBe(0.75);
    expect(score(direct, wrong)).toBe(0.25);
    expect(score(loose, {})).toBe(0.75);
    expect(score(loose, { ...found, ...wrong })).toBe(0.125);
  });

  it("takes an exact match for right, by the rules of the run, not a part", () => {
    expect(searchR1Format(told(direct, { answer: "the X!" }))).toBe(1);
    expect(searchR1Format(told(direct, { answer: "x y" }))).toBe(0.2);
    const minus = told(direct, { answer: "5", question: { ...told("").question, goldenAnswers: ["-5"] } });
    expect(searchR1Format(minus)).toBe(1);
    expect(searchR1Format(minus, { normalizer: "unicode", emptyAnswersAsSquad: false })).toBe(0.2);
  });
});

it("retrieval is 1 where any search found a gold answer", () => {
  const term = (...found: boolean[]) => rewardTerm(told(direct, { searches: found.map((one) => search("d", one)) }), "retrieval");
  expect([term(), term(false, false), term(false, true), term(true)]).toEqual([0, 0, 1, 1]);
});

it("an unknown term is an error that names all", () => {
  expect(() => rewardTerm(told(direct), "bleu" as TermName)).toThrow(
    'reward: unknown term; expected f1, em, subem, format, retrieval, search_r1_format, got "bleu"',
  );
});

describe("a sum", () => {
  it.each([
    ["f1", "f1"],
    ["f1 + 0.2*format + 0.1*retrieval", "f1 + 0.2*format + 0.1*retrieval"],
    ["0.8*f1-0.1*format", "0.8*f1 - 0.1*format"],
    [" .5 * em\t+1.*subem ", "0.5*em + subem"],
    ["1*f1", "f1"],
    ["+f1", "f1"],
    ["-format+2e-1*em", "-format + 0.2*em"],
  ])("%j is called %j", async (text, name) => {
    expect(rewardText(parseReward(text))).toBe(name);
    expect((await openReward(text)).name).toBe(name);
    const config = resolveConfig(["model.policy=p", "simulator.path=s", "data.train=t", `reward.kind=${text}`].map(readOverride));
    expect(config.reward.kind).toBe(text);
  });

  it("is read again from its name, the same", () => {
    const terms = fc.uniqueArray(
      fc.record({
        weight: fc.double({ noNaN: true, noDefaultInfinity: true }).filter((weight) => weight !== 0),
        term: fc.constantFrom(...termNames),
      }),
      { minLength: 1, selector: ({ term }) => term },
    );
    fc.assert(
      fc.property(terms, (sum: WeightedTerm[]) => {
        expect(parseReward(rewardText(sum))).toEqual(sum);
      }),
    );
  });

  it.each([
    ["", "is empty; expected one of f1, em, subem, format, retrieval, search_r1_format, or a sum such as"],
    ["  ", "is empty; expected one of"],
    ["f1 + 0.2*formt", /there is no formt; expected one of f1, .*, a sum such as .*, or a module such as .*\n {2}did you mean format\?/],
    ["F1", /there is no F1; .*\n {2}did you mean f1\?/],
    ["bleu", "there is no bleu"],
    ["mine.js", "there is no mine.js"],
    ["f1 + *format", 'a number is missing before *; expected a sum such as "f1 + 0.2*format", got "f1 + *format"'],
    ["f1 + 0.2", "0.2 is not followed by *; expected 0.2*f1"],
    ["0.2 format", "0.2 is not followed by *; expected 0.2*format"],
    ["0.2*", "a term is missing"],
    ["f1 +", "a term is missing"],
    ["f1 + + em", "a term is missing"],
    ["f1 em", "+ or - is missing before em"],
    ["f1*0.2", "+ or - is missing before *0.2"],
    ["f1 + em - 0.5*f1", "f1 stands there twice; expected each term once"],
    ["1e999*f1", "1e999 is too large; expected a finite number"],
    ["0*f1", "f1 weighs nothing; expected a weight other than 0, or the sum without it"],
    ["em - .0*format", "format weighs nothing"],
    ["1e-999*em", "em weighs nothing"],
  ])("%j is an error that says what is wrong", (text, message) => {
    const what = messageOf(() => parseReward(text));
    expect(what).toMatch(/^reward\.kind: /);
    if (typeof message === "string") expect(what).toContain(message);
    else expect(what).toMatch(message);
    const setting = `reward.kind=${text}`;
    const place = messageOf(() => resolveConfig(["model.policy=p", "simulator.path=s", "data.train=t", setting].map(readOverride)));
    expect(place).toContain(`argument ${setting}: wrong value for reward.kind: ${what.slice("reward.kind: ".length).split(";")[0] ?? ""}`);
  });

  it("pays the weighted terms", async () => {
    const trajectory = told(searched("d"), { answer: "x y", searches: [search("d", true)] });
    const paid = async (text: string) => (await openReward(text))(trajectory, { normalizer: "squad", emptyAnswersAsSquad: false });
    expect(await paid("f1")).toBe(2 / 3);
    expect(await paid("1*f1")).toBe(2 / 3);
    expect(await paid("f1 + 0.2*format + 0.1*retrieval")).toBeCloseTo(2 / 3 + 0.3, 15);
    expect(await paid("0.5*subem - 0.25*format + em")).toBe(0.25);
    expect(await paid("search_r1_format - f1")).toBeCloseTo(0.2 - 2 / 3, 15);
  });
});
