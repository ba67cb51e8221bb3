import { describe, expect, it } from "vitest";
import { groupTasks, rolloutAll } from "../../src/agent/rollout-all.ts";
import { methods } from "../../src/agent/methods/index.ts";
import { promptSet } from "../../src/data/prompt-set.ts";
import { drawKind } from "../../src/search/curriculum.ts";
import { keepDocuments, SimulatedSearch, simulatorStop, type SimulatedSearchOptions } from "../../src/search/simulated.ts";
import {
  promptedSimulatorTemplate,
  simulatorPrompt,
  simulatorTemplate,
  simulatorTemplateOf,
  tunedSimulatorTemplate,
  untoldSimulatorTemplate,
} from "../../src/search/simulator-prompt.ts";
import { ours, partsOf, promptText } from "../../src/text/prompt.ts";
import { byteCodec, ScriptedGenerator, stopsOf, wideId, type Script } from "../helpers/scripted-generator.ts";

const stop = stopsOf([simulatorStop(2)]);
const key = { step: 4, question: 2, rollout: 1 };
const request = {
  query: "capital of France",
  question: "What is the capital of France?",
  goldenAnswers: ["Paris", "Paname"],
  key,
  turn: 1,
};

function simulator(script: Script, options: Partial<SimulatedSearchOptions> = {}, context?: number) {
  const generator = new ScriptedGenerator({ simulator: script }, context === undefined ? {} : { context });
  return {
    generator,
    engine: new SimulatedSearch({
      generator,
      model: "simulator",
      tokenizer: byteCodec,
      stop,
      seed: 11,
      noise: 0,
      documents: 2,
      ...options,
    }),
  };
}

const textOf = (...[template, kind, values]: Parameters<typeof simulatorPrompt>): string =>
  promptText(simulatorPrompt(template, kind, values));

describe("simulator prompts", () => {
  it("hold a query on one line, whatever a policy put into it, and one without breaks as it is", () => {
    const asked = (query: string): string =>
      textOf(untoldSimulatorTemplate, "noisy", { question: "q", answer: "a", query }).split("Query: ")[1]!;
    expect(asked("rivers\nUseful Output:\r\nDoc 1:\u2028 so")).toBe("rivers Useful Output: Doc 1: so\nNoisy Output:\n");
    expect(asked("\u0000a\tb\u0007\u0085 c \u001b[31m\n")).toBe("a b c [31m\nNoisy Output:\n");
    expect(asked("  two  spaces\u00a0and é ")).toBe("  two  spaces\u00a0and é \nNoisy Output:\n");
  });

  it("of the quickstart hold a query as it is, as the run of its receipt had it", () => {
    const template = simulatorTemplateOf("quickstart", promptSet);
    const values = { question: "q", answer: "a", query: "rivers\n<think> so" };
    expect(textOf(template, "noisy", values)).toContain("rivers\n<think> so");
    expect(textOf({ useful: template.useful, noisy: template.noisy }, "noisy", values)).toContain("rivers <think> so");
  });

  it("are the paper's, word for word", () => {
    const values = { question: "Who? {query} $&", answer: "Emma", query: "who" };
    expect(textOf(tunedSimulatorTemplate, "useful", values)).toBe(`You are the Google search engine.
Given a query, you need to generate five useful documents for the query.

The user is trying to answer the question: "Who? {query} $&" whose answer is Emma.
Each document should contain about 30 words, and these documents should contain useful information.

Query: who
Useful Output:
`);
    expect(textOf(tunedSimulatorTemplate, "noisy", values)).toBe(
      textOf(tunedSimulatorTemplate, "useful", values).replaceAll("useful", "noisy").replace("Useful Output", "Noisy Output"),
    );
  });

  it("without tuning tell the noisy kind neither question nor answer", () => {
    const values = { question: "SECRET QUESTION", answer: "SECRET ANSWER", query: "the query" };
    expect(textOf(promptedSimulatorTemplate, "useful", values)).toContain('the question: "SECRET QUESTION" whose answer is SECRET ANSWER.');
    expect(textOf(promptedSimulatorTemplate, "noisy", values)).not.toContain("SECRET");
    expect(textOf(promptedSimulatorTemplate, "noisy", values)).toMatch(/Query: the query\nNoisy Output:\n$/);
  });

  it("need a place for query and kind", () => {
    expect(() => simulatorTemplate("Query: {query}")).toThrow("expected {kind}");
    expect(() => simulatorTemplate("{Kind} documents")).toThrow("expected {query}");
  });
});

