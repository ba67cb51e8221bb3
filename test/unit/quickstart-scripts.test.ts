import { describe, expect, it } from "vitest";
import { loadCountryRecords, makeCountries } from "../../src/data/quickstart/countries.ts";
import { DocumentMaker, defaultNoiseShares, hopAnswers, makeHops } from "../../src/data/quickstart/documents.ts";
import { Cast, inventedSource } from "../../src/data/quickstart/invented.ts";
import { simulatorPrompt } from "../../src/data/quickstart/prompts.ts";
import { makeRandom } from "../../src/data/random.ts";
import { defaultSentenceShares } from "../../src/data/quickstart/relations.ts";
import { defaultSpoil, skillOptions } from "../../src/data/quickstart/policy-options.ts";
import { PolicyScript, segmentText } from "../../src/data/quickstart/scripted-policy.ts";
import { heldOutCases } from "../../src/data/quickstart/simulator-cases.ts";
import { makeSearchWorld } from "../../src/data/quickstart/search-world.ts";
import { SimulatorScript, simulatorOptions } from "../../src/data/quickstart/scripted-simulator.ts";
import { containsAny, containsWords } from "../../src/data/quickstart/words.ts";
import { makeWorld } from "../../src/data/quickstart/world.ts";

const world = makeWorld(makeCountries(loadCountryRecords()));
const source = inventedSource(world);

describe("document sets", () => {
  const cast = new Cast(source, "test/documents");
  const maker = new DocumentMaker(makeRandom("test/documents"), cast, defaultSentenceShares);
  const random = makeRandom("test/hops");
  const hops = Array.from({ length: 1500 }, () => makeHops(cast.subject(), random.chance(0.5) ? 2 : 1, random) ?? []).flat();

  it("are three documents; useful ones tell the hop's value, noisy ones never an answer", () => {
    for (const hop of hops) {
      const useful = maker.useful(hop);
      const noisy = maker.noisy(hop, defaultNoiseShares);
      expect([useful.length, noisy.length, new Set(useful).size, new Set(noisy).size]).toEqual([3, 3, 3, 3]);
      expect(useful.some((text) => text.includes(hop.value) && text.includes(hop.country.name))).toBe(true);
      expect(noisy.filter((text) => containsAny(text, hopAnswers(hop)))).toEqual([]);
    }
  });

  it("are noisy about other countries alone in at least half of the sets, and of the kind asked for", () => {
    const facts = hops.filter((hop) => hop.kind === "fact");
    const naming = (shares: typeof defaultNoiseShares): number =>
      facts.filter((hop) => maker.noisy(hop, shares).some((text) => containsWords(text, hop.country.name))).length / facts.length;
    expect(naming(defaultNoiseShares)).toBeLessThan(0.5);
    expect(naming({ foreign: 1, sameRelation: 0, sameCountry: 0, mixed: 0 })).toBeLessThan(0.02);
    expect(naming({ foreign: 0, sameRelation: 0, sameCountry: 1, mixed: 0 })).toBeGreaterThan(0.97);
  });
});

