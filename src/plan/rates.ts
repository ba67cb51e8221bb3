/**
 * How fast devices have been measured to be: what `npm run bench -- --save-rates` writes, and a plan's estimate of a step's time reads.
 * Rates that came with the package are in bench/results/rates.json; a user's own come first.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { z } from "zod";
import { cacheHome } from "../util/cache-home.ts";
import { packageFolder } from "../config/index.ts";

const positive = z.number().positive();
const ratesSchema = z.object({
  /** Which device: the `rateKey` of a target. */
  device: z.string(),
  /** When, by which commit, with models of which sizes. */
  measured: z.string(),
  /** FLOP/s of a training step, recomputation not counted; of a prefill; of decode steps of many rows. */
  trainFlops: positive,
  prefillFlops: positive,
  decodeFlops: positive,
  /** Bytes of weights and cache per second in decode steps of one row. */
  decodeBytes: positive,
  /** Seconds of a decode step of one row that bytes do not explain, for each layer. */
  layerSeconds: z.number().min(0),
});
export type Rates = Readonly<z.infer<typeof ratesSchema>>;

/** The rates that users have measured themselves. */
export function userRatesFile(): string {
  return join(cacheHome(process.env, homedir()), "zerosearch", "rates.json");
}

const packagedRates = join(packageFolder, "bench", "results", "rates.json");

/** The rates of a device; null where nobody has measured it. */
export function findRates(device: string, files: readonly string[] = [userRatesFile(), packagedRates]): Rates | null {
  for (const file of files) {
    const found = readRates(file).find((rates) => rates.device === device);
    if (found !== undefined) return found;
  }
  return null;
}

/** Puts rates into a file, in place of those of the same device. */
export function saveRates(rates: Rates, file: string = userRatesFile()): void {
  const all = [...readRates(file).filter(({ device }) => device !== rates.device), rates];
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ rates: all }, null, 2)}\n`);
}

/** A file that is missing, or was damaged, holds none: rates can be measured again. */
function readRates(file: string): Rates[] {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return [];
  }
  const { rates } = (json ?? {}) as { readonly rates?: unknown };
  return Array.isArray(rates) ? rates.filter((row): row is Rates => ratesSchema.safeParse(row).success) : [];
}
