import { describe, expect, it } from "vitest";
import { givesAway, loadCountryRecords, makeCountries } from "../../src/data/quickstart/countries.ts";
import { inventedSource, Inventor } from "../../src/data/quickstart/invented.ts";
import {
  commonestAnswers,
  commonestAnswerScore,
  evaluationQuestions,
  trainingQuestions,
  validationQuestions,
} from "../../src/data/quickstart/question-sets.ts";
import { defaultSpoil, skillOptions } from "../../src/data/quickstart/policy-options.ts";
import { PolicyScript, segmentText } from "../../src/data/quickstart/scripted-policy.ts";
import { SimulatorScript } from "../../src/data/quickstart/scripted-simulator.ts";
import { containsAny, containsWords, normalizeWords } from "../../src/data/quickstart/words.ts";
import { makePassages, makeWorld, type QuickstartQuestion } from "../../src/data/quickstart/world.ts";
import { scoreAnswer } from "../../src/rl/reward.ts";

const countries = makeCountries(loadCountryRecords());
const world = makeWorld(countries);
const source = inventedSource(world);
const heldOut = [...world.split.validation, ...world.split.test];
const all = Object.values(world.questions).flat();
const evaluation = evaluationQuestions(world);
const validation = validationQuestions(world);
const training = trainingQuestions(world);
const f1 = (prediction: string, golds: readonly string[]): number => scoreAnswer(prediction, golds).f1;

describe("the world", () => {
  it("has 1,500 passages, 2,000 one-hop and 1,000 two-hop questions or more, with unique ids", () => {
    expect(world.passages.length).toBeGreaterThanOrEqual(1500);
    expect(new Set(world.passages.map((passage) => passage.id)).size).toBe(world.passages.length);
    expect(all.filter((question) => question.metadata.hops === 1).length).toBeGreaterThanOrEqual(2000);
    expect(all.filter((question) => question.metadata.hops === 2).length).toBeGreaterThanOrEqual(1000);
    expect(new Set(all.map((question) => question.id)).size).toBe(all.length);
    expect(all.every((question) => question.golden_answers.length > 0 && question.data_source === "quickstart")).toBe(true);
  });

  it("tells the truth: known facts, with every right answer", () => {
    const golds = (id: string): readonly string[] | undefined => all.find((question) => question.id === id)?.golden_answers;
    expect(golds("DEU-capital")).toEqual(["Berlin"]);
    expect(golds("ZAF-capital")).toEqual(["Pretoria", "Bloemfontein", "Cape Town"]);
    expect(new Set(golds("CHE-language"))).toEqual(new Set(["French", "Swiss German", "Italian", "Romansh"]));
    expect(golds("DEU-iso-french")).toEqual(["Allemagne"]);
  });

  it("states an answer of every held-out question in some passage that names the country", () => {
    for (const question of evaluation) {
      const name = world.countries.get(question.metadata.country)!.name;
      expect(
        world.passages.some((passage) => containsWords(passage.text, name) && containsAny(passage.text, question.golden_answers)),
        question.id,
      ).toBe(true);
    }
  });

  it("is the same for the same seed and another for another", () => {
    expect(JSON.stringify([makeWorld(countries).passages, makeWorld(countries).questions])).toBe(
      JSON.stringify([world.passages, world.questions]),
    );
    expect(makeWorld(countries, { seed: 8 }).split.test.map((country) => country.id)).not.toEqual(
      world.split.test.map((country) => country.id),
    );
  });

  it("leaves out values that a country's name gives away, and those that give it away", () => {
    expect(givesAway("capital", "Guatemala", "Guatemala City")).toBe(true);
    expect(givesAway("demonym", "Germany", "German")).toBe(true);
    expect(givesAway("spanish", "Cook Islands", "Islas Cook")).toBe(true);
    expect(givesAway("capital", "Germany", "Berlin")).toBe(false);
    for (const country of countries)
      for (const value of country.facts.capital ?? []) expect(containsWords(value, country.name)).toBe(false);
  });

  it("bridges only by values that one country of the world has, and never names that country in the question", () => {
    for (const question of all.filter((one) => one.metadata.hops === 2)) {
      const { relation, value } = question.metadata.bridge!;
      const owners = countries.filter((country) => country.facts[relation]?.some((own) => normalizeWords(own) === normalizeWords(value)));
      expect(owners.map((country) => country.id)).toEqual([question.metadata.country]);
      expect(question.question.includes(value) && !containsWords(question.question, owners[0]!.name)).toBe(true);
    }
  });
});

