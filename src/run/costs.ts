/**
 * What a run costs. `costs.jsonl` has a row for each step and each evaluation: seconds, and what was asked of engines outside. Unlike the other logs
 * it is never cut: what a killed program paid for is paid.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Config } from "../config/index.ts";
import { formatTable } from "../log/table.ts";
import { engineTitle, money, ofSearches, own, pricedLine, sumsOf, thousands, type PricedLine } from "./priced-line.ts";
import { knownPrices, paidEngines } from "../search/prices.ts";
import { paidLog, withPaid } from "../setup/paid-log.ts";
import { attempt, FileError } from "../util/errors.ts";
import { counted, plural } from "../util/plural.ts";
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
  const all = withPaid(counts, join(logFolder(config), paidLog));
  return {
    seconds: sum(({ seconds }) => seconds),
    simulated: sum(({ part, simulated }) => (part === "training" ? simulated : 0)),
    counts: all,
  };
}

/** Searches that were paid for, by engine. */
export function paidSearches({ counts }: Pick<Costs, "counts">): Readonly<Record<string, number>> {
  return Object.fromEntries(paidEngines.map((name) => [name, counts[`${name}_requests`] ?? 0]));
}

/** Models behind endpoints: as their counts begin, whose tokens they are, and the keys of their prices. */
const endpoints = [
  { name: "simulator", whose: "the endpoint", prices: ["promptMillion", "completionMillion"] },
  { name: "policy", whose: "the policy's endpoint", prices: ["policyPromptMillion", "policyCompletionMillion"] },
  { name: "judge", whose: "the judge", prices: ["judgePromptMillion", "judgeCompletionMillion"] },
] as const;

/** The lines of what was paid for or has a price. */
export function costLines(config: Config, costs: Pick<Costs, "seconds" | "counts">): PricedLine[] {
  const { deviceHour } = config.cost;
  const paid = [...searchLines(config, paidSearches(costs)), ...tokenLines(config, costs), ...embeddingLine(config, costs)];
  const hours = costs.seconds / 3600;
  const ofDevice = pricedLine("hours of the device", hours.toFixed(hours < 1 ? 3 : 2), hours, own(config, deviceHour, "hour"));
  return deviceHour === 0 && paid.length === 0 ? [] : [...paid, ofDevice];
}

/**
 * What a run cost, as a table, and what services would have asked for the searches that were simulated in place of theirs. A price that is not known is "-". Empty where
 * nothing was paid for and nothing simulated.
 * @param collected - the lines of what the simulator learnt from (`collectionOf`)
 */
export function costText(config: Config, costs: Costs, collected: readonly PricedLine[] = []): string {
  const lines = [...costLines(config, costs), ...collected];
  return [
    ...(lines.length === 0 ? [] : [costTable(lines)]),
    ...(lines.some(({ what }) => what.endsWith(estimated)) ? [estimateNote] : []),
    ...instead(costs.simulated),
    ...amortisation(sumsOf(collected), costs.simulated),
  ].join("\n");
}

export function costTable(lines: readonly PricedLine[]): string {
  const columns = [
    { title: "what it cost", value: (one: PricedLine) => one.what },
    { title: "amount", value: (one: PricedLine) => one.amount },
    { title: "price", value: (one: PricedLine) => one.price },
    { title: "cost", value: (one: PricedLine) => one.cost },
  ];
  return formatTable(columns, lines);
}

/** What a collection cost, by its report. */
const collectionSchema = z.looseObject({
  cost: z.array(
    z.strictObject({
      what: z.string(),
      amount: z.string(),
      price: z.string().nullable(),
      cost: z.string().nullable(),
      sum: z.strictObject({ value: z.number().min(0), currency: z.string() }).nullable(),
    }),
  ),
});

/**
 * The lines of the collection that `cost.collection` names; none without one.
 * @throws FileError where the file is missing, or is no report of a collection.
 */
export function collectionOf({ cost: { collection } }: Pick<Config, "cost">): PricedLine[] {
  if (collection === null) return [];
  const expected = "report.json in the folder FILE.collect of zerosearch collect";
  const fault = (what: string, cause: unknown): FileError =>
    new FileError({ where: `cost.collection=${collection}`, what, expected }, { cause });
  let text = "";
  try {
    text = readFileSync(collection, "utf8");
  } catch (cause) {
    throw fault(`cannot be read: ${(cause as Error).message}`, cause);
  }
  const read = collectionSchema.safeParse(attempt<unknown>(() => JSON.parse(text), null));
  if (!read.success) throw fault("is no report of a collection", read.error);
  return read.data.cost.map((line) => ({ ...line, what: `collection: ${line.what}` }));
}

/** In how many runs a collection has paid for itself, by what services would have asked for the searches of this one. */
function amortisation(collected: ReadonlyMap<string, number>, simulated: number): string[] {
  if (simulated === 0) return [];
  return [...collected].flatMap(([currency, sum]) => {
    const each = knownPrices()
      .filter(({ price }) => price.currency === currency)
      .map(({ name, price }) => ({ name, run: (simulated * price.perThousand) / 1000 }));
    if (sum === 0 || each.length === 0) return [];
    const runs = each.map(({ name, run }) => `${(sum / run).toFixed(sum < 10 * run ? 1 : 0)} with ${name}`);
    return [
      `The collection cost ${money(sum, currency)}, once: what searches would have cost in so many runs like this one: ${runs.join(", ")}.`,
    ];
  });
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

function tokenLines(config: Config, { counts }: Pick<Costs, "counts">): PricedLine[] {
  return endpoints.flatMap(({ name, whose, prices: [promptKey, completionKey] }) =>
    ["", "_estimated"].flatMap((kind) => {
      const line = (done: string, part: string, price: number): PricedLine[] => {
        const count = counts[`${name}_${part}_tokens${kind}`] ?? 0;
        const what = `tokens ${done} by ${whose}${kind === "" ? "" : estimated}`;
        return count === 0 ? [] : [pricedLine(what, thousands(count), count / 1e6, own(config, price, "million"))];
      };
      return [...line("read", "prompt", config.cost[promptKey]), ...line("written", "completion", config.cost[completionKey])];
    }),
  );
}

/** Of engine dense with an endpoint. */
function embeddingLine(config: Config, { counts }: Pick<Costs, "counts">): PricedLine[] {
  const count = counts["dense_tokens"] ?? 0;
  const price = own(config, config.cost.embeddingMillion, "million");
  return count === 0 ? [] : [pricedLine("tokens embedded by the endpoint", thousands(count), count / 1e6, price)];
}

/** What services would have asked for so many searches. */
function instead(searches: number): string[] {
  if (searches === 0) return [];
  const prices = knownPrices().map(({ name, price }) => `${name} ${money((searches * price.perThousand) / 1000, price.currency)}`);
  return [
    `The ${counted(searches, "search of training was", "searches of training were")} simulated. A service would have asked for ${plural(searches, "it", "them")}: ${prices.join(", ")} (docs/costs.md).`,
  ];
}
