/** The tables of an evaluation of methods, engines and sets: for a terminal, and as Markdown. */
import { formatTable, type Cell, type Column } from "../log/table.ts";
import { average, rowTitle, scoreOf, scoreTitles, sortedSets, type GridReport, type ReportedSet, type ScoreRow } from "./grid-report.ts";
import type { Comparison } from "./compare.ts";
import { counted } from "../util/plural.ts";
import { hotpotNote } from "./hotpot.ts";
import type { Health } from "./health.ts";

/** What a clock and prices say of a row; they are no part of the report. */
export interface RowCosts {
  readonly method: string;
  readonly engine: string;
  readonly questions: number;
  readonly seconds: number;
  /** What the questions cost together, by currency. */
  readonly cost: Readonly<Record<string, number>>;
}

/** One table, its cells written out. */
interface Part {
  readonly heading: string;
  /** Titles over several columns: for each column its own, or "". */
  readonly groups?: readonly string[];
  readonly titles: readonly string[];
  readonly cells: readonly (readonly Cell[])[];
  readonly notes: readonly string[];
}

interface PartOptions<Row> {
  readonly heading: string;
  readonly groups?: readonly string[];
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly notes?: readonly string[];
}

function part<Row>({ heading, groups, columns, rows, notes = [] }: PartOptions<Row>): Part {
  const cells = rows.map((row) => columns.map(({ value }) => value(row)));
  return { heading, ...(groups === undefined ? {} : { groups }), titles: columns.map(({ title }) => title), cells, notes };
}

/** For a terminal. */
export function gridText(report: GridReport, costs: readonly RowCosts[]): string {
  return `\n${partsOf(report, costs).map(plain).join("\n\n")}\n`;
}

/** The same as Markdown, without what a clock says. */
export function gridMarkdown(report: GridReport): string {
  return `# Evaluation of ${report.model}\n\n${partsOf(report, []).map(markdown).join("\n\n")}\n`;
}

function partsOf(report: GridReport, costs: readonly RowCosts[]): Part[] {
  return [
    tablePart(report),
    averagePart(report, costs),
    ...comparisonPart(report),
    healthPart(report),
    ...turnPart(report),
    ...coveragePart(report),
  ];
}

const column = <Row>(title: string, value: (row: Row) => Cell): Column<Row> => ({ title, value });
const percent = (value: number): string => (100 * value).toFixed(1);
const points = (value: number): string => {
  const text = (100 * value).toFixed(1);
  return /^-?0\.0$/.test(text) ? "0.0" : `${value > 0 ? "+" : ""}${text}`;
};
const sharePercent = (value: number | null): string | null => (value === null ? null : `${(100 * value).toFixed(1)} %`);
const between = (low: number, high: number, shown = percent): string => `${shown(low)} to ${shown(high)}`;

/** The paper's: methods down, sets across. */
function tablePart({ rows, averages, sets, metric, hotpotYesNo }: GridReport): Part {
  const several = sets.length > 1;
  const cell = (row: ScoreRow, set: string): string | null => {
    const found = rows.find(({ method, engine, dataset }) => method === row.method && engine === row.engine && dataset === set);
    return found === undefined ? null : percent(scoreOf(found, metric).mean);
  };
  const ofSet = (set: ReportedSet): Column<ScoreRow> =>
    column(`${set.title} (${set.n.toLocaleString("en-US")})`, (row) => cell(row, set.name));
  const shown = sortedSets(sets);
  const withInterval = (row: ScoreRow): string => between(scoreOf(row, metric).low, scoreOf(row, metric).high);
  const columns: readonly Column<ScoreRow>[] = [
    column("method", ({ method }) => method),
    column("engine", ({ engine }) => engine),
    ...shown.map(ofSet),
    ...(several ? [column<ScoreRow>(average, (row) => percent(scoreOf(row, metric).mean))] : []),
    column("95 %", withInterval),
  ];
  const groups = ["", "", ...shown.map(({ group }) => group ?? "other"), ...(several ? ["mean over sets", "mean over sets"] : [""])];
  const official = hotpotYesNo && metric === "f1" ? [hotpotNote] : [];
  const grouped = shown.some(({ group }) => group !== null);
  return part({ heading: `${scoreTitles[metric]}, in percent`, ...(grouped ? { groups } : {}), columns, rows: averages, notes: official });
}

