/**
 * What a run costs. `costs.jsonl` has a row for each step and each evaluation: seconds, and what was asked of engines outside. Unlike the other logs
 * it is never cut: what a killed program paid for is paid.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config/index.ts";
import { formatTable } from "../log/table.ts";
import { engineTitle, money, ofSearches, own, pricedLine, thousands, type PricedLine } from "./priced-line.ts";
import { knownPrices, paidEngines } from "../search/prices.ts";
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

/** Models behind endpoints, as their counts begin, and whose tokens they are. */
const endpoints = [{ name: "simulator", whose: "the endpoint" }] as const;

/**
 * What a run cost, as a table, and what services would have asked for the searches that were simulated in place of theirs. A price that is not known is "-". Empty where
 * nothing was paid for and nothing simulated.
 */
export function costText(config: Config, costs: Costs): string {
  const { deviceHour } = config.cost;
  const paid = [...searchLines(config, paidSearches(costs)), ...tokenLines(config, costs)];
  const hours = costs.seconds / 3600;
  const ofDevice = pricedLine("hours of the device", hours.toFixed(hours < 1 ? 3 : 2), hours, own(config, deviceHour, "hour"));
  const lines = deviceHour === 0 && paid.length === 0 ? [] : [...paid, ofDevice];
  const columns = [
    { title: "what it cost", value: (one: PricedLine) => one.what },
    { title: "amount", value: (one: PricedLine) => one.amount },
    { title: "price", value: (one: PricedLine) => one.price },
    { title: "cost", value: (one: PricedLine) => one.cost },
  ];
  return [
    ...(lines.length === 0 ? [] : [formatTable(columns, lines)]),
    ...(lines.some(({ what }) => what.endsWith(estimated)) ? [estimateNote] : []),
    ...instead(costs.simulated),
  ].join("\n");
}

const estimated = ", estimated";
const estimateNote = "Estimated, by the tokenizer o200k_base: the endpoint did not say how many tokens these were (docs/costs.md).";

function searchLines(config: Config, searches: Readonly<Record<string, number>>): PricedLine[] {
  return paidEngines.flatMap((name) => {
    const count = searches[name] ?? 0;
    return count === 0
      ? []
      : [pricedLine(`searches by ${engineTitle(config, name)}`, thousands(count), count / 1000, ofSearches(config, name))];
  });
}

function tokenLines(config: Config, { counts }: Costs): PricedLine[] {
  const { promptMillion, completionMillion } = config.cost;
  return endpoints.flatMap(({ name, whose }) =>
    ["", "_estimated"].flatMap((kind) => {
      const line = (done: string, part: string, price: number): PricedLine[] => {
        const count = counts[`${name}_${part}_tokens${kind}`] ?? 0;
        const what = `tokens ${done} by ${whose}${kind === "" ? "" : estimated}`;
        return count === 0 ? [] : [pricedLine(what, thousands(count), count / 1e6, own(config, price, "million"))];
      };
      return [...line("read", "prompt", promptMillion), ...line("written", "completion", completionMillion)];
    }),
  );
}

/** What services would have asked for so many searches. */
function instead(searches: number): string[] {
  if (searches === 0) return [];
  const prices = knownPrices().map(({ name, price }) => `${name} ${money((searches * price.perThousand) / 1000, price.currency)}`);
  return [
    `The ${thousands(searches)} searches of training were simulated. A service would have asked for them: ${prices.join(", ")} (docs/costs.md).`,
  ];
}
