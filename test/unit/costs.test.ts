/** What a run cost, in words and numbers, and a budget that ends before it is exceeded. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readOverride, resolveConfig, type Config } from "../../src/config/index.ts";
import { costText, noteCosts, paidSearches, readCosts } from "../../src/run/costs.ts";
import { Budget, knownPrices } from "../../src/search/prices.ts";
import { errorOf } from "../helpers/message-of.ts";

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

  it("know what services ask for, the cheapest of a currency first", () => {
    expect(knownPrices().map(({ name, price }) => `${name} ${price.perThousand} ${price.currency}`)).toEqual([
      "brave 5 USD",
      "tavily 8 USD",
      "bocha 36 CNY",
      "bocha-ai 60 CNY",
    ]);
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
});
