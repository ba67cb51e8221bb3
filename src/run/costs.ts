/**
 * What a run costs. `costs.jsonl` has a row for each step and each evaluation: seconds, and what was asked of engines outside. Unlike the other logs
 * it is never cut: what a killed program paid for is paid.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config/index.ts";
import { formatTable } from "../log/table.ts";
import { readHttpApi } from "../search/http-api.ts";
import { knownPrices, paidEngines, priceOf } from "../search/prices.ts";
import { attempt } from "../util/errors.ts";
import { logFolder } from "./run.ts";

export const costsFile = "costs.jsonl";

export interface CostRow {
  readonly part: "training" | "validation" | "evaluation";
  /** Training steps behind it. */
  readonly step: number;
  readonly seconds: number;
  /** Searches that a simulator answered. */
  readonly simulated: number;
  /** What was asked of engines outside, as the metrics under `time/` name it. */
  readonly counts: Readonly<Record<string, number>>;
}

/** Adds a row. Where it cannot be written the other logs say so. */
export function noteCosts(config: Config, row: CostRow): void {
  attempt(() => {
    appendFileSync(join(logFolder(config), costsFile), `${JSON.stringify(row)}\n`);
  }, undefined);
}

export interface Costs {
  readonly seconds: number;
  /** In training. */
  readonly simulated: number;
  readonly counts: Readonly<Record<string, number>>;
}

/** All that the programs of a run have noted. */
export function readCosts(config: Config): Costs {
  const file = join(logFolder(config), costsFile);
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  // A line that a killed program left half written is no row.
  const rows = lines.flatMap((line) => attempt<CostRow | null>(() => JSON.parse(line) as CostRow, null) ?? []);
  const counts: Record<string, number> = {};
  for (const row of rows) for (const [name, count] of Object.entries(row.counts)) counts[name] = (counts[name] ?? 0) + count;
  const sum = (of: (row: CostRow) => number): number => rows.reduce((total, row) => total + of(row), 0);
  return { seconds: sum(({ seconds }) => seconds), simulated: sum(({ part, simulated }) => (part === "training" ? simulated : 0)), counts };
}

/** Searches that were paid for, by engine. */
export function paidSearches({ counts }: Pick<Costs, "counts">): Readonly<Record<string, number>> {
  return Object.fromEntries(paidEngines.map((name) => [name, counts[`${name}_requests`] ?? 0]));
}

interface Line {
  readonly what: string;
  readonly amount: string;
  readonly price: string | null;
  readonly cost: string | null;
}

const thousands = (value: number): string => Math.round(value).toLocaleString("en-US");
const money = (value: number, currency: string): string => `${value.toFixed(value < 10 ? 3 : 2)} ${currency}`;

/**
 * What a run cost, as a table, and what services would have asked for the searches that were simulated in place of theirs. A price that is not known is "-". Empty where
 * nothing was paid for and nothing simulated.
 */
export function costText(config: Config, costs: Costs): string {
  const { deviceHour, currency, promptMillion, completionMillion } = config.cost;
  const api = config.http.api === null ? undefined : readHttpApi(config.http.api);
  const line = (what: string, amount: string, count: number, each: { price: number; per: string; currency: string } | null): Line => ({
    what,
    amount,
    price: each === null ? null : `${each.price} ${each.currency} / ${each.per}`,
    cost: each === null ? null : money(count * each.price, each.currency),
  });
  const priced = (price: number, per: string) => (price === 0 ? null : { price, per, currency });
  const searches = paidEngines.map((name) => ({ name, count: paidSearches(costs)[name] ?? 0 })).filter(({ count }) => count > 0);
  const [prompt, completion] = [costs.counts["simulator_prompt_tokens"] ?? 0, costs.counts["simulator_completion_tokens"] ?? 0];
  const hours = costs.seconds / 3600;
  const searchedBy = ({ name, count }: (typeof searches)[number]): Line => {
    const price = priceOf(config, name);
    const each = price === null ? null : { price: price.perThousand, per: "1,000", currency: price.currency };
    return line(`searches by ${name === "http" ? (api?.name ?? name) : name}`, thousands(count), count / 1000, each);
  };
  const lines = [
    ...searches.map(searchedBy),
    ...(prompt === 0 ? [] : [line("tokens read by the endpoint", thousands(prompt), prompt / 1e6, priced(promptMillion, "million"))]),
    ...(completion === 0
      ? []
      : [line("tokens written by the endpoint", thousands(completion), completion / 1e6, priced(completionMillion, "million"))]),
    ...(deviceHour === 0 && searches.length + prompt + completion === 0
      ? []
      : [line("hours of the device", hours.toFixed(hours < 1 ? 3 : 2), hours, priced(deviceHour, "hour"))]),
  ];
  const columns = [
    { title: "what it cost", value: (one: Line) => one.what },
    { title: "amount", value: (one: Line) => one.amount },
    { title: "price", value: (one: Line) => one.price },
    { title: "cost", value: (one: Line) => one.cost },
  ];
  return [...(lines.length === 0 ? [] : [formatTable(columns, lines)]), ...instead(costs.simulated)].join("\n");
}

/** What services would have asked for so many searches. */
function instead(searches: number): string[] {
  if (searches === 0) return [];
  const prices = knownPrices().map(({ name, price }) => `${name} ${money((searches * price.perThousand) / 1000, price.currency)}`);
  return [
    `The ${thousands(searches)} searches of training were simulated. A service would have asked for them: ${prices.join(", ")} (docs/costs.md).`,
  ];
}
