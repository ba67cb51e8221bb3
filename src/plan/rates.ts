/**
 * How fast devices have been measured to be: what `npm run bench -- --save-rates` writes, and a plan's estimate of a step's time reads.
 * Rates that came with the package are in bench/results/rates.json; a user's own come first.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { packageFolder } from "../config/index.ts";
import { measuredFile, readMeasured } from "../device/measured.ts";

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
  return measuredFile("rates.json");
}

const packagedRates = join(packageFolder, "bench", "results", "rates.json");

/** The rates of a device; null where nobody has measured it. */
export function findRates(device: string, files: readonly string[] = [userRatesFile(), packagedRates]): Rates | null {
  for (const file of files) {
    const found = readMeasured(file, "rates", ratesSchema).find((rates) => rates.device === device);
    if (found !== undefined) return found;
  }
  return null;
}

/** Puts rates into a file, in place of those of the same device. */
export function saveRates(rates: Rates, file: string = userRatesFile()): void {
  const all = [...readMeasured(file, "rates", ratesSchema).filter(({ device }) => device !== rates.device), rates];
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ rates: all }, null, 2)}\n`);
}
