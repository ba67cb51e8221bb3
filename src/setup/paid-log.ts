/** Paid searches, a line each in a file, noted as they are answered: what a killed program paid for is paid, but for those that were under way. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { paidEngines } from "../search/prices.ts";
import { attempt } from "../util/errors.ts";

export const paidLog = "paid.log";

/** By engine; none where there is no file. */
export function readPaid(file: string): Readonly<Record<string, number>> {
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  return Object.fromEntries(paidEngines.map((name) => [name, lines.filter((line) => line === name).length]));
}

/** Where it cannot be written the other logs say so. */
export function notePaid(file: string, engine: string): void {
  attempt(() => {
    appendFileSync(file, `${engine}\n`);
  }, undefined);
}

/** Counts of engines, as their rows have them, with at least the requests that were noted. */
export function withPaid(counts: Readonly<Record<string, number>>, file: string): Record<string, number> {
  const all: Record<string, number> = { ...counts };
  for (const [name, count] of Object.entries(readPaid(file))) if (count > (all[`${name}_requests`] ?? 0)) all[`${name}_requests`] = count;
  return all;
}
