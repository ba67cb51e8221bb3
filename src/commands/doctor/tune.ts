/** `zerosearch doctor --tune`: measures tiles of matrix products on a GPU, and keeps what is fast for the next start. */
import { writeFileAtomic } from "../../checkpoint/atomic.ts";
import type { DeviceOptions } from "../../device/options.ts";
import { findTuning, tuneHere, tuningsFile, withTuning, type Tuning, type TuningReport } from "../../device/tunings.ts";
import { Progress, type TextStream } from "../../log/progress.ts";
import { formatTable } from "../../log/table.ts";
import { FileError } from "../../util/errors.ts";
import { counted } from "../../util/plural.ts";

export type Precision = "f32" | "f16";

export interface TuneWish extends Pick<DeviceOptions, "adapter" | "backend" | "selfTest"> {
  readonly precisions: readonly Precision[];
  /** For all of them. */
  readonly seconds: number;
  readonly json: boolean;
  readonly signal: AbortSignal;
  /** Precisions of which the table has been written, for whoever stops it. */
  readonly kept: Precision[];
}

/** Exit code 1 where nothing could be measured or kept; what was measured is printed all the same. */
export async function tune({ adapter, backend, selfTest, precisions, seconds, json, signal, kept }: TuneWish): Promise<void> {
  const file = tuningsFile();
  const reports: (TuningReport & { readonly kept: boolean })[] = [];
  const problems: string[] = [];
  for (const precision of precisions) {
    const stream: TextStream = json ? process.stderr : process.stdout;
    let progress: Progress | null = null;
    stream.write(`${precision}: the device is opened and tests itself; a first start compiles for a while\n`);
    const report = await tuneHere(
      { device: "webgpu", adapter, backend, selfTest, precision },
      {
        seconds: seconds / precisions.length,
        signal,
        onProgress: (done, total, what) => {
          progress ??= new Progress({ label: `tuning ${precision}`, total, unit: "variants", plainInterval: 5000, stream });
          progress.update(done, { product: what });
        },
      },
    ).finally(() => progress?.finish());
    const problem = report.products.length === 0 ? `nothing could be measured in so short a time` : await keep(report, file);
    if (problem === null) kept.push(precision);
    if (problem !== null) problems.push(`${precision}: ${problem}`);
    reports.push({ ...report, kept: problem === null });
    if (!json) process.stdout.write(`${reportText(report, precision)}\n`);
  }
  if (problems.length > 0) process.exitCode = 1;
  if (json) process.stdout.write(`${JSON.stringify({ file, reports, problems }, null, 2)}\n`);
  else if (problems.length > 0) process.stdout.write(`not kept: ${problems.join("; ")}\n`);
  else process.stdout.write(`kept in ${file}, which every start on this adapter reads; device.tuning=off leaves it unread\n`);
}

/** Why it could not be kept; null where it was. What there was no time to decide stays as it was kept before. */
export async function keep({ place, tuning, undecided, decided }: TuningReport, file: string): Promise<string | null> {
  if (!decided)
    return `too little could be measured to choose anything${findTuning(place, file) === null ? "" : "; what was kept before stays"}`;
  const measured = new Date().toISOString().slice(0, 10);
  try {
    await writeFileAtomic(file, withTuning(place, { ...undecidedAs(findTuning(place, file), tuning, undecided), measured }, file));
    return null;
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    return `${file}: ${error.complaint.what}`;
  }
}

/** The tuning with what was kept before in place of what was not decided. */
export function undecidedAs(before: Tuning | null, tuning: Tuning, undecided: readonly string[]): Tuning {
  if (before === null) return tuning;
  const old = (tiles: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(tiles).filter(([rows]) => undecided.includes(rows)));
  return {
    ...tuning,
    groups: undecided.includes("groups") ? before.groups : tuning.groups,
    plain: { ...old(before.plain), ...tuning.plain },
    matrix: { ...old(before.matrix), ...tuning.matrix },
  };
}

/** A table of the products, what was chosen, and what is to be known of it. */
export function reportText(report: TuningReport, precision: Precision): string {
  const { tuning, products, faults, left, software, device } = report;
  const milliseconds = (seconds: number): string => (1000 * seconds).toPrecision(3);
  const table = formatTable(
    [
      { title: "product", value: ({ name }) => name },
      { title: "rule", value: ({ rule }) => rule },
      { title: "ms", value: ({ ruleSeconds }) => milliseconds(ruleSeconds) },
      { title: "tuned", value: ({ rule, tuned }) => (tuned === rule ? "as the rule" : tuned) },
      { title: "ms", value: ({ tunedSeconds }) => milliseconds(tunedSeconds) },
      { title: "faster", value: ({ ruleSeconds, tunedSeconds }) => `${Math.round(100 * (ruleSeconds / tunedSeconds - 1))} %` },
      { title: "bits", value: ({ same, variants }) => `${same ? "same" : "DIFFER"}, ${counted(variants, "variant")}` },
    ],
    products,
  );
  const tiles = Object.entries({ ...tuning.plain, ...tuning.matrix }).map(([rows, tile]) => `${rows} ${tile}`);
  return [
    device,
    ...(software ? ["This is a software adapter: products are made smaller for it, and its times say nothing of a GPU."] : []),
    table,
    `${precision}: products are cut for ${tuning.groups} workgroups; tiles: ${tiles.join(", ") || "those of the rule"}`,
    ...faults.map((fault) => `FAULT, not taken: ${fault}: a fault of the driver or of zerosearch: please report it`),
    ...(report.undecided.length === 0 ? [] : [`too little was measured to decide: ${report.undecided.join(", ")}`]),
    ...(left === 0 ? [] : [`${counted(left, "measurement")} left out for want of time; --seconds gives more`]),
  ].join("\n");
}
