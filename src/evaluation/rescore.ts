/** Stored rollouts and judgements scored anew, beside the scores that they were stored with. Nothing is generated. */
import { formatTable, type Column } from "../log/table.ts";
import { bootstrapInterval, mean } from "../util/stats.ts";

/** One rollout's. */
export interface ScorePair {
  /** What it is counted with, in words: the columns of the table. */
  readonly group: Readonly<Record<string, string>>;
  /** As stored; null where nothing comparable is. */
  readonly stored: number | null;
  /** Null where it failed. */
  readonly scored: number | null;
}

/** Of one group. Means are over the rollouts that were scored. */
export interface RescoredRow {
  readonly group: Readonly<Record<string, string>>;
  readonly metric: string;
  readonly n: number;
  readonly failed: number;
  readonly mean: number | null;
  /** Its 95 % percentile bootstrap interval. */
  readonly low: number | null;
  readonly high: number | null;
  /** Mean of the stored scores, over those that have one. */
  readonly stored: number | null;
  /** Mean of the new score minus the stored one, over those that have both. */
  readonly difference: number | null;
  /** Rollouts whose two scores differ. */
  readonly changed: number;
}

export class Rescored {
  readonly #metric: string;
  readonly #groups = new Map<string, ScorePair[]>();

  constructor(metric: string) {
    this.#metric = metric;
  }

  add({ group, stored, scored }: ScorePair): void {
    const key = JSON.stringify(group);
    const own = this.#groups.get(key) ?? [];
    this.#groups.set(key, own);
    own.push({ group, stored, scored });
  }

  /** In the order in which groups came. */
  rows({ seed, samples }: { readonly seed: number; readonly samples: number }): RescoredRow[] {
    return [...this.#groups.values()].map((pairs) => {
      const scored = pairs.flatMap((one) => one.scored ?? []);
      const both = pairs.flatMap((one) => (one.stored === null || one.scored === null ? [] : [{ stored: one.stored, scored: one.scored }]));
      const interval = bootstrapInterval(scored, { seed, samples });
      const meanOf = (values: readonly number[]): number | null => (values.length === 0 ? null : mean(values));
      return {
        group: pairs[0]?.group ?? {},
        metric: this.#metric,
        n: pairs.length,
        failed: pairs.length - scored.length,
        mean: meanOf(scored),
        low: scored.length === 0 ? null : interval.low,
        high: scored.length === 0 ? null : interval.high,
        stored: meanOf(both.map((one) => one.stored)),
        difference: meanOf(both.map((one) => one.scored - one.stored)),
        changed: both.filter((one) => one.scored !== one.stored).length,
      };
    });
  }
}

/** One table; the columns of a group are those of its first row. */
export function rescoredText(rows: readonly RescoredRow[], storedTitle: string): string {
  const three = (value: number | null): string | null => (value === null ? null : value.toFixed(3));
  const groups = Object.keys(rows[0]?.group ?? {}).map((title): Column<RescoredRow> => ({ title, value: ({ group }) => group[title] }));
  const failed: Column<RescoredRow>[] = rows.some((row) => row.failed > 0) ? [{ title: "failed", value: (row) => row.failed }] : [];
  return formatTable<RescoredRow>(
    [
      ...groups,
      { title: "n", value: ({ n }) => n },
      ...failed,
      { title: rows[0]?.metric ?? "score", value: (row) => three(row.mean) },
      { title: "95 %", value: ({ low, high }) => (low === null || high === null ? null : `${low.toFixed(3)}-${high.toFixed(3)}`) },
      { title: storedTitle, value: ({ stored }) => three(stored) },
      {
        title: "difference",
        value: ({ difference }) => (difference === null ? null : `${difference > 0 ? "+" : ""}${difference.toFixed(3)}`),
      },
      { title: "changed", value: ({ changed, stored }) => (stored === null ? null : changed) },
    ],
    rows,
  );
}