describe("the split", () => {
  it("holds out 25 and 45 countries and keeps names that share a word on one side", () => {
    expect([world.split.validation.length, world.split.test.length]).toEqual([25, 45]);
    const side = new Map(Object.entries(world.split).flatMap(([name, list]) => list.map((country) => [country.name, name] as const)));
    for (const family of [
      ["Sudan", "South Sudan"],
      ["Niger", "Nigeria"],
      ["North Korea", "South Korea"],
      ["Dominica", "Dominican Republic"],
      ["Republic of the Congo", "DR Congo"],
    ]) {
      expect(new Set(family.map((name) => side.get(name))).size, family.join()).toBe(1);
    }
  });

  it("keeps held-out names and demonyms out of everything that is trained on", () => {
    const names = heldOut.flatMap((country) => country.aliases);
    const policy = new PolicyScript(source, "test/leak/policy");
    const spoilt = new PolicyScript(source, "test/leak/spoil", { ...skillOptions, spoil: defaultSpoil });
    const simulator = new SimulatorScript(source, "test/leak/simulator");
    const texts = [
      ...makePassages(world.training, world.seed).map((passage) => passage.text),
      ...world.questions.train.flatMap((question) => [question.question, ...question.golden_answers]),
      ...Array.from({ length: 500 }, () => [policy, spoilt, simulator].map((script) => segmentText(script.next()))).flat(),
    ];
    const padded = ` ${texts.map(normalizeWords).join(" | ")} `;
    expect(names.filter((name) => padded.includes(` ${normalizeWords(name)} `))).toEqual([]);
  });

  it("invents no country that has a held-out name", () => {
    const inventor = new Inventor(source, "test/inventor");
    const names = Array.from({ length: 3000 }, () => inventor.name());
    expect(
      names.filter((name) =>
        containsAny(
          name,
          heldOut.map((country) => country.name),
        ),
      ),
    ).toEqual([]);
    expect(new Set(names).size).toBeGreaterThan(2800);
  });
});

describe("question sets", () => {
  it("judge by 300 held-out questions and choose by 120, half of them two-hop, all relations as equal as can be", () => {
    for (const [set, count, split] of [
      [evaluation, 300, "test"],
      [validation, 120, "validation"],
    ] as const) {
      expect(set).toHaveLength(count);
      expect(set.filter((question) => question.metadata.hops === 2)).toHaveLength(count / 2);
      expect(set.every((question) => question.metadata.split === split)).toBe(true);
      const shares = commonestAnswers(set).map((entry) => entry.questionShare * count);
      expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(2.001);
    }
    expect(evaluationQuestions(world)).toEqual(evaluation);
  });

  it("no relation whose commonest answer exceeds 15 % makes more than 10 % of the questions", () => {
    for (const set of [all, all.filter((question) => question.metadata.hops === 1), training, evaluation, validation]) {
      for (const entry of commonestAnswers(set))
        if (entry.answerShare > 0.15) expect(entry.questionShare, entry.relation).toBeLessThanOrEqual(0.1);
    }
  });

  it("score always giving a relation's commonest answer", () => {
    const row = (relation: "capital" | "region", ...golden_answers: string[]): QuickstartQuestion => ({
      id: "",
      question: "",
      golden_answers,
      data_source: "quickstart",
      metadata: { split: "test", hops: 1, relation, country: "X" },
    });
    // region: Asia is right in 2 of 3; capital: "A B" is commonest (tie, lower name), F1 1 and 2/3 -> (2 + 1 + 2/3) / 5.
    const toy = [
      row("region", "Asia"),
      row("region", "Europe", "Asia"),
      row("region", "Africa"),
      row("capital", "A B"),
      row("capital", "B"),
    ];
    expect(commonestAnswerScore(toy, (prediction, golds) => (golds.includes(prediction) ? 1 : 0))).toBeCloseTo(3 / 5, 12);
    // As F1 "a" is an article: "A B" counts as "b", which equals "B".
    expect(commonestAnswerScore(toy, f1)).toBeCloseTo(4 / 5, 12);
    expect(commonestAnswerScore(evaluation, f1)).toBeLessThan(0.25);
    expect(commonestAnswerScore(evaluation, f1, training)).toBeLessThan(0.15);
  });
});
