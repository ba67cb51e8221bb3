/** From benches of whole models to the rates by which `node train.js --dry-run` estimates the time of a step. */
import type { Rates } from "#inside/plan/rates.js";
import type { Bench, Measured, RateOf } from "./bench.js";
import { digits } from "./report.js";

/** A measured bench that has a rate. */
export interface Rated {
  readonly rate: RateOf;
  readonly name: string;
  /** Of one repetition. */
  readonly seconds: number;
  readonly flops: number;
  readonly bytes: number;
}

/** Its fastest round: what disturbs a machine only takes longer. Null where the bench tells nothing of a training run. */
export function ratedOf(bench: Bench, { fastest: seconds, work }: Measured): Rated | null {
  const { flops = 0, bytes = 0 } = work ?? bench.work ?? {};
  return bench.rate === undefined ? null : { rate: bench.rate, name: bench.name, seconds, flops, bytes };
}

/** The kinds of benches that are missing among `all`, by names; none where rates can be told. */
export function missingFor(all: readonly Rated[]): string[] {
  const kinds = ["train", "prefill", "decode"] as const;
  return kinds.filter((kind) => !all.some(({ rate }) => rate.kind === kind));
}

/**
 * Rates of a device: of the largest model and batch that were measured. A decode step of one row takes bytes / bandwidth, and so much for
 * each layer in any case: both from its largest and its smallest model.
 */
export function ratesOf(device: string, measured: string, all: readonly Rated[]): Rates {
  const most = (kind: RateOf["kind"], by: (one: Rated) => number): Rated =>
    all.filter(({ rate }) => rate.kind === kind).reduce((best, one) => (by(one) > by(best) ? one : best));
  const rate = (one: Rated): number => one.flops / one.seconds;
  const flops = ({ flops: value }: Rated): number => value;
  const steps = all.filter(({ rate }) => rate.kind === "decode").map(perStep);
  const single = steps.filter(({ rows }) => rows === 1).sort((a, b) => a.bytes - b.bytes);
  const { bandwidth, layerSeconds } = fit(single.length > 0 ? single : steps);
  const full = steps.reduce((best, one) => (one.flops > best.flops ? one : best));
  const decoding = Math.max(full.seconds / 2, full.seconds - full.layers * layerSeconds);
  return {
    device,
    measured,
    trainFlops: digits(rate(most("train", flops))),
    prefillFlops: digits(rate(most("prefill", flops))),
    decodeFlops: digits(full.flops / decoding),
    decodeBytes: digits(bandwidth),
    layerSeconds: digits(layerSeconds),
  };
}

interface Step {
  readonly seconds: number;
  readonly flops: number;
  readonly bytes: number;
  readonly layers: number;
  readonly rows: number;
}

function perStep({ rate: { steps = 1, rows = 1, layers }, seconds, flops, bytes }: Rated): Step {
  return { seconds: seconds / steps, flops: flops / steps, bytes: bytes / steps, layers, rows };
}

/** seconds = bytes / bandwidth + layers x layerSeconds, through the least and the most bytes. */
function fit(steps: readonly Step[]): { bandwidth: number; layerSeconds: number } {
  const [few, many] = [steps[0] as Step, steps.at(-1) as Step];
  const determinant = many.bytes * few.layers - few.bytes * many.layers;
  const perByte = (many.seconds * few.layers - few.seconds * many.layers) / determinant;
  const perLayer = (many.bytes * few.seconds - few.bytes * many.seconds) / determinant;
  if (perByte > 0 && perLayer >= 0 && Number.isFinite(perByte)) return { bandwidth: 1 / perByte, layerSeconds: perLayer };
  return { bandwidth: many.bytes / many.seconds, layerSeconds: 0 };
}