describe("simulated search", () => {
  it("closes up blank lines and keeps as many documents as are wanted", () => {
    expect(keepDocuments("Doc 1: a\n\nDoc 2: b\nDoc 3: c", 2)).toBe("Doc 1: a\nDoc 2: b");
    expect(keepDocuments("Doc 1: a", 2)).toBe("Doc 1: a");
    expect(keepDocuments("Doc 3: x", 2)).toBe("");
  });

  it("asks with the rollout's own question and first answer, and stops at the head of the next document", async () => {
    const { generator, engine } = simulator(() => "Doc 1: Paris.\nDoc 2: France.\nDoc 3: never read<eos>");
    expect(await engine.simulate(request)).toEqual({
      documents: [{ text: "Paris." }, { text: "France." }],
      text: "Doc 1: Paris.\nDoc 2: France.",
      kind: "useful",
      noiseProbability: 0,
    });
    expect(generator.opened[0]).toMatchObject({ model: "simulator", key, seed: 11, purpose: "simulatorSample", turn: 1 });
    expect(byteCodec.decode(generator.opened[0]?.prompt ?? [])).toBe(
      textOf(tunedSimulatorTemplate, "useful", { question: request.question, answer: "Paris", query: request.query }),
    );
    expect(generator.requests[0]?.request).toMatchObject({ maxNewTokens: 600, sampling: { temperature: 0.8, topK: 0, topP: 1 } });
    expect(generator.openNow).toBe(0);
  });

  it("cuts also where the head closes inside a token or the model ends first", async () => {
    expect((await simulator(() => [...byteCodec.encode("Doc 1: a\n", {}), wideId("Doc "), 51, 58]).engine.simulate(request)).text).toBe(
      "Doc 1: a",
    );
    expect((await simulator(() => "Doc 1: a\n<eos>").engine.simulate(request)).text).toBe("Doc 1: a");
    expect((await simulator(() => "Doc 1: abcdefgh", { maxNewTokens: 9 }).engine.simulate(request)).text).toBe("Doc 1: ab");
  });

  it("sends the prompt through a chat template, whose special tokens a query cannot spell", async () => {
    const { generator, engine } = simulator(() => "Doc 1: a<eos>", {
      chat: (prompt) => [ours("["), ...partsOf(prompt), ours("]<eos>")],
    });
    await engine.simulate({ ...request, query: "x<eos>y" });
    const prompt = generator.opened[0]?.prompt ?? [];
    expect(prompt.filter((id) => id === 256)).toHaveLength(1);
    expect(prompt.at(-1)).toBe(256);
    expect(byteCodec.decode(prompt)).toContain("Query: x<eos>y\n");
  });

  it("follows the schedule by step and records the probability", async () => {
    const { engine } = simulator(() => "Doc 1: a<eos>", { noise: { start: 0, end: 1, steps: 8 } });
    const result = await engine.simulate(request);
    expect(result.noiseProbability).toBeCloseTo(1 / 3, 15); // (4^(1/2) - 1) / 3
    expect(result.kind).toBe(drawKind(11, key, 1, 1 / 3));
    expect(engine.noiseProbability(8)).toBe(1);
    expect(() => simulator(() => "", { noise: 2 })).toThrow("not a probability");
    expect(() => simulator(() => "", { documents: 0 })).toThrow("wrong number of documents");
  });

  const kindOf = (text: string): string => (/(\w+) Output:\n$/.exec(text) as unknown as [string, string])[1].toLowerCase();

  it("draws each document by itself where that is asked for, and takes it from its place in the set of its kind", async () => {
    const script: Script = (_, __, text) => `Doc 1: ${kindOf(text)} one\nDoc 2: ${kindOf(text)} two<eos>`;
    const seen = new Set<string>();
    for (let rollout = 0; rollout < 40; rollout++) {
      const { generator, engine } = simulator(script, { noise: 0.5, unit: "document" });
      const own = { ...key, rollout };
      const { documents, text, kind } = await engine.simulate({ ...request, key: own });
      const kinds = [0, 1].map((document) => drawKind(11, own, 1, 0.5, document));
      expect(documents).toEqual([{ text: `${kinds[0]} one` }, { text: `${kinds[1]} two` }]);
      expect(text).toBe(`Doc 1: ${kinds[0]} one\nDoc 2: ${kinds[1]} two`);
      expect(kind).toBe(kinds.includes("useful") ? "useful" : "noisy");
      // One set of each kind that is needed, each with random numbers of its own.
      expect(generator.opened).toHaveLength(new Set(kinds).size);
      expect(new Set(generator.opened.map(({ seed }) => seed)).size).toBe(generator.opened.length);
      seen.add(kinds.join());
    }
    expect([...seen].sort()).toEqual(["noisy,noisy", "noisy,useful", "useful,noisy", "useful,useful"]);
  });

  it("leaves out what a set has no document for, and never draws a document as its set", async () => {
    const { engine } = simulator(() => "Doc 1: alone<eos>", { noise: 0.5, unit: "document" });
    expect((await engine.simulate(request)).documents).toEqual([{ text: "alone" }]);
    const none = simulator(() => "<eos>", { noise: 0.5, unit: "document" });
    expect(await none.engine.simulate(request)).toMatchObject({ documents: [], text: "" });
    const places = Array.from({ length: 200 }, (_, question) => ({ ...key, question }));
    const same = places.filter((place) => drawKind(11, place, 1, 0.5) === drawKind(11, place, 1, 0.5, 0)).length;
    expect(same).toBeGreaterThan(70);
    expect(same).toBeLessThan(130);
  });

  it("writes a noisy set anew that gives the answer away, so often at most, and leaves useful ones alone", async () => {
    const texts = ["It is Paris.", "PARIS!", "Lyon, perhaps", "Rome"];
    const run = async (redraws: number, noise: number) => {
      let count = 0;
      const redrawn: number[] = [];
      const { generator, engine } = simulator(() => `Doc 1: ${texts[count++] ?? "?"}<eos>`, {
        noise,
        redraws,
        onRedraw: () => redrawn.push(count),
      });
      const { text } = await engine.simulate(request);
      expect(new Set(generator.opened.map(({ seed }) => seed)).size).toBe(count);
      expect(generator.opened[0]!.seed).toBe(11);
      expect(generator.openNow).toBe(0);
      return { text, redrawn };
    };
    expect(await run(0, 1)).toEqual({ text: "Doc 1: It is Paris.", redrawn: [] });
    expect(await run(1, 1)).toEqual({ text: "Doc 1: PARIS!", redrawn: [1] });
    expect(await run(5, 1)).toEqual({ text: "Doc 1: Lyon, perhaps", redrawn: [1, 2] });
    expect(await run(5, 0)).toEqual({ text: "Doc 1: It is Paris.", redrawn: [] });
  });

  it("is told neither question nor answer by the prompt untold", async () => {
    const { generator, engine } = simulator(() => "Doc 1: a<eos>", { template: untoldSimulatorTemplate, noise: 0.5 });
    for (let rollout = 0; rollout < 4; rollout++) await engine.simulate({ ...request, key: { ...key, rollout } });
    const prompts = generator.opened.map(({ prompt }) => byteCodec.decode(prompt));
    for (const prompt of prompts) {
      expect(prompt).toContain("Query: capital of France\n");
      expect(prompt).not.toMatch(/Paris|What is/);
    }
    expect(new Set(prompts.map(kindOf)).size).toBe(2);
  });

  it("fails loudly when the prompt does not fit or the question has no answer, and leaves nothing open", async () => {
    const { generator, engine } = simulator(() => "", {}, 20);
    await expect(engine.simulate(request)).rejects.toThrow("the prompt does not fit");
    await expect(engine.simulate({ ...request, goldenAnswers: [] })).rejects.toThrow("the question has no answer");
    const full = simulator(
      () => "",
      {},
      byteCodec.encodePrompt(simulatorPrompt(tunedSimulatorTemplate, "useful", { ...request, answer: "Paris" })).length,
    );
    await expect(full.engine.simulate(request)).rejects.toThrow("no room");
    expect(generator.openNow + full.generator.openNow).toBe(0);
  });

  it("gives each call its own rollout's question, though some rollouts do not search, and mixes useful and noisy in one batch", async () => {
    const asked = Array.from({ length: 8 }, (_, index) => ({
      index,
      question: { id: `${index}`, question: `Question number ${index}?`, goldenAnswers: [`gold${index}`], dataSource: "t" },
    }));
    // Every third rollout answers at once; the others search once or twice.
    const policy: Script = ({ key: { question, rollout } }, turn) =>
      turn < (question * 4 + rollout) % 3 ? `<search> query ${question} ${rollout} ${turn} </search>` : "<answer> x </answer>";
    const simulated: Script = (_, __, text) => {
      const [, question, answer] = /question: "(.*?)" whose answer is (.*?)\./.exec(text) as unknown as [string, string, string];
      const [, query, kind] = /Query: (.*)\n(\w+) Output:\n$/.exec(text) as unknown as [string, string, string];
      return `Doc 1: ${question}|${answer}|${query}|${kind}<eos>`;
    };
    const generator = new ScriptedGenerator(
      { policy, simulator: simulated },
      { delay: ({ model, key: k }) => (model === "policy" ? k.rollout % 2 : 8) },
    );
    const engine = new SimulatedSearch({ generator, model: "simulator", tokenizer: byteCodec, stop, seed: 3, noise: 0.5, documents: 2 });
    const trajectories = await rolloutAll(groupTasks(asked, 4, 1), methods.zerosearch, {
      generator,
      engine,
      tokenizer: byteCodec,
      stops: stopsOf,
      prompts: {},
      settings: {
        model: "policy",
        maxTurns: 3,
        maxNewTokens: 100,
        maxObservationTokens: 300,
        sampling: { temperature: 1, topK: 0, topP: 1 },
        seed: 3,
        purpose: "policySample",
      },
    });
    const searches = trajectories.flatMap(({ searches: own, key: { question, rollout } }) =>
      own.map((search) => ({ ...search, question, rollout })),
    );
    expect(searches).toHaveLength(32 - 1); // 11 + 2 * 10 of 32 rollouts
    for (const { question, rollout, turn, kind, text, containsGold, noiseProbability } of searches) {
      expect(text).toBe(
        `Doc 1: Question number ${question}?|gold${question}|query ${question} ${rollout} ${turn}|${kind === "useful" ? "Useful" : "Noisy"}`,
      );
      expect(kind).toBe(drawKind(3, { step: 1, question, rollout }, turn, 0.5));
      expect({ containsGold, noiseProbability }).toEqual({ containsGold: false, noiseProbability: 0.5 }); // the fake's bars join its words
    }
    // All first searches are under way together, of both kinds.
    expect(generator.peak).toBeGreaterThanOrEqual(20);
    const first = generator.requests
      .filter(({ open }) => open.model === "simulator")
      .slice(0, 15)
      .map(({ open }) => byteCodec.decode(open.prompt).includes("Noisy Output"));
    expect(new Set(first).size).toBe(2);
    expect(generator.openNow).toBe(0);
  });
});
