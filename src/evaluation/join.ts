/**
 * What several evaluations have judged, as rows of one table. Different policies are judged by different programs, but on the same questions, so that
 * they can be compared question by question. Runs that differ by their seed alone are one row: each question has the mean of their scores.
 */
import { isValid } from "../rl/metrics.ts";
import { rewardNames, type RewardName } from "../rl/reward.ts";
import type { Question } from "../rl/trajectory.ts";
import { DataError, show } from "../util/errors.ts";
import { mean } from "../util/stats.ts";
import type { HealthCounter } from "./health.ts";
import type { JudgedRow } from "./judge.ts";
import type { When } from "./report.ts";
import { sampledTokens, type CellTally, type SetTally } from "./tally.ts";

/** One method with one engine, before or after training. */
export interface PartName {
  readonly method: string;
  readonly engine: string;
  readonly when: When;
}

/** What one folder holds of it. */
export interface Part extends PartName {
  /** The folder, for errors. */
  readonly where: string;
  /** By question. */
  readonly rows: ReadonlyMap<string, KeptRow>;
}

/** What is kept of a row of `judged.jsonl`. */
interface KeptRow extends Readonly<Record<RewardName, number>> {
  readonly question: Pick<Question, "dataSource" | "id" | "question" | "goldenAnswers">;
  readonly searches: number;
  readonly valid: number;
  readonly tokens: number;
}

/**
 * The rows of one folder, taken apart.
 * @param counter - that of a part's health; runs of one row share one
 */
export async function readParts(
  rows: AsyncIterable<JudgedRow>,
  where: string,
  counter: (part: PartName) => HealthCounter,
): Promise<Part[]> {
  const parts = new Map<string, PartReader>();
  for await (const row of rows) {
    const name = partKey(row);
    const part = parts.get(name) ?? new PartReader(row, where, counter(row));
    parts.set(name, part);
    part.add(row);
  }
  return [...parts.values()].map(({ part }) => part);
}

export function partKey({ method, engine, when }: PartName): string {
  return JSON.stringify([method, engine, when]);
}

class PartReader {
  readonly part: Part;
  readonly #rows = new Map<string, KeptRow>();
  readonly #places = new Map<string, number>();
  readonly #health: HealthCounter;

  constructor({ method, engine, when }: PartName, where: string, health: HealthCounter) {
    this.part = { where, method, engine, when, rows: this.#rows };
    this.#health = health;
  }

  add(row: JudgedRow): void {
    const { em, subem, f1, searches } = row;
    const { dataSource, id, question, goldenAnswers } = row.question;
    this.#health.add(row);
    // Ids need not differ: the second row of one is its second question.
    const key = JSON.stringify([dataSource, id]);
    const place = (this.#places.get(key) ?? 0) + 1;
    this.#places.set(key, place);
    this.#rows.set(place === 1 ? key : JSON.stringify([dataSource, id, place]), {
      question: { dataSource, id, question, goldenAnswers },
      ...{ em, subem, f1, searches: searches.length, valid: isValid(row) ? 1 : 0, tokens: sampledTokens(row) },
    });
  }
}

/** A row of the table: one part of each of its runs. */
export interface JoinedRow {
  readonly name: string;
  readonly engine: string;
  /** At least one. */
  readonly parts: readonly Part[];
  readonly health: HealthCounter;
}

/** What one run of a row scored, as means over sets. */
export interface RunScores extends Readonly<Record<RewardName, number>> {
  /** Its folder. */
  readonly source: string;
}

export interface Joined {
  readonly cells: readonly CellTally[];
  /** By row, by run. */
  readonly runs: readonly (readonly RunScores[])[];
  /** By set, in the order of the first row. */
  readonly questions: ReadonlyMap<string, number>;
  /** Questions that not all have answered, which are in none of the numbers but those of health. */
  readonly leftOut: number;
}

/**
 * @param rows - at least one
 * @throws DataError where they have no question in common, or one question is another elsewhere
 */
export function joinRows(rows: readonly JoinedRow[]): Joined {
  const parts = rows.flatMap((row) => row.parts);
  const keys = new Set(parts.flatMap((part) => [...part.rows.keys()]));
  const common = [...keys].filter((key) => parts.every((part) => part.rows.has(key)));
  if (common.length === 0) throw nothingInCommon(parts);
  for (const key of common) checkSame(parts, key);
  const bySet = new Map<string, string[]>();
  for (const key of common) {
    const set = parts[0]?.rows.get(key)?.question.dataSource ?? "";
    const own = bySet.get(set) ?? [];
    bySet.set(set, own);
    own.push(key);
  }
  const sets = [...bySet];
  const cells = rows.map(({ name, engine, parts: own, health }): CellTally => {
    const tallies = sets.map(([set, chosen]) => [set, meanTally(own, chosen)] as const);
    return { method: name, engine, sets: new Map(tallies), health: health.take() };
  });
  const scoresOf = (part: Part): RunScores => {
    const score = (name: RewardName): number => mean(sets.map(([, chosen]) => mean(meanTally([part], chosen).scores[name])));
    return { source: part.where, em: score("em"), subem: score("subem"), f1: score("f1") };
  };
  return {
    cells,
    runs: rows.map((row) => row.parts.map(scoresOf)),
    questions: new Map(sets.map(([set, chosen]) => [set, chosen.length])),
    leftOut: keys.size - common.length,
  };
}

/** Of each question the mean over runs. */
function meanTally(parts: readonly Part[], keys: readonly string[]): SetTally {
  const of = (name: RewardName | "searches" | "valid" | "tokens"): number[] =>
    keys.map((key) => mean(parts.map(({ rows }) => rows.get(key)?.[name] ?? NaN)));
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const scores = Object.fromEntries(rewardNames.map((name) => [name, of(name)])) as Record<RewardName, number[]>;
  return { scores, n: keys.length, searches: sum(of("searches")), valid: sum(of("valid")), tokens: sum(of("tokens")) };
}

function nothingInCommon(parts: readonly Part[]): DataError {
  const first = ({ where, rows }: Part): string => `${where}: ${show([...rows.values()][0]?.question.question)}`;
  const other = parts.find(({ rows }) => ![...rows.keys()].some((key) => parts[0]?.rows.has(key) === true)) ?? parts.at(-1);
  return new DataError({
    where: "joined rows",
    what: "have no question in common",
    expected: parts[0] === undefined ? "rows" : first(parts[0]),
    got: other === undefined ? "none" : first(other),
    hint: "Only what was judged on the same questions can stand in one table.",
  });
}

/** @throws DataError where one id means two questions, or has two golden answers */
function checkSame(parts: readonly Part[], key: string): void {
  const text = (part: Part): string => {
    const kept = part.rows.get(key)?.question;
    return JSON.stringify([kept?.question, kept?.goldenAnswers]);
  };
  const [first, ...others] = parts;
  const other = first === undefined ? undefined : others.find((part) => text(part) !== text(first));
  if (first === undefined || other === undefined) return;
  throw new DataError({
    where: `${other.where}, question ${key}`,
    what: `is not the one of ${first.where}`,
    expected: text(first).slice(0, 120),
    got: text(other).slice(0, 120),
  });
}