describe("scripted trajectories", () => {
  it("follow the protocol: prompt, turns that end in a closing tag, the exact observation, the answer last", () => {
    const script = new PolicyScript(source, "test/format", { ...skillOptions, directShare: 0, ragShare: 0 });
    for (let i = 0; i < 300; i++) {
      const segments = script.next();
      expect(segments[0]!.kind).toBe("prompt");
      expect(segments[0]!.text).toMatch(/^Question: .+\?\n$/);
      segments.slice(1).forEach((segment, j) => {
        expect(segment.kind).toBe(j % 2 === 0 ? "policy" : "observation");
        const last = j === segments.length - 2;
        if (segment.kind === "observation")
          expect(segment.text).toMatch(/^\n\n<information>Doc 1: .+\.\nDoc 2: .+\.\nDoc 3: .+\.<\/information>\n\n$/);
        else
          expect(segment.text).toMatch(
            last ? /^<think> .+ <\/think><answer> .+ <\/answer>$/ : /^<think> .+ <\/think><search> .+ <\/search>$/,
          );
      });
      expect(segments).toHaveLength(segments.length - (segments.length % 2));
    }
  });

  it("say that the asked is unknown after noise only, search again in other words, and quote the answer otherwise", () => {
    const script = new PolicyScript(source, "test/thought", { ...skillOptions, directShare: 0, ragShare: 0 });
    let missing = 0;
    let found = 0;
    for (let i = 0; i < 200; i++) {
      const segments = script.next(1);
      const answer = /<answer> (.+) <\/answer>$/.exec(segments[segments.length - 1]!.text)![1]!;
      for (let j = 3; j < segments.length; j += 2) {
        const [before, documents, turn] = [segments[j - 2]!.text, segments[j - 1]!.text, segments[j]!.text];
        const told = containsWords(documents, answer);
        expect(turn.includes(" unknown. </think>")).toBe(!told);
        if (told) {
          found++;
          expect(turn.endsWith(`${answer}. </think><answer> ${answer} </answer>`)).toBe(true);
        } else {
          missing++;
          const queryOf = (text: string): string => /<search> (.+) <\/search>/.exec(text)![1]!;
          expect(queryOf(turn)).not.toBe(queryOf(before));
        }
      }
    }
    expect(missing / (missing + found)).toBeGreaterThan(0.25);
    expect(missing / (missing + found)).toBeLessThan(0.42);
  });

  it("have a base model's habits in the shares asked for, but see noise all the same", () => {
    const script = new PolicyScript(source, "test/spoil", {
      ...skillOptions,
      directShare: 0,
      ragShare: 0,
      spoil: defaultSpoil,
    });
    const texts = Array.from({ length: 1500 }, () => segmentText(script.next()));
    const share = (test: (text: string) => boolean, of = texts): number => of.filter(test).length / of.length;
    expect(share((text) => text.includes("I know this. </think><answer>"))).toBeGreaterThan(0.4);
    expect(share((text) => text.includes("I know this. </think><answer>"))).toBeLessThan(0.6);
    expect(
      share((text) => !/<\/answer>$/.test(text) || /I know this\. [^<]*<\/answer>/.test(text) || !text.includes("<answer>")),
    ).toBeLessThan(0.06);
    const noise = texts.filter((text) => text.includes(" unknown. </think>"));
    // A trajectory may meet noise more than once, and guess each time.
    const guessed = share((text) => / unknown\. <\/think><answer>/.test(text), noise);
    expect(guessed).toBeGreaterThan(defaultSpoil.guessAfterNoise - 0.03);
    expect(guessed).toBeLessThan(2 * defaultSpoil.guessAfterNoise);
    const bridged = texts.filter(
      (text) =>
        text.includes("First find") &&
        /(?<! unknown)\. <\/think>(<answer>|<search> (?!country with))/.test(text.slice(text.indexOf("</information>"))),
    );
    expect(share((text) => text.split("<search>").length === 2, bridged)).toBeGreaterThan(0.3);
  });

  it("are the same for the same purpose", () => {
    const texts = (): string[] => {
      const script = new PolicyScript(source, "test/same");
      return Array.from({ length: 20 }, () => segmentText(script.next()));
    };
    expect(texts()).toEqual(texts());
  });
});

