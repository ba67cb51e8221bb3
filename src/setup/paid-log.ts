/** Paid searches, a line each in a file, noted as they are answered: what a killed program paid for is paid, but for those that were under way. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { paidEngines } from "../search/prices.ts";
import { attempt } from "../util/errors.ts";

export const paidLog = "paid.log";

/** Searches by engine; none where there is no file. Those that were given up while they were under way count where `givenUp` says so. */
export function readPaid(file: string, { givenUp }: { readonly givenUp: boolean }): Readonly<Record<string, number>> {
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  const counted = (name: string): number => lines.filter((line) => line === name || (givenUp && line === `${name}?`)).length;
  return Object.fromEntries(paidEngines.map((name) => [name, counted(name)]));
}

/** Where it cannot be written the other logs say so. */
export function notePaid(file: string, engine: string, { givenUp = false } = {}): void {
  attempt(() => {
    appendFileSync(file, `${engine}${givenUp ? "?" : ""}\n`);
  }, undefined);
}

/** Counts of engines, as their rows have them, with at least the answered requests that were noted. */
export function withPaid(counts: Readonly<Record<string, number>>, file: string): Record<string, number> {
  const all: Record<string, number> = { ...counts };
  for (const [name, count] of Object.entries(readPaid(file, { givenUp: false })))
    if (count > (all[`${name}_requests`] ?? 0)) all[`${name}_requests`] = count;
  return all;
}
