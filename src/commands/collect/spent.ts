/** What a collection has cost: a row for each time that a stage was worked on. */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { paidLog, withPaid } from "../../setup/paid-log.ts";
import { readWholeRows } from "../../simulator/rows.ts";

const file = "costs.jsonl";

export interface WorkRow {
  readonly seconds: number;
  readonly counts: Readonly<Record<string, number>>;
}

export function noteWork(work: string, row: WorkRow): void {
  appendFileSync(join(work, file), `${JSON.stringify(row)}\n`);
}

/** Of all that was ever worked on it. */
export function spentOn(work: string): WorkRow {
  const rows = readWholeRows<WorkRow>(join(work, file));
  const counts: Record<string, number> = {};
  for (const row of rows) for (const [name, count] of Object.entries(row.counts)) counts[name] = (counts[name] ?? 0) + count;
  return { seconds: rows.reduce((sum, { seconds }) => sum + seconds, 0), counts: withPaid(counts, join(work, paidLog)) };
}
