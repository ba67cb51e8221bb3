/** The table as a picture: scores by set, and the mean over sets with its interval. One SVG file that needs nothing else, for light and dark pages. */
import { rowTitle, scoreOf, scoreTitles, sortedSets, type GridReport, type ScoreRow } from "./grid-report.ts";

const line = 24;
const gap = 16;
/** Width of a letter, of the interval's panel. */
const letter = 7;
const panel = 260;

const style = `text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.dim{fill:#59636e}
.rule,.whisker{stroke:#59636e}.rule{stroke-opacity:.35}.whisker{stroke-width:2}.dot{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.dim{fill:#9198a1}.rule,.whisker{stroke:#9198a1}.dot{fill:#4493f8}}`;

export function gridSvg({ averages, rows, sets, metric, model }: GridReport): string {
  const several = sets.length > 1;
  const shown = sortedSets(sets).map((set) => ({ ...set, width: Math.max(52, letter * set.title.length + gap) }));
  const label = Math.max(...averages.map((row) => letter * rowTitle(row).length)) + gap;
  const starts = shown.map((_, i) => gap + label + shown.slice(0, i).reduce((sum, { width }) => sum + width, 0));
  const chart = gap + label + shown.reduce((sum, { width }) => sum + width, 0) + gap;
  const width = chart + panel + gap;
  const first = 3 * line + gap;
  const bottom = first + averages.length * line;
  const scale = scaleOf(averages.map((row) => scoreOf(row, metric)));
  const at = (value: number): number => chart + ((value - scale.from) / (scale.to - scale.from)) * panel;
  const text = (x: number, y: number, content: string, more = ""): string =>
    `<text x="${round(x)}" y="${round(y)}"${more}>${escape(content)}</text>`;
  const end = ' text-anchor="end"';
  const middle = ' text-anchor="middle"';
  const heads = shown.map(({ title, width: own }, i) =>
    text((starts[i] ?? 0) + own - gap / 2, first - line, title, `${end} class="title"`),
  );
  const groups = shown.flatMap(({ group }, i) =>
    group === null || group === shown[i - 1]?.group ? [] : [text((starts[i] ?? 0) + gap / 2, first - 2 * line + 4, group, ' class="dim"')],
  );
  const ticks = scale.ticks.flatMap((tick) => [
    `<line class="rule" x1="${round(at(tick))}" x2="${round(at(tick))}" y1="${first - line / 2}" y2="${bottom - line / 2}"/>`,
    text(at(tick), bottom + line / 2, (100 * tick).toFixed(0), `${middle} class="dim"`),
  ]);
  const body = averages.flatMap((row, r) => {
    const y = first + r * line;
    const { mean, low, high } = scoreOf(row, metric);
    const cells = shown.map(({ name, width: own }, i) =>
      text((starts[i] ?? 0) + own - gap / 2, y + 4, cellOf(rows, row, name, metric), end),
    );
    return [
      text(gap, y + 4, rowTitle(row)),
      ...cells,
      `<line class="whisker" x1="${round(at(low))}" x2="${round(at(high))}" y1="${y}" y2="${y}"/>`,
      `<circle class="dot" cx="${round(at(mean))}" cy="${y}" r="4"><title>${escape(`${rowTitle(row)}: ${percent(mean)} [${percent(low)} to ${percent(high)}]`)}</title></circle>`,
    ];
  });
  const height = bottom + line;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${round(width)} ${height}" width="${round(width)}" height="${height}" role="img">
<title>${escape(`${scoreTitles[metric]} of ${model}`)}</title>
<style>${style}</style>
${[
  text(gap, line, `${scoreTitles[metric]} of ${model}, in percent`, ' class="title"'),
  ...groups,
  ...heads,
  text(chart, first - line, several ? "mean over sets, with its 95 % interval" : "with its 95 % interval", ' class="dim"'),
  ...ticks,
  ...body,
].join("\n")}
</svg>
`;
}

function cellOf(rows: readonly ScoreRow[], { method, engine }: ScoreRow, set: string, metric: GridReport["metric"]): string {
  const found = rows.find((row) => row.method === method && row.engine === engine && row.dataset === set);
  return found === undefined ? "-" : percent(scoreOf(found, metric).mean);
}

/** Round limits around all intervals, and lines in between. */
function scaleOf(intervals: readonly { readonly low: number; readonly high: number }[]): { from: number; to: number; ticks: number[] } {
  const low = Math.min(...intervals.map((one) => one.low));
  const high = Math.max(...intervals.map((one) => one.high));
  const step = [0.01, 0.02, 0.05, 0.1, 0.2].find((one) => (high - low) / one <= 6) ?? 0.2;
  const from = Math.floor(low / step + 1e-9);
  const to = Math.max(from + 1, Math.ceil(high / step - 1e-9));
  return { from: from * step, to: to * step, ticks: Array.from({ length: to - from + 1 }, (_, i) => (from + i) * step) };
}

function percent(value: number): string {
  return (100 * value).toFixed(1);
}

function round(value: number): string {
  return String(Math.round(10 * value) / 10);
}

function escape(text: string): string {
  const names: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  // Control characters are no XML, escaped or not.
  return text.replaceAll(/[\x00-\x08\x0b\x0c\x0e-\x1f]/g, "").replaceAll(/[&<>"]/g, (one) => names[one] ?? one);
}