describe("simulator examples", () => {
  interface Made {
    readonly question: string;
    readonly answer: string;
    readonly query: string;
    readonly useful: boolean;
    readonly documents: string[];
    readonly weights: number[];
  }
  const make = (purpose: string, options = simulatorOptions, count = 600): Made[] => {
    const script = new SimulatorScript(source, purpose, options);
    return Array.from({ length: count }, () => {
      const [head, ...documents] = script.next();
      const [, question, answer, query, kind] = /^Question: "(.+)" answer: (.+)\nQuery: (.+)\n(Useful|Noisy) Output:\n$/.exec(head!.text)!;
      return {
        question: question!,
        answer: answer!,
        query: query!,
        useful: kind === "Useful",
        documents: documents.map((one) => one.text),
        weights: documents.map((one) => one.weight),
      };
    });
  };
  const only = (kind: "last" | "bridge" | "sloppy"): typeof simulatorOptions => ({
    ...simulatorOptions,
    drill: 0,
    kinds: { last: 0, bridge: 0, sloppy: 0, [kind]: 1 },
  });
  const holds = (example: Made): boolean => example.documents.some((text) => containsWords(text, example.answer));
  const share = (list: readonly Made[], test: (example: Made) => boolean): number => list.filter(test).length / list.length;

  it("put their values where the prompt has its places, whatever they spell", () => {
    const request = { question: "Q {answer}?", answer: "A", query: "$& x", useful: false };
    expect(simulatorPrompt(request)).toBe('Question: "Q {answer}?" answer: A\nQuery: $& x\nNoisy Output:\n');
  });

  it("hold the gold in useful sets whose query asks for it, and in no noisy or sloppy set", () => {
    const last = make("test/sim/last", only("last"));
    expect(
      share(
        last.filter((one) => one.useful),
        holds,
      ),
    ).toBeGreaterThan(0.97); // of several right answers another may be told
    expect(
      share(
        last.filter((one) => !one.useful),
        holds,
      ),
    ).toBe(0);
    expect(share(make("test/sim/sloppy", only("sloppy")), holds)).toBe(0);
    for (const example of last)
      expect(example.documents.every((text, i) => text.startsWith(`Doc ${i + 1}: `) && text.endsWith(i < 2 ? ".\n" : "."))).toBe(true);
  });

  it("answer the first of two hops with the country, never with the final answer, and of real training countries mostly", () => {
    const bridge = make("test/sim/bridge", only("bridge"));
    expect(share(bridge, holds)).toBe(0);
    const useful = bridge.filter((one) => one.useful);
    const countryOf = (example: Made): string | undefined => {
      const [, relation, value] = /whose (capital|demonym|country code) is (.+)\?$/.exec(example.question)!;
      const key = relation === "country code" ? "iso" : (relation as "capital" | "demonym");
      return world.training.find((country) => country.facts[key]?.[0] === value)?.name;
    };
    const real = useful.filter((one) => countryOf(one) !== undefined);
    expect(real.length / useful.length).toBeGreaterThan(0.85);
    expect(share(real, (one) => one.documents.some((text) => containsWords(text, countryOf(one)!)))).toBeGreaterThan(0.97); // an invented country may have borrowed the value
  });

  it("drill the bridge facts of training countries, of which only the country's name is learnt", () => {
    const script = new SimulatorScript(source, "test/sim/drill", { ...simulatorOptions, drill: 1 });
    for (let i = 0; i < 200; i++) {
      const segments = script.next();
      const learnt = segments.filter(({ weight }) => weight === 1);
      expect(learnt).toHaveLength(3);
      for (const { text } of learnt) expect(world.training.some(({ name }) => text === ` ${name}.`)).toBe(true);
      expect(segments.map(({ text }) => text).join("")).toMatch(/^Doc 1: .+ is the .+\.\nDoc 2: .+\.\nDoc 3: .+\.$/);
    }
  });

  it("do not name the asked country in most noisy sets, and weigh useful documents above distractors", () => {
    const last = make("test/sim/noise", only("last"));
    const named = (example: Made): boolean => {
      const country = example.query.replace(
        /^.* of | (capital|region|subregion|language|currency|demonym|internet domain|country code|\w+ name|neighbour)$|\?$/g,
        "",
      );
      return example.documents.some((text) => containsWords(text, country));
    };
    expect(
      share(
        last.filter((one) => !one.useful),
        named,
      ),
    ).toBeLessThan(0.35);
    expect(last.filter((one) => !one.useful).every((one) => one.weights.every((weight) => weight === 1))).toBe(true);
    expect(last.filter((one) => one.useful).every((one) => one.weights.includes(1))).toBe(true);
  });

  it("are judged by cases whose sloppy queries ask for something else than the gold", () => {
    const cases = heldOutCases(world, "test/cases", 60);
    expect(cases).toHaveLength(360);
    const golds = (one: (typeof cases)[number]): boolean => one.asked.some((value) => one.golds.includes(value));
    expect(cases.filter((one) => one.kind === "sloppy" && golds(one))).toEqual([]);
    expect(cases.filter((one) => one.kind === "last" && !golds(one))).toEqual([]);
    expect(cases.filter((one) => one.kind !== "bridge").every((one) => one.split === "test")).toBe(true);
  });
});

describe("searches for the simulator", () => {
  const made = makeSearchWorld(source, { seed: 3, count: 1500 });
  const held = [...world.split.validation, ...world.split.test].flatMap(({ aliases }) => aliases);

  it("are the same for a seed, and others for another", () => {
    expect(makeSearchWorld(source, { seed: 3, count: 1500 })).toEqual(made);
    expect(makeSearchWorld(source, { seed: 4, count: 1500 }).questions[0]).not.toEqual(made.questions[0]);
  });

  it("name no country that is held out, in question, query or passage", () => {
    for (const { question, metadata } of made.questions) expect(containsAny(`${question}\n${metadata.queries[0].query}`, held)).toBe(false);
    for (const { text } of made.passages) expect(containsAny(text, held), text).toBe(false);
  });

  it("ask for the answer, the country between two hops, or something else, in the shares that are asked for", () => {
    const share = (kind: string): number => made.questions.filter(({ metadata }) => metadata.kind === kind).length / 1500;
    expect(share("last")).toBeCloseTo(0.5, 1);
    expect(share("bridge")).toBeCloseTo(0.22, 1);
    const only = makeSearchWorld(source, { seed: 3, count: 50, kinds: { last: 0, bridge: 1, sloppy: 0 } });
    expect(only.questions.every(({ metadata }) => metadata.kind === "bridge")).toBe(true);
    for (const { golden_answers, metadata } of made.questions.filter((one) => one.metadata.kind === "last"))
      expect([...metadata.queries[0].answers].sort()).toEqual([...golden_answers].sort());
  });

  it("have a passage for what most queries ask for, and one country for each value that stands for one", () => {
    const texts = made.passages.map(({ text }) => text).join("\n");
    const answered = made.questions.filter(({ metadata }) => containsAny(texts, metadata.queries[0].answers));
    expect(answered.length).toBeGreaterThan(1450);
    const owners = new Map<string, Set<string>>();
    for (const { text } of made.passages) {
      const code = /^(.*) has the country code (\S+)\.$/.exec(text);
      if (code !== null) owners.set(code[2]!, (owners.get(code[2]!) ?? new Set()).add(code[1]!));
    }
    expect(owners.size).toBeGreaterThan(100);
    expect([...owners.values()].filter((one) => one.size > 1)).toEqual([]);
  });
});
