import { describe, expect, it } from "vitest";
import { readOverride, resolveConfig } from "../../src/config/index.ts";
import { exactMatch, f1, reward, scoreAnswer, subExactMatch, usualRules, type ScoreRules } from "../../src/rl/reward.ts";
import { openReward, payAll } from "../../src/run/reward.ts";
import { scoreRules } from "../../src/setup/open-agents.ts";
import type { SearchTrajectory } from "../../src/rl/trajectory.ts";
import { containsAnswer, normaliseAnswer } from "../../src/util/normalise-answer.ts";

const answered = (answer: string | null, goldenAnswers: string[]): SearchTrajectory => ({
  key: { step: 1, question: 0, rollout: 0 },
  question: { id: "q", question: "?", goldenAnswers, dataSource: "t" },
  promptLength: 0,
  ids: [],
  lossMask: [],
  logProbs: [],
  sampling: { temperature: 1, topK: 0, topP: 1 },
  status: answer === null ? "noAnswer" : "answered",
  answer,
  searches: [],
  invalidActions: 0,
  turns: 1,
  text: "<answer> Beijing </answer>",
});

describe("normalised answers", () => {
  it.each([
    ["The  Beatles!", "beatles"],
    ["An apple, a day", "apple day"],
    ["A.B.C.", "abc"], // punctuation goes first, so no article is seen
    ["Côte d'Ivoire", "côte divoire"], // nothing is folded
    ["anthem theatre", "anthem theatre"],
    ["São a éa", "são éa"],
    ["the", ""],
    [" +49 (0) ", "49 0"],
    ["“quoted” – dash", "“quoted” – dash"], // ASCII punctuation only
    ["a\u00a0b\tc\n", "b c"],
  ])("%j becomes %j", (text, normal) => {
    expect(normaliseAnswer(text)).toBe(normal);
    expect(normaliseAnswer(normal)).toBe(normal);
  });

  it("occur in documents as whole words", () => {
    expect(containsAnswer("Doc 1: The capital is Paris.", ["Paris"])).toBe(true);
    expect(containsAnswer("Doc 1: Parisian life", ["Paris"])).toBe(false);
    expect(containsAnswer("He lives in New York City", ["Boston", "new york"])).toBe(true);
    expect(containsAnswer("anything", ["the", "?"])).toBe(false);
    expect(containsAnswer("anything", [])).toBe(false);
  });
});

describe("scores", () => {
  it.each([
    ["Paris", "paris", 1],
    ["the city of Paris", "Paris", 2 / 4], // city of paris: P 1/3, R 1
    ["Barack Obama", "Barack Hussein Obama", 4 / 5], // P 1, R 2/3
    ["a b b c", "b b d", 4 / 6], // "a" is an article; 2 of 3 and 2 of 3
    ["b b b", "b", 2 / 4],
    ["Berlin", "Paris", 0],
    ["", "Paris", 0],
    ["the", "the", 1], // no word is left to share: compared as they are
  ])("f1 of %j against %j is %d", (prediction, golden, value) => {
    expect(f1(prediction, golden)).toBeCloseTo(value, 15);
  });

  it("keeps exact match, containment and F1 apart", () => {
    expect(exactMatch("The Paris.", "paris")).toBe(true);
    expect(exactMatch("Paris France", "Paris")).toBe(false);
    expect(subExactMatch("a party", "Art")).toBe(true); // characters, as in the released code
    expect(subExactMatch("Art", "party")).toBe(false);
    expect(subExactMatch("anything", "the")).toBe(false);
    expect(scoreAnswer("the city of Paris", ["Paris"])).toEqual({ f1: 0.5, em: 0, subem: 1 });
  });

  it("take the best golden answer", () => {
    expect(scoreAnswer("New York", ["NYC", "New York City", "new york"])).toEqual({ f1: 1, em: 1, subem: 1 });
    expect(scoreAnswer("York", ["NYC", "New York"]).f1).toBeCloseTo(2 / 3, 15);
  });

  it("give nothing for no answer, Beijing or not", () => {
    expect(scoreAnswer(null, ["Beijing"])).toEqual({ f1: 0, em: 0, subem: 0 });
    expect(reward(answered(null, ["Beijing"]))).toBe(0);
    expect(reward(answered("Beijing", ["Beijing"]))).toBe(1);
  });

  it("are paid by the rules of the run, which rewards of one's own are told", async () => {
    const rules: ScoreRules = { normalizer: "unicode", emptyAnswersAsSquad: true };
    const minus = answered("5", ["-5"]);
    expect(await payAll(await openReward("em"), [minus])).toEqual({ rewards: [1], unpaid: [] });
    expect(await payAll(await openReward("em"), [minus], { rules })).toEqual({ rewards: [0], unpaid: [] });
    const told: ScoreRules[] = [];
    await payAll((_, ownRules) => told.push(ownRules), [minus], { rules });
    expect(told).toEqual([rules]);
    const config = (...settings: string[]) =>
      resolveConfig(["model.policy=p", "simulator.path=s", "data.train=t", ...settings].map(readOverride));
    expect(scoreRules(config())).toEqual(usualRules);
    expect(scoreRules(config("reward.normalizer=unicode", "compat.emptyAnswers=true"))).toEqual(rules);
  });

  it("name the reward that is asked for", () => {
    const trajectory = answered("the city of Paris", ["Paris"]);
    expect([reward(trajectory), reward(trajectory, "f1"), reward(trajectory, "em"), reward(trajectory, "subem")]).toEqual([0.5, 0.5, 0, 1]);
    expect(() => reward(trajectory, "bleu" as never)).toThrow('reward: unknown reward; expected f1, em, subem, got "bleu"');
    expect(() => reward(answered("x", []))).toThrow("no golden answer");
  });
});
