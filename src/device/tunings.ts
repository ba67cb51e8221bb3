/**
 * Tunings that users have measured on their own devices (`zerosearch doctor --tune`), by adapter, driver, precision, tiers of kernels and version of
 * this package: on any other the measurement says nothing.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { dawn, loadWgsl } from "./dawn.ts";
import { measuredFile, readMeasured } from "./measured.ts";
import type { DeviceOptions } from "./options.ts";
import type { TuneOptions, TuningReport } from "./webgpu/tune-report.ts";
import { tuneWebGpuDevice } from "./webgpu/tune-webgpu.ts";
import { mostGroups, type Tuning, type TuningPlace } from "./webgpu/tuning.ts";

export type { Tuning, TuningReport };

const rowSchema = z.object({
  adapter: z.string(),
  driver: z.string(),
  precision: z.enum(["f32", "f16"]),
  kernels: z.string(),
  version: z.string(),
  tuning: z.object({
    measured: z.iso.date().optional(),
    groups: z.number().int().positive().max(mostGroups),
    plain: z.record(z.string(), z.string()),
    matrix: z.record(z.string(), z.string()),
  }),
});
type Row = z.infer<typeof rowSchema>;

// src/device/ and dist/device/ lie equally deep
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { readonly version: string };

export function tuningsFile(): string {
  return measuredFile("tunings.json");
}

/** What was measured on a place, by this version; null where nothing was. */
export function findTuning(place: TuningPlace, file: string = tuningsFile(), ours: string = version): Tuning | null {
  return readMeasured(file, "tunings", rowSchema).find((row) => row.version === ours && isAt(row, place))?.tuning ?? null;
}

/** All that this version may use on an adapter. */
export function tuningsOf({ name, driver }: { readonly name: string; readonly driver: string }, file: string = tuningsFile()): Row[] {
  return readMeasured(file, "tunings", rowSchema).filter((row) => row.version === version && row.adapter === name && row.driver === driver);
}

/** The text of the file with a tuning in it, in place of one of the same place. What other versions have measured is left out. */
export function withTuning(place: TuningPlace, tuning: Tuning, file: string = tuningsFile(), ours: string = version): string {
  const others = readMeasured(file, "tunings", rowSchema).filter((row) => row.version === ours && !isAt(row, place));
  return `${JSON.stringify({ tunings: [...others, { ...place, version: ours, tuning }] }, null, 2)}\n`;
}

/** Measures on a device of this machine. */
export async function tuneHere(options: DeviceOptions, how: TuneOptions): Promise<TuningReport> {
  const { gpu = await dawn(options), sources = await loadWgsl() } = options;
  return tuneWebGpuDevice({ ...options, gpu, sources }, how);
}

function isAt(row: Row, place: TuningPlace): boolean {
  return (["adapter", "driver", "precision", "kernels"] as const).every((key) => row[key] === place[key]);
}
