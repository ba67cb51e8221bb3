/** What an evaluation of methods, engines and sets found, as data: `evaluation.json`. Nothing in it is told by a clock: the same rows give the same file. */
import type { RewardName } from "../rl/reward.ts";
import type { Compared, Comparison, Estimates } from "./compare.ts";
import type { SetCoverage } from "./coverage.ts";
import type { Health } from "./health.ts";
import type { RunScores } from "./join.ts";
import type { When } from "./report.ts";
import type { CellTally } from "./tally.ts";

/** A set, as the report names it. */
export interface ReportedSet {
  readonly name: string;
  readonly title: string;
  readonly group: "single-hop" | "multi-hop" | null;
  readonly n: number;
  readonly source: string;
}

/** How an evaluation was made. */
export interface GridHead {
  readonly model: string;
  readonly when: When;
  readonly step: number | null;
  readonly seed: number;
  /** Of the bootstrap; sign patterns are five times as many. */
  readonly samples: number;
  /** The score of the table. */
  readonly metric: RewardName;
  /** The method that others are compared with. */
  readonly reference: string;
  readonly hotpotYesNo: boolean;
}

/** A row of one set, or of the mean over sets: the fields of a run's `evaluation.json`, and more. */
export interface ScoreRow {
  readonly method: string;
  readonly model: string;
  readonly when: When;
  readonly engine: string;
  /** "average" for the mean over sets. */
  readonly dataset: string;
  readonly n: number;
  readonly em: number;
  readonly emLow: number;
  readonly emHigh: number;
  readonly subem: number;
  readonly subemLow: number;
  readonly subemHigh: number;
  readonly f1: number;
  readonly f1Low: number;
  readonly f1High: number;
  readonly searches: number;
  readonly valid: number;
  readonly tokens: number;
  /** Of an average over several runs, what each of them scored. */
  readonly runs?: readonly RunScores[];
}

/** What rows of different evaluations say of themselves. */
export interface RowOrigin {
  readonly model: string;
  readonly when: When;
  readonly runs: readonly RunScores[];
}

export interface GridReport extends GridHead {
  readonly sets: readonly ReportedSet[];
  readonly rows: readonly ScoreRow[];
  readonly averages: readonly ScoreRow[];
  readonly comparisons: readonly Comparison[];
  readonly health: readonly (Health & { readonly method: string; readonly engine: string })[];
  /** Null where no engine searches `data.corpus`. */
  readonly coverage: readonly SetCoverage[] | null;
}

export const average = "average";

/** @param origins - by row, where rows are of different evaluations; all are as the head says unless given */
export function gridReport(
  head: GridHead,
  sets: readonly ReportedSet[],
  cells: readonly CellTally[],
  { rows, comparisons }: Compared,
  coverage: readonly SetCoverage[] | null,
  origins: readonly RowOrigin[] = [],
): GridReport {
  const scored = (
    method: string,
    engine: string,
    dataset: string,
    of: Estimates,
    { model, when }: Pick<GridHead, "model" | "when">,
  ): ScoreRow => {
    const { em, subem, f1, searches, valid, tokens, n } = of;
    return {
      ...{ method, model, when, engine, dataset, n },
      ...{ em: em.mean, emLow: em.low, emHigh: em.high },
      ...{ subem: subem.mean, subemLow: subem.low, subemHigh: subem.high },
      ...{ f1: f1.mean, f1Low: f1.low, f1High: f1.high },
      ...{ searches, valid, tokens },
    };
  };
  return {
    ...head,
    sets,
    rows: rows.flatMap(({ method, engine, sets: own }, r) =>
      [...own].map(([set, estimates]) => scored(method, engine, set, estimates, origins[r] ?? head)),
    ),
    averages: rows.map(({ method, engine, average: mean }, r) => {
      const { runs = [] } = origins[r] ?? {};
      return { ...scored(method, engine, average, mean, origins[r] ?? head), ...(runs.length > 1 ? { runs } : {}) };
    }),
    comparisons,
    health: cells.map(({ method, engine, health }) => ({ method, engine, ...health })),
    coverage,
  };
}

/** The text of the file: lists with one element a line. */
export function gridJson(report: GridReport): string {
  const lines = Object.entries(report).map(([key, value]: [string, unknown]) => {
    const list = Array.isArray(value) ? `[\n${value.map((one) => `    ${JSON.stringify(one)}`).join(",\n")}\n  ]` : JSON.stringify(value);
    return `  ${JSON.stringify(key)}: ${list}`;
  });
  return `{\n${lines.join(",\n")}\n}\n`;
}

/** What a score is called. */
export const scoreTitles: Readonly<Record<RewardName, string>> = { em: "EM", subem: "SubEM", f1: "F1" };

/** A score of a row with its interval. */
export function scoreOf(row: ScoreRow, score: RewardName): { readonly mean: number; readonly low: number; readonly high: number } {
  return { mean: row[score], low: row[`${score}Low`], high: row[`${score}High`] };
}

/** What a row is called where it stands alone. */
export function rowTitle({ method, engine }: { readonly method: string; readonly engine: string }): string {
  return engine === "none" ? method : `${method} with ${engine}`;
}

/** Single-hop sets first, then multi-hop ones, then one's own. */
export function sortedSets(sets: readonly ReportedSet[]): ReportedSet[] {
  const order = ["single-hop", "multi-hop", null];
  return [...sets].sort((a, b) => order.indexOf(a.group) - order.indexOf(b.group));
}