/** All three scores, and what they took. */
function averagePart({ averages, sets, metric, hotpotYesNo }: GridReport, costs: readonly RowCosts[]): Part {
  const scored = (score: "em" | "subem" | "f1"): Column<ScoreRow> =>
    column(scoreTitles[score], (row) => {
      const { mean, low, high } = scoreOf(row, score);
      return `${percent(mean)} [${between(low, high)}]`;
    });
  const costsOf = ({ method, engine }: ScoreRow): RowCosts | undefined =>
    costs.find((one) => one.method === method && one.engine === engine && one.questions > 0);
  const timed: Column<ScoreRow>[] =
    costs.length === 0
      ? []
      : [
          column("s/question", (row) => {
            const own = costsOf(row);
            return own === undefined ? null : (own.seconds / own.questions).toPrecision(3);
          }),
          column("cost/question", (row) => costText(costsOf(row))),
        ];
  const eachRun = ({ runs }: ScoreRow): string | null => runs?.map((one) => percent(one[metric])).join(", ") ?? null;
  const columns: readonly Column<ScoreRow>[] = [
    column("method", ({ method }) => method),
    column("engine", ({ engine }) => engine),
    column("n", ({ n }) => n),
    scored("em"),
    scored("subem"),
    scored("f1"),
    ...(averages.some(({ runs }) => runs !== undefined) ? [column(`${scoreTitles[metric]} of each run`, eachRun)] : []),
    column("searches", ({ searches }) => searches.toFixed(2)),
    column("valid", ({ valid }) => sharePercent(valid)),
    column("tokens", ({ tokens }) => tokens.toFixed(1)),
    ...timed,
  ];
  const heading = `${sets.length > 1 ? "Means over the sets, each weighing alike, with" : "With"} 95 % intervals (bootstrap), in percent`;
  const official = hotpotYesNo ? [hotpotNote] : [];
  const several = averages.some(({ runs }) => runs !== undefined);
  const ofRuns = several
    ? [`Rows with several runs have each question's mean over them; intervals are of the questions, not of the runs.`]
    : [];
  return part({ heading, columns, rows: averages, notes: [...official, ...ofRuns] });
}

function costText(costs: RowCosts | undefined): string | null {
  const sums = Object.entries(costs?.cost ?? {}).filter(([, value]) => value > 0);
  return costs === undefined || sums.length === 0
    ? null
    : sums.map(([currency, value]) => `${(value / costs.questions).toPrecision(3)} ${currency}`).join(" + ");
}

function comparisonPart({ comparisons, metric, samples }: GridReport): Part[] {
  const shown = comparisons.filter(({ score }) => score === metric);
  if (shown.length === 0) return [];
  const probability = (p: number): string => (p < 0.001 ? p.toExponential(1) : p.toFixed(3));
  return [
    part<Comparison>({
      heading: `Paired differences of ${scoreTitles[metric]}, in points`,
      columns: [
        column("row", ({ row }) => rowTitle(row)),
        column("minus", ({ than }) => rowTitle(than)),
        column("n", ({ n }) => n),
        column("difference", ({ difference }) => points(difference)),
        column("95 %", ({ low, high }) => between(low, high, points)),
        column("p", ({ p }) => probability(p)),
        column("p (Holm)", ({ pHolm }) => probability(pHolm)),
      ],
      rows: shown,
      notes: [
        `Intervals: bootstrap of the same questions, within sets. p: paired sign-flip permutation test, two-sided (all patterns, or ${(5 * samples).toLocaleString("en-US")} of them); Holm: over ${counted(shown.length, "comparison")}.`,
      ],
    }),
  ];
}

