/** The result of a run: rows of evaluation, their file, their table, and a word of warning when simulation and reality part ways. */
import { formatTable, type Column } from "./table.ts";

/** One method on one question set. Scores are means over all `n` questions, 0 to 1; f1Low and f1High bound the 95 % bootstrap interval. */
export interface EvaluationRow {
  /** The trained method is `zerosearch`. */
  readonly method: string;
  readonly model: string;
  readonly when: "before" | "after";
  readonly engine: string;
  readonly dataset: string;
  readonly n: number;
  readonly em: number;
  readonly subem: number;
  readonly f1: number;
  readonly f1Low: number;
  readonly f1High: number;
  /** Searches per question. */
  readonly searches: number;
  /** Share of rollouts with a well-formed answer and no invalid action. */
  readonly valid?: number;
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

export function evaluationTable(rows: readonly EvaluationRow[]): string {
  return formatTable(columns, rows);
}

/** The text of `evaluation.json`: an array of rows, one a line. */
export function evaluationJson(rows: readonly EvaluationRow[]): string {
  return `[\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n")}\n]\n`;
}

/** One validation of a run. */
export interface ValidationPoint {
  readonly step: number;
  /** Mean simulated reward of the training steps since the validation before. */
  readonly simulatedReward: number;
  /** The share of noise in these steps: the reward falls as it rises. */
  readonly noise: number;
  /** F1 on the validation questions with the real engine. */
  readonly realF1: number;
}

/**
 * Says where simulated reward and real-engine F1 parted ways: the real F1 ended more than `margin` below its best while the simulated
 * reward, counted per useful document set (over 1 - noise, since a noisy set can pay nothing), did not fall. Undefined where they did not.
 */
export function partingNote(points: readonly ValidationPoint[], margin = 0.03): string | undefined {
  const last = points.at(-1);
  const best = points.reduce<ValidationPoint | undefined>(
    (top, point) => (top === undefined || point.realF1 > top.realF1 ? point : top),
    undefined,
  );
  if (last === undefined || best === undefined || best === last) return undefined;
  const perUseful = (point: ValidationPoint) => point.simulatedReward / Math.max(0.05, 1 - point.noise);
  if (last.realF1 > best.realF1 - margin || perUseful(last) < perUseful(best)) return undefined;
  return (
    `Over-optimisation: since step ${best.step} F1 with the real engine fell from ${share(best.realF1)} to ${share(last.realF1)} while the reward ` +
    `from the simulator went from ${share(best.simulatedReward)} (noise ${share(best.noise)}) to ${share(last.simulatedReward)} (noise ${share(last.noise)}): ` +
    `the policy is learning the simulator. The best state, step ${best.step}, is kept.`
  );
}
