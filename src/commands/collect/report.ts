/** What a collection holds and what it cost: `report.json` in its folder, and a table. */
import type { Config } from "../../config/index.ts";
import { formatCount, formatDuration } from "../../log/progress.ts";
import { formatTable } from "../../log/table.ts";
import { costLines, costTable } from "../../run/costs.ts";
import type { PricedLine } from "../../run/priced-line.ts";
import type { CollectedRollout } from "../../simulator/collected.ts";
import type { ExampleCounts, Examples } from "../../simulator/examples.ts";
import { mean } from "../../util/stats.ts";
import { spentOn } from "./spent.ts";

export interface CollectionReport extends ExampleCounts {
  readonly rollouts: number;
  /** Share of rollouts that answered right, 0 to 1. */
  readonly rightAnswers: number;
  readonly train: number;
  readonly validation: number;
  /** Seconds of all programs that worked on it. */
  readonly seconds: number;
  /** Of the engine, the policy's endpoint and the judge's, as they count themselves. */
  readonly counts: Readonly<Record<string, number>>;
  /** What it cost: lines of a table, which a run repeats whose cost.collection names the report. */
  readonly cost: readonly PricedLine[];
}

export function collectionReport(
  config: Config,
  { rollouts, examples, work }: { readonly rollouts: readonly CollectedRollout[]; readonly examples: Examples; readonly work: string },
): CollectionReport {
  const { seconds, counts } = spentOn(work);
  return {
    rollouts: rollouts.length,
    rightAnswers: mean(rollouts.map(({ f1 }) => (f1 === 1 ? 1 : 0))),
    train: examples.train.length,
    validation: examples.validation.length,
    ...examples.counts,
    seconds,
    counts,
    cost: costLines(config, { seconds, counts }),
  };
}

export function reportText(report: CollectionReport): string {
  const { documents, searches } = report;
  const percent = (part: number, whole: number): string => (whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`);
  const rows: (readonly [string, string | null])[] = [
    [
      "rollouts",
      `${formatCount(report.rollouts)}${report.rightAnswers === 0 ? "" : `, ${percent(report.rightAnswers, 1)} of them answered right`}`,
    ],
    ["searches", formatCount(searches)],
    ["  that failed", report.failed === 0 ? null : formatCount(report.failed)],
    ["  asked before for the same question", report.repeated === 0 ? null : formatCount(report.repeated)],
    ["documents judged", `${formatCount(documents)}, ${percent(report.usefulDocuments, documents)} of them useful`],
    ["  of which the judge said nothing", report.unjudged === 0 ? null : formatCount(report.unjudged)],
    ["useful sets", formatCount(report.useful)],
    ["noisy sets", formatCount(report.noisy)],
    ["sets left out as too short", report.short === 0 ? null : formatCount(report.short)],
    ["documents left out that give the answer away", report.leaks === 0 ? null : formatCount(report.leaks)],
    ["time", formatDuration(report.seconds)],
  ];
  const shown = rows.filter(([, value]) => value !== null);
  const held = formatTable(
    [
      { title: "collected", value: ([name]: (typeof rows)[number]) => name },
      { title: "", value: ([, value]: (typeof rows)[number]) => value },
    ],
    shown,
  );
  const table = report.cost.length === 0 ? held : `${held}\n\n${costTable(report.cost)}`;
  const { useful, noisy } = report;
  const [least, most] = [Math.min(useful, noisy), Math.max(useful, noisy)];
  if (least >= most / 4) return table;
  const few = useful < noisy ? "useful" : "noisy";
  return `${table}\nwarning: ${few} sets are few; collect.sets=sorted makes both kinds of a search, and more documents of each search fill more noisy sets`;
}
