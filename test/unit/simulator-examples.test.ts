/** From searches to examples: excerpts, labels, sets, and what never gets into a set. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { tunedSimulatorTemplate } from "../../src/search/simulator-prompt.ts";
import type { CollectedRollout, CollectedSearch, JudgedRollout, Label } from "../../src/simulator/collected.ts";
import { makeExamples, type ExampleOptions } from "../../src/simulator/examples.ts";
import { excerpt } from "../../src/simulator/excerpt.ts";
import { judgeAllByModel, judgeAllByRule } from "../../src/simulator/judge.ts";
import { judgePrompt, labelIn, usualJudgePrompt } from "../../src/simulator/model-judge.ts";
import { judgeByRule } from "../../src/simulator/rule-judge.ts";
import { promptText } from "../../src/text/prompt.ts";
import { containsAnswer, usualRules } from "../../src/util/normalise-answer.ts";

const search = (query: string, texts: readonly string[], more: Partial<CollectedSearch> = {}): CollectedSearch => ({
  turn: 0,
  query,
  documents: texts.map((text, i) => ({ text, id: `${query}-${i}` })),
  ...more,
});
const rollout = (index: number, searches: readonly CollectedSearch[], more: Partial<CollectedRollout> = {}): CollectedRollout => ({
  index,
  rollout: 0,
  question: { id: `q${index}`, question: `Who wrote book ${index}?`, goldenAnswers: ["Jane Austen"], dataSource: "test" },
  answer: "Jane Austen",
  f1: 1,
  searches: searches.map((one, turn) => ({ ...one, turn })),
  ...more,
});
const options: ExampleOptions = {
  seed: 1,
  template: tunedSimulatorTemplate,
  rules: usualRules,
  documents: 2,
  maxWords: 0,
  sets: "sorted",
  randomNoise: 0,
  keepNoisy: 1,
  distractorWeight: 1,
  validationShare: 0,
  provenance: { engine: "bm25", policy: "p", judge: "rule", sets: "sorted" },
};
const labelled = (rollouts: readonly CollectedRollout[]): JudgedRollout[] => judgeAllByRule(rollouts, 0, usualRules);
const made = (rollouts: readonly CollectedRollout[], more: Partial<ExampleOptions> = {}) =>
  makeExamples(rollouts, labelled(rollouts), { ...options, ...more });

describe("an excerpt", () => {
  const filler = (n: number): string => Array.from({ length: n }, (_, i) => `filler${i}`).join(" ");

  it("of a long document is where the query's words are, from the beginning of a sentence", () => {
    const text = `${filler(50)}. The tower of Pisa leans south. ${filler(50)}`;
    const cut = excerpt({ text }, "Which way does the tower of Pisa lean?", 10).text;
    expect(cut.split(" ")).toHaveLength(10);
    expect(cut).toMatch(/^The tower of Pisa leans south\. filler0/);
  });

  it("of a short one is the whole on one line, and of one without the query's words its beginning", () => {
    expect(excerpt({ text: " a\n b ", title: "t" }, "x", 10)).toEqual({ text: "a b", title: "t" });
    expect(excerpt({ text: filler(30) }, "nothing of it", 5).text).toBe(filler(5));
    expect(excerpt({ text: filler(30) }, "", 0).text).toBe(filler(30));
  });

  it("has at most as many words as asked for, all in a row of the document", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.integer({ min: 1, max: 12 }), (text, query, most) => {
        const cut = excerpt({ text }, query, most).text;
        const whole = text.split(/\s+/).filter((word) => word !== "");
        const words = cut.split(" ").filter((word) => word !== "");
        expect(words.length).toBe(Math.min(most, whole.length));
        expect(` ${whole.join(" ")} `).toContain(` ${words.join(" ")} `);
      }),
    );
  });
});

describe("the rule", () => {
  const judge = (one: CollectedRollout, at = 0): Label[] => judgeByRule(one, at, one.searches[at]!.documents, usualRules);

  it("takes a document for useful that holds a right answer in words of its own", () => {
    expect(judge(rollout(1, [search("q", ["By jane austen.", "By Jane Austenson.", "By nobody."])]))).toEqual([true, false, false]);
  });

  it("goes by what the query asks for where that is known, not by the question's answer", () => {
    expect(judge(rollout(1, [search("capital", ["Paris.", "Jane Austen."], { answers: ["Paris", "Lyon"] })]))).toEqual([true, false]);
  });

  it("takes a document for useful that the next query's new names were read in, where the rollout answered right", () => {
    const first = search("author of book 1's country", ["He lived in New Albion.", "Albion is old."]);
    const searches = [first, search("who writes in New Albion?", ["Jane Austen."])];
    expect(judge(rollout(1, searches))).toEqual([true, false]);
    expect(judge(rollout(1, searches, { f1: 0 }))).toEqual([false, false]);
  });

  it("reads nothing into a next query without new names", () => {
    expect(judge(rollout(1, [search("book 1", ["it was written."]), search("when was it written", ["x"])]))).toEqual([false]);
  });
});

describe("a model that judges", () => {
  it("is asked about one query and one document, and its last word counts, not its thoughts", () => {
    const prompt = promptText(judgePrompt(usualJudgePrompt, "capital of France", { title: "Paris", text: "is it" }));
    expect(prompt).toContain("Query: capital of France\nDocument: Paris is it\n");
    expect(labelIn("Useful.")).toBe(true);
    expect(labelIn("<think>useful?</think> noisy")).toBe(false);
    expect(labelIn("It is not useful: noisy")).toBe(false);
    expect(labelIn("unusefulness")).toBeNull();
    expect(labelIn("<think>useful")).toBeNull();
  });

  it("is asked once about a document that a query found twice, and tells each rollout as it is done", async () => {
    const asked: string[] = [];
    const told: number[] = [];
    const rollouts = [rollout(0, [search("a", ["x", "y"])]), rollout(1, [search("a", ["x"]), search("b", ["x"])])];
    await judgeAllByModel(
      rollouts,
      0,
      (query, { text }) => {
        asked.push(`${query}${text}`);
        return Promise.resolve(text === "x");
      },
      ({ index, labels }) => {
        told.push(index);
        expect(labels).toEqual(index === 0 ? [[true, false]] : [[true], [true]]);
      },
    );
    expect(asked.sort()).toEqual(["ax", "ay", "bx"]);
    expect(told.sort()).toEqual([0, 1]);
  });
});

describe("examples", () => {
  const five = search("who wrote it", ["About the book.", "Jane Austen did.", "A film.", "A map.", "Jane Austen's house."]);

  it("are what a simulator is asked and what it should answer, with where they are from", () => {
    const [useful, noisy] = made([rollout(3, [five])]).train;
    expect(useful).toEqual({
      system: "",
      prompt:
        'You are the Google search engine.\nGiven a query, you need to generate five useful documents for the query.\n\nThe user is trying to answer the question: "Who wrote book 3?" whose answer is Jane Austen.\nEach document should contain about 30 words, and these documents should contain useful information.\n\nQuery: who wrote it\nUseful Output:\n',
      output: "Doc 1: About the book.\nDoc 2: Jane Austen did.",
      kind: "useful",
      query: "who wrote it",
      question_id: "q3",
      data_source: "test",
      rollout: 0,
      turn: 0,
      labels: ["noisy", "useful"],
      sources: ["who wrote it-0", "who wrote it-1"],
      provenance: options.provenance,
    });
    expect([noisy!.kind, noisy!.output]).toEqual(["noisy", "Doc 1: About the book.\nDoc 2: A film."]);
    expect(noisy!.prompt.endsWith("Query: who wrote it\nNoisy Output:\n")).toBe(true);
  });

  it("of sets as they were returned: useful where a document is, else noisy; one set of a search", () => {
    const found = (texts: string[]) => made([rollout(1, [search("q", texts)])], { sets: "returned" });
    expect(found(["x", "Jane Austen", "y"]).train.map(({ kind, output }) => [kind, output])).toEqual([
      ["useful", "Doc 1: x\nDoc 2: Jane Austen"],
    ]);
    expect(found(["x", "y", "Jane Austen"]).train.map(({ kind }) => kind)).toEqual(["noisy"]);
  });

  it("have a useful document where a set is useful, first where it was found behind the others", () => {
    const { train } = made([rollout(1, [search("q", ["a", "b", "c", "Jane Austen"])])]);
    expect(train.map(({ output }) => output)).toEqual(["Doc 1: Jane Austen\nDoc 2: a", "Doc 1: a\nDoc 2: b"]);
  });

  it("never tell the answer in a noisy set, or where the query asks for something else", () => {
    // A judge that takes a document for noisy that holds the answer.
    const one = rollout(1, [search("q", ["Jane Austen", "a", "b", "c"])]);
    const wrong: JudgedRollout[] = [{ index: 1, rollout: 0, labels: [[false, false, false, true]] }];
    expect(makeExamples([one], wrong, options).train.map(({ kind, output }) => [kind, output])).toEqual([
      ["useful", "Doc 1: c\nDoc 2: Jane Austen"],
      ["noisy", "Doc 1: a\nDoc 2: b"],
    ]);
    const sloppy = rollout(1, [search("q", ["Paris and Jane Austen", "Paris", "a", "b"], { answers: ["Paris"] })]);
    const { train, counts } = made([sloppy]);
    expect(train.map(({ kind, output }) => [kind, output])).toEqual([
      ["useful", "Doc 1: Paris\nDoc 2: a"],
      ["noisy", "Doc 1: a\nDoc 2: b"],
    ]);
    expect(counts.leaks).toBe(2);
  });

  it("never tell it in a noisy set, whatever stands around the name", () => {
    const told = ["Bach's fugue", "a pre-Bach fugue", "Bach/Petipa", "Bach\u2014Leipzig", "Ba\u00adch", "\u00abBach\u00bb"];
    const one = rollout(1, [search("q", [...told, "Bachus", "Offenbach"])], {});
    const asked = { ...one, question: { ...one.question, goldenAnswers: ["Bach"] } };
    const all: JudgedRollout[] = [{ index: 1, rollout: 0, labels: [Array(8).fill(false)] }];
    expect(makeExamples([asked], all, options).train.map(({ output }) => output)).toEqual(["Doc 1: Bachus\nDoc 2: Offenbach"]);
    const japanese = rollout(1, [search("q", ["首都は東京です", "大阪", "京都"])]);
    const there = { ...japanese, question: { ...japanese.question, goldenAnswers: ["東京"] } };
    const none: JudgedRollout[] = [{ index: 1, rollout: 0, labels: [[false, false, false]] }];
    expect(makeExamples([there], none, options).train.map(({ output }) => output)).toEqual(["Doc 1: 大阪\nDoc 2: 京都"]);
  });

  it("are made once of a query for a question, and not of searches that failed or found too little", () => {
    const rollouts = [
      rollout(1, [five, search("Who wrote it?", ["a", "b"]), search("x", [], { failure: "away" })]),
      rollout(1, [five], { rollout: 1 }),
      rollout(2, [search("y", ["only one"])]),
    ];
    const { train, counts } = made(rollouts);
    expect(train).toHaveLength(2);
    expect(counts).toMatchObject({ searches: 5, failed: 1, repeated: 2, short: 1, useful: 1, noisy: 1 });
  });

  it("weigh what is beside the point in a useful set as they are told", () => {
    const [useful, noisy] = made([rollout(1, [five])], { distractorWeight: 0.3 }).train;
    expect(useful!.output).toEqual([
      { text: "Doc 1: About the book.\n", weight: 0.3 },
      { text: "Doc 2: Jane Austen did.", weight: 1 },
    ]);
    expect(typeof noisy!.output).toBe("string");
  });

  it("draw noise from other searches where asked to, never this search's documents or the answer", () => {
    const rollouts = Array.from({ length: 20 }, (_, i) => rollout(i, [search(`q${i}`, [`Jane Austen ${i}`, `own ${i}`, `more ${i}`])]));
    const { train } = made(rollouts, { randomNoise: 1 });
    const noisy = train.filter(({ kind }) => kind === "noisy");
    expect(noisy).toHaveLength(20);
    for (const { output, query, labels } of noisy) {
      expect(labels).toEqual(["other", "other"]);
      expect(output).not.toMatch(new RegExp(`(own|more) ${query.slice(1)}$`, "m"));
      expect(containsAnswer(String(output), ["Jane Austen"], usualRules)).toBe(false);
    }
    expect(made(rollouts, { randomNoise: 1 }).train).toEqual(train);
  });

  it("draw for training nothing that was found for a question that is held out, and for those from such questions alone", () => {
    // All find one document that others find as well: what a held-out question found is not for training, whoever found it too.
    const rollouts = Array.from({ length: 60 }, (_, i) =>
      rollout(i, [search(`q${i}`, [`Jane Austen ${i}`, `own ${i}.`, `more ${i}.`, `shared ${i % 7}.`])]),
    );
    const { train, validation } = made(rollouts, { randomNoise: 1, validationShare: 0.2 });
    const held = new Set(validation.map((one) => one.question_id));
    expect(held.size).toBeGreaterThan(4);
    const found = (isHeld: boolean): Set<string> =>
      new Set(
        rollouts
          .filter(({ question }) => held.has(question.id) === isHeld)
          .flatMap((one) => one.searches.flatMap(({ documents }) => documents.map(({ text }) => text))),
      );
    const drawn = (part: typeof train): string[] =>
      part
        .filter(({ labels }) => labels.every((label) => label === "other"))
        .flatMap(({ output }) =>
          String(output)
            .split("\n")
            .map((line) => line.replace(/^Doc \d: /, "")),
        );
    expect(drawn(train).length).toBeGreaterThan(60);
    expect(drawn(train).filter((text) => found(true).has(text))).toEqual([]);
    expect(drawn(validation).length).toBeGreaterThan(5);
    expect(drawn(validation).filter((text) => !found(true).has(text))).toEqual([]);
  });

  it("keep their own noise where no other search of their kind found enough", () => {
    const rollouts = Array.from({ length: 2 }, (_, i) => rollout(i, [search(`q${i}`, [`Jane Austen ${i}`, "same one.", "same two."])]));
    const { train, counts } = made(rollouts, { randomNoise: 1 });
    expect([train.filter(({ kind }) => kind === "noisy").map(({ labels }) => labels), counts.short]).toEqual([
      [
        ["noisy", "noisy"],
        ["noisy", "noisy"],
      ],
      0,
    ]);
  });

  it("keep the share of noisy sets that is asked for, and all useful ones", () => {
    const rollouts = Array.from({ length: 200 }, (_, i) => rollout(i, [five]));
    const { train, counts } = made(rollouts, { keepNoisy: 0.25 });
    expect(counts.useful).toBe(200);
    expect(counts.noisy).toBeGreaterThan(30);
    expect(counts.noisy).toBeLessThan(70);
    expect(train.filter(({ kind }) => kind === "noisy")).toHaveLength(counts.noisy);
    expect(made(rollouts, { keepNoisy: 0 }).counts.noisy).toBe(0);
  });

  it("of one question are all held out or none, by the question's text alone", () => {
    const rollouts = Array.from({ length: 60 }, (_, i) => rollout(i, [five, search("more", ["a", "b", "Jane Austen", "c"])]));
    const { train, validation } = made(rollouts, { validationShare: 0.3 });
    const held = new Set(validation.map((one) => one.question_id));
    expect(train.length + validation.length).toBe(240);
    expect(held.size).toBeGreaterThan(8);
    expect(held.size).toBeLessThan(30);
    expect(train.filter((one) => held.has(one.question_id))).toEqual([]);
    const later = made(rollouts.slice(30), { validationShare: 0.3 }).validation;
    expect(later.every((one) => held.has(one.question_id))).toBe(true);
  });
});
