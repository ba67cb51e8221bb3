import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { enginesUsed, readOverride, resolveConfig, type Config } from "../../src/config/index.ts";
import { keys, sections } from "../../src/config/keys.ts";
import { engines } from "../../src/search/engines.ts";
import { engineNames } from "../../src/search/settings.ts";
import { FirstSearch } from "../../src/search/first-search.ts";
import { ask, type Engine, type SearchEngine, type SimulatorRequest, type Simulator } from "../../src/search/search-engine.ts";
import { Closing } from "../../src/setup/closing.ts";
import { Engines } from "../../src/setup/open-engines.ts";
import { ConfigError } from "../../src/util/errors.ts";

const asked: SimulatorRequest = {
  query: "capital",
  question: "Capital of France?",
  goldenAnswers: ["Paris"],
  key: { step: 3, question: 7, rollout: 1 },
  turn: 0,
};

/** Engines that remember all they were given. */
function spies(): { readonly told: unknown[]; readonly real: SearchEngine; readonly simulator: Simulator } {
  const told: unknown[] = [];
  const close = async (): Promise<void> => undefined;
  const documents = [{ text: "x" }];
  return {
    told,
    real: {
      name: "real",
      search: async (...given) => {
        told.push(given);
        return { documents, kind: "real" };
      },
      close,
    },
    simulator: {
      name: "made up",
      simulate: async (...given) => {
        told.push(given);
        return { documents, kind: "noisy", noiseProbability: 0.5 };
      },
      noiseProbability: (step) => step / 10,
      close,
    },
  };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-engines-"));
  writeFileSync(join(folder, "corpus.jsonl"), '{"id": 1, "text": "Paris is the capital of France."}\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

const configOf = (...settings: string[]): Config =>
  resolveConfig(["model.policy=p", "data.train=t", `data.corpus=${join(folder, "corpus.jsonl")}`, ...settings].map(readOverride));

describe("golden answers", () => {
  it("and the question reach simulators, and no other engine", async () => {
    const { told, real, simulator } = spies();
    const { query, key, turn } = asked;
    await ask(real, asked);
    await ask(simulator, asked);
    expect(told).toEqual([[{ query, key, turn }], [asked]]);
    expect(JSON.stringify(told[0])).not.toContain("Paris");
  });

  it("pass through an engine that wraps others to simulators only", async () => {
    const { told, real, simulator } = spies();
    const wrapped: Engine = new FirstSearch(simulator, new FirstSearch(simulator, real));
    for (const turn of [0, 1]) await ask(wrapped, { ...asked, turn });
    const { query, key } = asked;
    expect(told).toEqual([[asked], [{ query, key, turn: 1 }]]);
    expect(new FirstSearch(real, simulator).noiseProbability(3)).toBeCloseTo(0.3);
  });
});

describe("an engine's result", () => {
  it("without a list of documents is an error that names the engine", async () => {
    const { real } = spies();
    const wrong = (documents: unknown): SearchEngine => ({ ...real, search: async () => ({ documents, kind: "real" }) as never });
    await expect(ask(wrong("Doc 1: x"), asked)).rejects.toThrow(
      'search engine real: its result holds no documents; expected documents, a list of {text}, got "Doc 1: x"',
    );
    const circle: { self?: unknown } = {};
    circle.self = circle;
    for (const documents of [undefined, null, circle, 3n])
      await expect(ask(wrong(documents), asked)).rejects.toThrow("search engine real: its result holds no documents; expected documents");
    for (const nothing of [undefined, null, "text"])
      await expect(ask({ ...real, search: async () => nothing as never }, asked)).rejects.toThrow("its result holds no documents");
    for (const documents of [[null], [{ title: "x" }], [{ text: 5 }], ["Doc"]])
      await expect(ask(wrong([{ text: "x" }, ...documents]), asked)).rejects.toThrow(
        /search engine real: document 2 of its result has no text; expected (\{text\}|text), a text, got /,
      );
    await expect(ask({ ...real, search: async () => ({ documents: [], text: 5, kind: "real" }) as never }, asked)).rejects.toThrow(
      "the text of its result is none; expected a text, or nothing, got 5",
    );
  });
});

describe("the table of engines", () => {
  it("has an entry under every name that search.engine offers, and its settings are a section of the configuration", () => {
    expect(Object.keys(engines)).toEqual([...engineNames]);
    for (const { name, section, schema } of Object.values(engines)) {
      expect(sections.find((one) => one.name === section)?.doc).toContain(`Search engine \`${name}\``);
      const defaults = schema.parse(undefined) as object;
      expect(keys.filter((key) => key.section === section).map(({ key }) => key)).toEqual(
        Object.keys(defaults).map((key) => `${section}.${key}`),
      );
    }
  });

  it("has errors that name the engine's own settings", async () => {
    const context = {
      seed: 1,
      noise: { start: 0, end: 0, steps: 1 },
      corpus: join(folder, "corpus.jsonl"),
      promptSet: () => ({ simulator: "" }),
      now: () => 0,
      say: () => undefined,
    };
    await expect(engines.bm25.open({ documents: 0, index: null }, context)).rejects.toThrow("bm25.documents: wrong number of documents");
    await expect(engines.bm25.open({ documents: 1, index: null }, { ...context, corpus: null })).rejects.toThrow("data.corpus: is missing");
    const settings = engines.simulated.schema.parse({});
    await expect(engines.simulated.open(settings, context)).rejects.toThrow("simulator.path: is missing");
    await expect(engines.simulated.open({ ...settings, endpoint: "x" }, context)).rejects.toThrow("simulator.endpoint: is no URL");
    await expect(engines.simulated.open({ ...settings, prompt: "quickstart" }, context)).rejects.toThrow("simulator.prompt=quickstart:");
  });
});

describe("the engines of a configuration", () => {
  const openAll = (config: Config, closing: Closing) => Engines.open(config, enginesUsed(config, "train"), closing);

  it("are those that are asked: of training, of judging, and a simulator that is given for the table of noise", () => {
    const test = ["data.test=t", "simulator.path=s"];
    expect(enginesUsed(configOf("simulator.path=s"), "train")).toEqual(["simulated"]);
    expect(enginesUsed(configOf("search.engine=bm25"), "train")).toEqual(["bm25"]);
    expect(enginesUsed(configOf(...test), "train")).toEqual(["simulated", "bm25"]);
    expect(enginesUsed(configOf(...test), "evaluate")).toEqual(["bm25", "simulated"]);
    expect(enginesUsed(configOf(...test, "evaluation.robustness=false"), "evaluate")).toEqual(["bm25"]);
    expect(enginesUsed(configOf("search.engine=bm25", "data.validation=v", "train.validateEvery=0"), "train")).toEqual(["bm25"]);
  });

  it("are none where the method never searches, but for those that its baselines ask", async () => {
    const direct = "rollout.method=direct";
    expect(enginesUsed(configOf(direct), "train")).toEqual([]);
    expect(enginesUsed(configOf(direct, "data.validation=v", "simulator.path=s"), "train")).toEqual([]);
    expect(enginesUsed(configOf(direct, "data.test=t", "simulator.path=s"), "train")).toEqual(["bm25"]);
    expect(enginesUsed(configOf(direct, "data.test=t", "evaluation.baselines=false"), "evaluate")).toEqual([]);
    // a program's own method may search
    expect(enginesUsed(configOf(direct, "simulator.path=s"), "train", true)).toEqual(["simulated"]);
    const engines = await openAll(configOf(direct), new Closing());
    await expect(ask(engines.get("simulated"), asked)).rejects.toThrow("search engine simulated: is not open");
  });

  it("are opened once each and closed with the rest; a simulator on a model of this process waits for it", async () => {
    const closing = new Closing();
    const opened = await openAll(configOf("search.engine=bm25", "data.test=t"), closing);
    expect(await ask(opened.get("bm25"), asked)).toMatchObject({ documents: [{ text: "Paris is the capital of France." }], kind: "real" });
    expect(opened.simulate).toBeNull();
    expect(opened.takeCounts()).toEqual({});
    await closing.close();
    await expect(ask(opened.get("bm25"), asked)).rejects.toThrow();
    const waiting = await openAll(configOf("simulator.path=s"), closing);
    expect(waiting.simulate).toBeNull();
  });

  it("may be modules: an engine, or a function that opens one with search.settings", async () => {
    const module = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const engine = module(
      "engine.mjs",
      `export default { name: "mine", search: async ({ query }) => ({ documents: [{ text: query }], kind: "real" }), close: async () => {} };\n`,
    );
    const kind = module(
      "kind.mjs",
      `export default async ({ text }, { seed }) => ({
        name: "opened", search: async () => ({ documents: [{ text: text + seed }], kind: "real" }), close: async () => {} });\n`,
    );
    const closing = new Closing();
    const of = async (file: string, ...settings: string[]) =>
      ask((await openAll(configOf(`search.engine=${file}`, ...settings), closing)).get(file), asked);
    expect((await of(engine)).documents).toEqual([{ text: "capital" }]);
    expect((await of(kind, 'search.settings={"text":"seed "}', "seed=7")).documents).toEqual([{ text: "seed 7" }]);
    await expect(of(module("wrong.mjs", "export default 1;\n"))).rejects.toThrow(ConfigError);
    await closing.close();
  });
});