type HealthRow = GridReport["health"][number];

function healthPart({ health }: GridReport): Part {
  const share = (title: string, of: (row: Health) => number | null): Column<HealthRow> => column(title, (row) => sharePercent(of(row)));
  return part<HealthRow>({
    heading: "How the agent searches (docs/evaluation.md)",
    columns: [
      column("method", ({ method }) => method),
      column("engine", ({ engine }) => engine),
      share("repeated queries", ({ repeated }) => repeated),
      share("question as query", ({ copied }) => copied),
      share("invalid turns", ({ invalid }) => invalid),
      share("cut turns", ({ truncatedTurns }) => truncatedTurns),
      share("out of room", ({ truncated }) => truncated),
      share("after enough", ({ afterEnough }) => afterEnough),
      share("answer in no document", ({ unsupported }) => unsupported),
    ],
    rows: health,
  });
}

/** By the place of a search in its rollout, where a method searches more than once. */
function turnPart({ health }: GridReport): Part[] {
  const rows = health
    .filter(({ bySearch }) => bySearch.length > 1)
    .flatMap(({ method, engine, bySearch }) => bySearch.map((one) => ({ method, engine, ...one })));
  if (rows.length === 0) return [];
  type Row = (typeof rows)[number];
  return [
    part<Row>({
      heading: "Search by search",
      columns: [
        column("method", ({ method }) => method),
        column("engine", ({ engine }) => engine),
        column("search", ({ search }) => search),
        column("n", ({ n }) => n),
        column("found a golden answer", ({ gold }) => sharePercent(gold)),
        column("repeated", ({ repeated }) => sharePercent(repeated)),
        column("question as query", ({ copied }) => sharePercent(copied)),
        column("after enough", ({ afterEnough }) => sharePercent(afterEnough)),
      ],
      rows,
    }),
  ];
}

function coveragePart({ coverage, sets }: GridReport): Part[] {
  if (coverage === null) return [];
  type Row = (typeof coverage)[number];
  return [
    part<Row>({
      heading: "Questions whose golden answers stand in no passage of data.corpus",
      columns: [
        column("set", ({ set }) => sets.find(({ name }) => name === set)?.title ?? set),
        column("n", ({ n }) => n),
        column("not in the corpus", ({ missing }) => missing),
        column("share", ({ missing, n }) => sharePercent(missing / n)),
      ],
      rows: coverage,
    }),
  ];
}

function plain({ heading, groups, titles, cells, notes }: Part): string {
  const columns = titles.map((title, c): Column<readonly Cell[]> => ({ title, value: (row) => row[c] }));
  const table = formatTable(columns, cells);
  return [heading, ...(groups === undefined ? [] : [groupLine(table, groups)]), table, ...notes].join("\n");
}

/** The titles of groups over the columns of a table, whose second line shows where these are. */
function groupLine(table: string, groups: readonly string[]): string {
  const rules = [...(table.split("\n")[1] ?? "").matchAll(/─+/g)];
  let line = "";
  rules.forEach(({ index }, c) => {
    const title = groups[c] ?? "";
    if (title !== "" && title !== groups[c - 1]) line = (line === "" ? line : `${line} `).padEnd(index) + title;
  });
  return line;
}

/** Names are text: nothing in them is markup, and a line break would end the row. */
function escaped(text: string): string {
  return text
    .replaceAll(/[\x00-\x1f\x7f]+/g, " ")
    .trim()
    .replaceAll(/[\\|*_<>`]/g, "\\$&");
}

function markdown({ heading, titles, cells, notes }: Part): string {
  const line = (texts: readonly string[]): string => `| ${texts.map(escaped).join(" | ")} |`;
  const lines = [
    line(titles),
    line(titles.map((_, c) => (c < 2 ? "---" : "---:"))),
    ...cells.map((row) => line(row.map((cell) => String(cell ?? "-")))),
  ];
  return [`## ${heading}`, "", ...lines, ...notes.flatMap((note) => ["", note])].join("\n");
}
