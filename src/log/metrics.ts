/**
 * The metrics of a run: one flat row a step in `metrics.jsonl`. Keys are `room/name`. What a clock or the system measured is under
 * `time/`, at the end of the row: two runs with one seed agree in everything else, bit for bit.
 */
import { JsonLines } from "./json-lines.ts";

export interface MetricRow {
  readonly step: number;
  readonly [key: string]: number | string;
}

const TIME = "time/";

export class MetricsLog {
  readonly #lines: JsonLines<MetricRow>;

  /** @throws FileError when the file cannot be written. */
  constructor(file: string) {
    this.#lines = new JsonLines(file);
  }

  get bytes(): number {
    return this.#lines.bytes;
  }

  /** `times`: keys without the prefix; seconds unless the key says otherwise. */
  append(step: number, values: Readonly<Record<string, number | string>>, times: Readonly<Record<string, number>> = {}): void {
    const timeEntries = Object.entries(times).map(([key, value]) => [TIME + key, value] as const);
    this.#lines.append([{ step, ...values, ...Object.fromEntries(timeEntries) }]);
  }

  sync(): void {
    this.#lines.sync();
  }

  close(): void {
    this.#lines.close();
  }
}

/** A row without what a clock measured: what two runs with one seed must agree in. */
export function withoutTimes(row: MetricRow): MetricRow {
  return Object.fromEntries(Object.entries(row).filter(([key]) => !key.startsWith(TIME))) as unknown as MetricRow;
}
