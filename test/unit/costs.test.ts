/** What a run cost, in words and numbers, and a budget that ends before it is exceeded. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readOverride, resolveConfig, type Config } from "../../src/config/index.ts";
import { collectionOf, costText, noteCosts, paidSearches, readCosts } from "../../src/run/costs.ts";
import { forecastSearches, forecastText, simulatorPromptTokens } from "../../src/plan/forecast.ts";
import type { Question } from "../../src/rl/trajectory.ts";
import { ChatClient } from "../../src/search/chat-client.ts";
import { tokenCounter } from "../../src/search/estimate-tokens.ts";
import { Budget, knownPrices } from "../../src/search/prices.ts";
import { ask } from "../../src/search/search-engine.ts";
import { Closing } from "../../src/setup/closing.ts";
import { Engines } from "../../src/setup/open-engines.ts";
import { openChatServer } from "../helpers/chat-server.ts";
import { errorOf } from "../helpers/message-of.ts";
import { openSearchServer } from "../helpers/search-server.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "zerosearch-costs-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const config = (...more: string[]): Config =>
  resolveConfig(["model.policy=p", "data.train=t", "simulator.path=s", "name=c", `output.runs=${folder}`, ...more].map(readOverride));

describe("costs", () => {
  it("are the sum of all that the programs of a run noted, of those that were killed too", () => {
    mkdirSync(join(folder, "c"), { recursive: true });
    const counts = { http_requests: 3, simulator_prompt_tokens: 500 };
    noteCosts(config(), { part: "training", step: 1, seconds: 10, simulated: 40, counts });
    noteCosts(config(), { part: "training", step: 1, seconds: 10, simulated: 40, counts });
    noteCosts(config(), { part: "validation", step: 1, seconds: 5, simulated: 7, counts: { http_requests: 100 } });
    // What a killed program left half written.
    writeFileSync(join(folder, "c", "costs.jsonl"), '{"part":"trai', { flag: "a" });
    const costs = readCosts(config());
    expect(costs).toEqual({ seconds: 25, simulated: 80, counts: { http_requests: 106, simulator_prompt_tokens: 1000 } });
    expect(paidSearches(costs)).toEqual({ http: 106, mcp: 0 });
    expect(readCosts({ ...config(), name: "none" })).toEqual({ seconds: 0, simulated: 0, counts: {} });
  });

  it("are told with their prices, and without where none is known", () => {
    const costs = {
      seconds: 5400,
      simulated: 2000,
      counts: { http_requests: 1500, simulator_prompt_tokens: 2_000_000, simulator_completion_tokens: 500_000 },
    };
    const prices = ["cost.deviceHour=2.5", "cost.promptMillion=0.1", "cost.completionMillion=0.4", "http.api=tavily"];
    expect(costText(config(...prices), costs).split("\n")).toEqual([
      "what it cost                       amount              price       cost",
      "──────────────────────────────  ─────────  ─────────────────  ─────────",
      "searches by tavily                  1,500      8 USD / 1,000  12.00 USD",
      "tokens read by the endpoint     2,000,000  0.1 USD / million  0.200 USD",
      "tokens written by the endpoint    500,000  0.4 USD / million  0.200 USD",
      "hours of the device                  1.50     2.5 USD / hour  3.750 USD",
      "The 2,000 searches of training were simulated. A service would have asked for them: brave 10.00 USD, tavily 16.00 USD, bocha 72.00 CNY, bocha-ai 120.00 CNY (docs/costs.md).",
    ]);
    const mcp = { seconds: 0, simulated: 0, counts: { mcp_requests: 2500 } };
    expect(costText(config("mcp.price=3", "cost.currency=EUR"), mcp)).toMatch(/^searches by mcp +2,500 +3 EUR \/ 1,000 +7\.500 EUR$/m);
    const unknown = costText(config("http.api=serper"), { ...costs, simulated: 0 });
    expect(unknown).toMatch(/^searches by serper +1,500 +- +-$/m);
    expect(unknown).not.toContain("simulated");
    expect(costText(config(), { seconds: 100, simulated: 0, counts: {} })).toBe("");
  });

  it("have those of the collection beside them, and in how many runs it has paid for itself", () => {
    const file = join(folder, "report.json");
    const line = (what: string, value: number, currency: string) => ({
      what,
      amount: "1",
      price: null,
      cost: null,
      sum: { value, currency },
    });
    const cost = [line("searches by tavily", 100, "USD"), line("tokens read by the judge", 20, "USD"), { ...line("x", 0, ""), sum: null }];
    writeFileSync(file, JSON.stringify({ rollouts: 3, cost }));
    const collected = collectionOf(config(`cost.collection=${file}`));
    const text = costText(config(), { seconds: 60, simulated: 2000, counts: {} }, collected);
    expect(text).toMatch(/^collection: searches by tavily +1 +- +-$/m);
    // 2,000 searches are 10 USD with brave, 16 with tavily.
    expect(text).toContain(
      "The collection cost 120.00 USD, once: what searches would have cost in so many runs like this one: 12 with brave, 7.5 with tavily.",
    );
    expect(costText(config(), { seconds: 60, simulated: 0, counts: {} }, collected)).not.toContain("once");
    expect(() => collectionOf(config("cost.collection=none.json"))).toThrow(/cost\.collection=none\.json: cannot be read/);
    writeFileSync(file, "{}");
    expect(() => collectionOf(config(`cost.collection=${file}`))).toThrow(/is no report of a collection/);
  });

  it("know what services ask for, the cheapest of a currency first", () => {
    expect(knownPrices().map(({ name, price }) => `${name} ${price.perThousand} ${price.currency}`)).toEqual([
      "brave 5 USD",
      "tavily 8 USD",
      "bocha 36 CNY",
      "bocha-ai 60 CNY",
    ]);
  });
});

describe("tokens that an endpoint does not count", () => {
  it("are counted by o200k_base, and told apart from those it counts itself", async () => {
    const said = (usage: object | null) => ({
      body: { choices: [{ message: { content: "Doc 1: Paris" } }], ...(usage === null ? {} : { usage }) },
    });
    const usages = [
      null,
      { prompt_tokens: 50 },
      { prompt_tokens: 60, completion_tokens: 7 },
      { prompt_tokens: "9", completion_tokens: -1 },
    ];
    const server = await openChatServer((_, i) => said(usages[i] ?? null));
    const client = new ChatClient({ endpoint: server.endpoint, model: "m", concurrency: 1, timeout: 5, patience: 0, now: () => 0 });
    const messages = [
      { role: "system", content: "" },
      { role: "user", content: "useful hello world" },
    ] as const;
    const request = { messages, maxTokens: 9, temperature: 0, topP: 1, topK: 0, stop: "x", seed: 1, jitter: () => 0 };
    while (server.asked.length < usages.length) await client.complete(request);
    await server.close();
    // use|ful| hello| world, and Doc| |1|:| Paris: of the prompt in the first and the last, of the answer in all but the third.
    expect(client.takeCounts()).toMatchObject({
      promptTokens: 110,
      completionTokens: 7,
      estimatedPromptTokens: 2 * 4,
      estimatedCompletionTokens: 3 * 5,
    });
  });

  it("are estimated in time, whatever the text", async () => {
    const count = await tokenCounter();
    expect(count("a <|endoftext|> b")).toBeGreaterThan(3);
    expect(count("")).toBe(0);
    // o200k_base has tokens of many spaces, and of eight letters a.
    for (const text of ["a", " ", "\n", "\u5929", "\ud800", "ab "]) {
      const from = performance.now();
      const tokens = count(text.repeat(2 ** 20));
      expect(performance.now() - from, JSON.stringify(text)).toBeLessThan(10_000);
      expect(tokens).toBeGreaterThan(2 ** 12);
      expect(tokens).toBeLessThanOrEqual(3 * 2 ** 20);
    }
  });

  it("have lines of their own at the end of a run, with what they are", () => {
    const counts = {
      simulator_prompt_tokens: 1_000_000,
      simulator_prompt_tokens_estimated: 500_000,
      simulator_completion_tokens_estimated: 2_000_000,
    };
    const lines = costText(config("cost.promptMillion=0.5", "cost.completionMillion=2"), { seconds: 3600, simulated: 0, counts }).split(
      "\n",
    );
    expect(lines.slice(2)).toEqual([
      "tokens read by the endpoint                1,000,000  0.5 USD / million  0.500 USD",
      "tokens read by the endpoint, estimated       500,000  0.5 USD / million  0.250 USD",
      "tokens written by the endpoint, estimated  2,000,000    2 USD / million  4.000 USD",
      "hours of the device                             1.00                  -          -",
      "Estimated, by the tokenizer o200k_base: the endpoint did not say how many tokens these were (docs/costs.md).",
    ]);
  });
});

describe("what a run would cost", () => {
  const question = (i: number, hops: number): Question => {
    return { id: String(i), question: "hello world", goldenAnswers: ["x"], dataSource: "d", metadata: { hops } };
  };
  const questions = {
    train: Array.from({ length: 250 }, (_, i) => question(i, 1)),
    validation: Array.from({ length: 5 }, (_, i) => question(i, 1)),
    test: [1, 1, 2, 1, 2, 1].map((hops, i) => question(i, hops)),
  };
  const sizes = ["train.steps=10", "train.questionsPerStep=4", "train.groupSize=3", "rollout.maxTurns=3", "train.validateEvery=4"];
  const files = ["data.validation=v", "data.test=w", "data.corpus=c"];

  it("is its searches, in training, in three validations and before and after with RAG beside, at their price", async () => {
    const all = config(
      ...sizes,
      ...files,
      "simulator.path=null",
      "search.engine=http",
      "evaluation.engine=http",
      "http.api=tavily",
      "search.budget=1",
    );
    // 10 x 4 x 3 rollouts, 3 x 5 of validation, 2 x 6 of the test, and as many of RAG, which searches once.
    expect(forecastSearches(all, questions, "train")).toEqual([{ engine: "http", once: 120 + 15 + 12 + 12, most: 360 + 45 + 36 + 12 }]);
    expect((await forecastText(all, questions, "train")).split("\n")).toEqual([
      "what it would cost, estimated          price  at one search a rollout          at most",
      "─────────────────────────────  ─────────────  ───────────────────────  ───────────────",
      "searches by tavily             8 USD / 1,000          159 = 1.272 USD  453 = 3.624 USD",
      "Together about 1.272 USD at one search a rollout, 3.624 USD at most. This is an estimate (docs/costs.md).",
      "search.budget=1 is enough for 125 searches.",
    ]);
    expect(forecastSearches(all, questions, "evaluate")).toEqual([{ engine: "http", once: 6 + 6, most: 18 + 6 }]);
    const direct = config(
      ...sizes,
      ...files,
      "search.engine=http",
      "http.api=tavily",
      "rollout.method=direct",
      "evaluation.baselines=false",
    );
    expect(await forecastText(direct, questions, "train")).toBe("");
  });

  it("is the tokens of the simulator's endpoint, of its own prompt for these questions, and of texts as long as they may be", async () => {
    const prompt = join(folder, "simulator.md");
    writeFileSync(prompt, "{kind} {query}");
    const endpoint = [
      "simulator.path=null",
      "simulator.endpoint=http://127.0.0.1:9/v1",
      `simulator.prompt=${prompt}`,
      "simulator.maxNewTokens=100",
    ];
    const prices = ["cost.promptMillion=2", "cost.completionMillion=5", "simulator.redraws=1"];
    const all = config(...sizes, ...files, ...endpoint, ...prices);
    // Four of the six questions are of one hop: asked after useless documents and after useful ones, before and after.
    expect(forecastSearches(all, questions, "train").find(({ engine }) => engine === "simulated")).toEqual({
      engine: "simulated",
      once: 120 + 16,
      most: 360 + 48,
    });
    // use|ful| hello| world, and no|isy| hello| world.
    expect(await simulatorPromptTokens(all, questions.train)).toBe(4);
    const text = await forecastText(all, questions, "train");
    expect(text).toMatch(/^tokens read by the endpoint \(4 a text\) +2 USD \/ million +544 = 0\.001 USD +3,264 = 0\.007 USD$/m);
    expect(text).toMatch(/^tokens written by it \(100 a text at most\) +5 USD \/ million +13,600 = 0\.068 USD +81,600 = 0\.408 USD$/m);
    expect(text).toContain("Together about 0.069 USD at one search a rollout, 0.415 USD at most.");
    const few = { ...questions, validation: [], test: [] };
    expect(await forecastText(all, few, "train")).toMatch(/^data\.validation is not here: .*\ndata\.test is not here: /m);
  });

  it("is the tokens of an embedding server: of the corpus where there is no index, and of the queries", async () => {
    const corpus = join(folder, "passages.jsonl");
    writeFileSync(corpus, ["hello world", "hello"].map((text, i) => `${JSON.stringify({ id: String(i), text })}\n`).join(""));
    const dense = ["evaluation.engine=dense", "dense.endpoint=http://127.0.0.1:9/v1", "dense.endpointModel=m", `data.corpus=${corpus}`];
    const text = await forecastText(config(...sizes, ...files, ...dense, "cost.embeddingMillion=3"), questions, "train");
    // " hello", " world" and " hello": 3 tokens of the corpus, and at least one a query.
    const [, once = "", most = ""] =
      /^tokens embedded by the endpoint \(the corpus, and queries\) +3 USD \/ million +([\d,]+) = .* +([\d,]+) = /m.exec(text) ?? [];
    expect(Number(once.replaceAll(",", ""))).toBeGreaterThan(10);
    expect(Number(most.replaceAll(",", ""))).toBeGreaterThan(Number(once.replaceAll(",", "")));
    const indexed = await forecastText(config(...sizes, ...files, ...dense, "dense.index=i"), questions, "train");
    expect(indexed).toMatch(/^tokens embedded by the endpoint +- +[\d,]+ +/m);
  });

  it("is nothing where nothing that is asked has a price or is an endpoint", async () => {
    expect(await forecastText(config(...sizes, ...files), questions, "train")).toBe("");
  });
});

describe("a budget", () => {
  it("ends before the search that would exceed it, and counts what an earlier program spent", async () => {
    const asked: string[] = [];
    const engine = {
      name: "http (x)",
      search: async ({ query }: { query: string }) => ({ documents: [{ text: String(asked.push(query)) }], kind: "real" as const }),
      close: async () => undefined,
    };
    const budget = new Budget(0.05);
    budget.resume(3, { perThousand: 8, currency: "USD" });
    const paid = budget.over(engine, { perThousand: 8, currency: "USD" });
    const search = (query: string) => paid.search({ query, key: { step: 1, question: 0, rollout: 0 }, turn: 0 });
    // .05 / .008 = 6.25: three more.
    for (const query of ["a", "b", "c"]) await search(query);
    const error = await errorOf(() => search("d"));
    expect(error.message).toContain(
      "search.budget=0.05: one more search by http (x) would exceed it; expected at most 0.05 USD for searches at 8 USD per 1,000, got 6 searches so far",
    );
    expect(asked).toEqual(["a", "b", "c"]);
  });

  it("is refused where nothing is paid, or nobody knows what a search costs", () => {
    expect(() => config("search.budget=1")).toThrow("search.budget is never used; expected null, or an engine that is paid (http, mcp)");
  });

  it("that no search can be paid from is refused before a model is loaded, unless searches are recorded: these cost nothing", async () => {
    const server = await openSearchServer(({ query }) => ({ json: { results: [{ body: `about ${query["q"] ?? ""}` }] } }));
    const file = join(folder, "paid.yaml");
    writeFileSync(
      file,
      `vendor: https://a.example/\nchecked: "2026-11-30"\nverified: true\nprice: { perThousand: 10, currency: USD, page: "https://a.example/" }\nurl: ${server.url}\nmethod: GET\nquery: { q: "{query}" }\nreply: { results: results, text: body }\n`,
    );
    const recording = join(folder, "searches.sqlite");
    const open = async (budget: number, closing: Closing, budgetHint?: string) => {
      const given = config("evaluation.engine=http", "data.test=t", `http.api=${file}`, `search.budget=${budget}`);
      const search = { ...given.search, record: recording, replay: recording };
      return (await Engines.open({ ...given, search }, ["http"], closing, budgetHint === undefined ? {} : { budgetHint })).get("http");
    };
    const asked = (query: string) => ({ query, key: { step: 0, question: 0, rollout: 0 }, turn: 0, question: "", goldenAnswers: [] });
    const closing = new Closing();
    try {
      for (const budget of [0, 0.009])
        expect((await errorOf(() => open(budget, closing))).message).toBe(
          `search.budget=${budget}: is less than one search by http (paid) costs; expected 0.01 USD or more, or null for no limit, got ${budget}\n  Nothing is paid for searches that a recording answers (search.replay=FILE).`,
        );
      await closing.close();
      expect((await ask(await open(0.01, closing), asked("a"))).documents).toEqual([{ text: "about a" }]);
      await closing.close();
      const replayed = await open(0, closing, "Ask again.");
      expect((await ask(replayed, asked("a"))).documents).toEqual([{ text: "about a" }]);
      expect((await errorOf(() => ask(replayed, asked("b")))).message).toMatch(
        /one more search .* would exceed it.*got 0 searches so far\n {2}Ask again\.$/,
      );
      expect(server.asked).toHaveLength(1);
    } finally {
      await closing.close();
      await server.close();
    }
  });
});
