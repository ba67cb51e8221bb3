/** A simulator's report for people: a table, and the same as Markdown. */
import { formatTable, type Column } from "../log/table.ts";
import type { Gap } from "./gap.ts";
import type { SetRow } from "./report.ts";
import { counted } from "../util/plural.ts";

/** What is shown. */
export interface ShownReport {
  readonly simulator: string;
  readonly engine: string | null;
  readonly rows: readonly SetRow[];
  readonly setsPerSecond: number;
  readonly tokensPerSecond: number | null;
  readonly gap: Gap | null;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const orNone = (value: number | null, text: (value: number) => string): string | null => (value === null ? null : text(value));

function columns(engine: string | null): Column<SetRow>[] {
  const names = { useful: "useful", noisy: "noisy", sloppy: "useful, asked for something else", real: engine ?? "real" };
  return [
    { title: "sets", value: ({ set }) => names[set] },
    { title: "n", value: ({ n }) => n },
    { title: "hold the answer", value: ({ holdsAnswer }) => percent(holdsAnswer) },
    { title: "95 %", value: ({ low, high }) => `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}` },
    { title: "well formed", value: ({ wellFormed }) => percent(wellFormed) },
    { title: "words a document", value: ({ words }) => words.toFixed(1) },
    { title: "distinct-1", value: ({ distinct1 }) => distinct1.toFixed(3) },
    { title: "distinct-2", value: ({ distinct2 }) => distinct2.toFixed(3) },
    ...(engine === null
      ? []
      : [
          { title: `as ${engine}`, value: ({ agreement }: SetRow) => orNone(agreement, percent) },
          { title: "shared words", value: ({ overlap }: SetRow) => orNone(overlap, (value) => value.toFixed(3)) },
        ]),
  ];
}

function speed({ setsPerSecond, tokensPerSecond }: ShownReport): string {
  const tokens = tokensPerSecond === null ? "" : `, ${Math.round(tokensPerSecond).toLocaleString("en-US")} tokens/s`;
  return `${setsPerSecond.toPrecision(3)} sets/s${tokens}, all under way at once.`;
}

export function reportTable(report: ShownReport): string {
  return `${formatTable(columns(report.engine), report.rows)}\n${speed(report)}`;
}

export function gapText({ n, uselessShare, real, simulated, difference, interval }: Gap, engine: string): string {
  const points = (value: number): string => `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)}`;
  return `${counted(n, "question")}, greedy: F1 ${real.toFixed(3)} with ${engine}, ${simulated.toFixed(3)} with the simulator at noise ${uselessShare.toFixed(3)} (the share of useless first sets of ${engine}): ${points(difference)} points (95 %: ${points(interval.low)} to ${points(interval.high)}).`;
}

export function reportMarkdown(report: ShownReport): string {
  const shown = columns(report.engine);
  const row = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const table = [
    row(shown.map(({ title }) => title)),
    row(shown.map((_, i) => (i === 0 ? "---" : "---:"))),
    ...report.rows.map((one) => row(shown.map(({ value }) => String(value(one) ?? "-")))),
  ];
  const gap = report.gap === null ? [] : ["", gapText(report.gap, report.engine ?? "")];
  return [`Simulator: ${report.simulator}`, "", ...table, "", speed(report), ...gap, ""].join("\n");
}
