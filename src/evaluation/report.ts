/** What an evaluation found: its rows, their file, their tables. */
import { formatTable, type Column } from "../log/table.ts";
import { scoreAnswer, type ScoreRules } from "../rl/reward.ts";
import type { Question } from "../rl/trajectory.ts";
import { mean } from "../util/stats.ts";
import type { EvaluationSummary } from "./evaluate.ts";
import type { RobustnessSummary } from "./robustness.ts";

/** One method with one engine on one question set. Its fields besides `valid` are those of `evaluation.json`. */
export interface EvaluationRow extends Omit<EvaluationSummary, "valid">, Partial<Pick<EvaluationSummary, "valid">> {
  /** The trained method is `zerosearch`. */
  readonly method: string;
  readonly model: string;
  /** Training. */
  readonly when: When;
  readonly engine: string;
  readonly dataset: string;
}

export type When = "before" | "after";

/** Rows, and what is shown beside them. */
export interface Evaluation {
  readonly rows: readonly EvaluationRow[];
  readonly byHops: readonly HopsRow[];
  readonly robustness: readonly RobustnessSummary[];
}

export interface HopsRow {
  readonly hops: number;
  readonly n: number;
  readonly f1: number;
  readonly searches: number;
  /** Share of questions with at least as many searches as hops. */
  readonly enough: number;
}

const share = (value: number) => value.toFixed(3);

const columns: readonly Column<EvaluationRow>[] = [
  { title: "method", value: (row) => row.method },
  { title: "when", value: (row) => row.when },
  { title: "questions", value: (row) => row.dataset },
  { title: "n", value: (row) => row.n },
  { title: "engine", value: (row) => row.engine },
  { title: "EM", value: (row) => share(row.em) },
  { title: "SubEM", value: (row) => share(row.subem) },
  { title: "F1", value: (row) => share(row.f1) },
  { title: "95 %", value: (row) => `${share(row.f1Low)}-${share(row.f1High)}` },
  { title: "searches", value: (row) => row.searches.toFixed(2) },
  { title: "valid", value: (row) => (row.valid === undefined ? null : share(row.valid)) },
];

/** Rows with the fields of `evaluation.json`. */
export function documentedRows(rows: readonly EvaluationRow[]): EvaluationRow[] {
  return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => key !== "valid")) as unknown as EvaluationRow);
}

/** The text of `evaluation.json`: an array of rows with the documented fields, one a line. */
export function evaluationJson(rows: readonly EvaluationRow[]): string {
  return `[\n${documentedRows(rows)
    .map((row) => `  ${JSON.stringify(row)}`)
    .join(",\n")}\n]\n`;
}

/** All tables of one or more evaluations of the same questions. */
export function evaluationText(evaluations: readonly Evaluation[], questions: readonly Question[], rules?: ScoreRules): string {
  // When an evaluation was made is said by its rows.
  const dated = <Row extends object>(of: (one: Evaluation) => readonly Row[]): (Row & { readonly when: string })[] =>
    evaluations.flatMap((one) => of(one).map((row) => ({ when: one.rows[0]?.when ?? "", ...row })));
  const table = <Row>(titles: readonly Column<Row>[], of: readonly Row[]): string[] => (of.length === 0 ? [] : [formatTable(titles, of)]);
  const tables = [
    formatTable(
      columns,
      evaluations.flatMap(({ rows }) => rows),
    ),
    ...table(
      hopsColumns,
      dated(({ byHops }) => byHops),
    ),
    ...table(
      robustnessColumns,
      dated(({ robustness }) => robustness),
    ),
    ...guessing(questions, rules),
  ];
  return `\n${tables.join("\n\n")}`;
}

const percent = (value: number): string => (Number.isNaN(value) ? "-" : `${(100 * value).toFixed(0)} %`);

const hopsColumns: readonly Column<HopsRow & { readonly when: string }>[] = [
  { title: "hops", value: (row) => row.hops },
  { title: "when", value: (row) => row.when },
  { title: "n", value: (row) => row.n },
  { title: "F1", value: (row) => share(row.f1) },
  { title: "searches", value: (row) => row.searches.toFixed(2) },
  { title: "as many searches as hops", value: (row) => percent(row.enough) },
];

const robustnessColumns: readonly Column<RobustnessSummary & { readonly when: string }>[] = [
  { title: "first documents hold", value: (row) => row.first },
  { title: "when", value: (row) => row.when },
  { title: "n", value: (row) => row.n },
  { title: "searched again", value: (row) => percent(row.again) },
  { title: "F1", value: (row) => (Number.isNaN(row.f1) ? null : share(row.f1)) },
];

/** What always giving a relation's commonest answer would score, where the questions say their relation. */
function guessing(questions: readonly Question[], rules: ScoreRules | undefined): string[] {
  const relationOf = ({ metadata }: Question): unknown => metadata?.["relation"];
  if (questions.length === 0 || questions.some((question) => typeof relationOf(question) !== "string")) return [];
  const f1 = [...new Set(questions.map(relationOf))].flatMap((relation) => {
    const asked = questions.filter((question) => relationOf(question) === relation);
    const counts = new Map<string, number>();
    for (const { goldenAnswers } of asked) for (const answer of new Set(goldenAnswers)) counts.set(answer, (counts.get(answer) ?? 0) + 1);
    const [commonest] = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), ["", 0]);
    return asked.map(({ goldenAnswers }) => scoreAnswer(commonest, goldenAnswers, rules).f1);
  });
  return [`Always giving a relation's commonest answer would score F1 ${mean(f1).toFixed(3)}.`];
}
